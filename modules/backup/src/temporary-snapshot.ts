/** What a backup must know of a project's files beside their contents, and what it cannot keep. */
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseInput, type Exec } from '@rookery/core';
import { DisplayName, ProjectId, ProjectSpec } from '@rookery/core/contract';
import { z } from 'zod';
import type { BackupFolders } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import type { HoledFile, HolesPlan } from './sparse-files.js';

/** Sparse files beyond this number are restored dense. */
const sparseFilesMax = 10_000;
/** More than anybody has, and what fits in memory. */
const holedFilesMax = 200_000;
const tooMany = { files: `more than ${holedFilesMax}`, holes: 'many bytes', filesMax: 10_000 };
const sparseBytesMin = 64 * 1024;
const aboutFile = 'about.json';

/** Lies in every backup beside the project: enough to restore it without any other books. */
export const AboutBackup = z.object({
  /** 2: with archives, which older releases do not know. */
  version: z.union([z.literal(1), z.literal(2)]),
  projectId: ProjectId,
  spec: ProjectSpec,
  name: DisplayName.optional(),
  bytes: z.int().min(0),
  files: z.int().min(0),
  /** Files with holes, `<folder>/<path>` as base64, because restic 0.14 writes holes as zeros. */
  sparse: z.array(z.base64()).max(sparseFilesMax),
  /** Files that lie in the archive `sparse/<folder>.tar` of the backup: paths as base64. */
  archived: z.record(z.string(), z.array(z.base64())).optional(),
});
export type AboutBackup = z.infer<typeof AboutBackup>;

export interface Survey {
  /** Of data: holes are not counted. */
  readonly bytes: number;
  readonly files: number;
  readonly holed: readonly HoledFile[];
}

/** Counts files and bytes and finds files with holes. */
export async function survey(
  exec: Exec,
  folders: BackupFolders,
  signal?: AbortSignal,
): Promise<Survey> {
  let bytes = 0;
  let files = 0;
  const holed: HoledFile[] = [];
  for (const [name, folder] of Object.entries(folders)) {
    const child = exec.spawn(
      ['find', folder, '-type', 'f', '-printf', '%s %b %P\\0'],
      signal ? { signal } : {},
    );
    child.stdin.end();
    let rest: Buffer = Buffer.alloc(0);
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
      rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
      let from = 0;
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0, from)) {
        const [, size, blocks, path = ''] =
          /^(\d+) (\d+) ([^]*)$/.exec(rest.toString('latin1', from, end)) ?? [];
        from = end + 1;
        files += 1;
        const [whole, allocated] = [Number(size), Number(blocks) * 512];
        const hasHoles = whole >= sparseBytesMin && allocated + 4096 <= whole;
        const dataBytes = hasHoles ? allocated : whole;
        bytes += dataBytes;
        if (!hasHoles) continue;
        if (holed.length >= holedFilesMax) throw BackupErrors.BACKUP_HOLES_TOO_MANY(tooMany);
        holed.push({ folder: name, path, holeBytes: whole - allocated, dataBytes });
      }
      rest = rest.subarray(from);
    }
    await child.ended;
    signal?.throwIfAborted();
  }
  return { bytes, files, holed };
}

/** As the note keeps it. */
const encoded = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('base64');

/** The note of a backup whose files with holes are kept as planned. */
export function aboutOf(
  facts: Pick<AboutBackup, 'projectId' | 'name' | 'spec' | 'bytes' | 'files'>,
  plan: HolesPlan,
): AboutBackup {
  const sparse = plan.zeroed.slice(0, sparseFilesMax).map(encoded);
  if (plan.archivedFiles === 0) return { version: 1, ...facts, sparse };
  const archived = Object.entries(plan.archived).map(([name, paths]) => [name, paths.map(encoded)]);
  return {
    version: 2,
    ...facts,
    sparse,
    archived: Object.fromEntries(archived) as AboutBackup['archived'],
  };
}

/** The note's archived files as they were planned. */
export function archivedIn({ archived = {} }: AboutBackup): Record<string, string[]> {
  const decode = (text: string): string => Buffer.from(text, 'base64').toString('latin1');
  const entries = Object.entries(archived).map(([name, paths]) => [name, paths.map(decode)]);
  return Object.fromEntries(entries) as Record<string, string[]>;
}

/** A folder with the note about the backup, to be backed up along with it. */
export async function writeAbout(folder: string, about: AboutBackup): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, aboutFile), JSON.stringify(about));
}

/** @throws BACKUP_CONTENT_INVALID when the note is missing or wrong. */
export async function readAbout(folder: string, backupId: string): Promise<AboutBackup> {
  try {
    const text = await readFile(join(folder, aboutFile), 'utf8');
    return parseInput(AboutBackup, JSON.parse(text));
  } catch (cause) {
    const reason = 'its note about itself is missing or not readable';
    throw BackupErrors.BACKUP_CONTENT_INVALID({ backupId, reason }, { cause });
  }
}

/**
 * Gives restored files their holes back and keeps their times. The tree is as it was backed up and
 * nothing runs in it; the paths came from a walk without links.
 */
export async function digHoles(
  exec: Exec,
  folders: BackupFolders,
  about: AboutBackup,
  options: { scratch: string; signal?: AbortSignal },
): Promise<void> {
  const reference = join(options.scratch, 'times');
  const run = { timeoutMs: 3_600_000, ...(options.signal && { signal: options.signal }) };
  for (const encoded of about.sparse) {
    const [name = '', ...parts] = Buffer.from(encoded, 'base64').toString('utf8').split('/');
    const folder = folders[name];
    if (folder === undefined || parts.includes('..')) continue;
    const path = join(folder, ...parts);
    if (!(await stat(path).catch(() => undefined))?.isFile()) continue;
    await exec.run(['touch', '--reference', path, reference], run);
    await exec.run(['fallocate', '--dig-holes', path], run);
    await exec.run(['touch', '--reference', reference, path], run);
  }
  await rm(reference, { force: true });
}
