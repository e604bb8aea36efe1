/**
 * Files with holes. The backup programs read a hole as zeros, byte for byte, and some write them
 * as zeros when they restore: one file of 4 EiB that holds nothing would keep a backup busy for
 * ever. So a file that is mostly holes goes into an archive beside the others, which holds its
 * extents alone, and comes out of it as it was: `tar` knows how.
 */
import { closeSync, constants } from 'node:fs';
import { access, mkdir, statfs, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CodedError, formatBytes, GiB, openBeneath, type Exec } from '@rookery/core';
import type { BackupFolders } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';

/** One file, `path` beneath a folder of the backup with each byte as one character. */
export interface HoledFile {
  readonly folder: string;
  readonly path: string;
  readonly holeBytes: number;
  readonly dataBytes: number;
}

/** Files of the archives by folder, and those that the program keeps with zeros for holes. */
export interface HolesPlan {
  readonly archived: Readonly<Record<string, readonly string[]>>;
  readonly archivedFiles: number;
  readonly archivedBytes: number;
  /** `<folder>/<path>`. */
  readonly zeroed: readonly string[];
}

export interface HolesLimits {
  readonly filesMax: number;
  /** Of all their names: they are arguments of the program, which excludes them. */
  readonly nameBytesMax: number;
  /** Holes that may be read and written as zeros. */
  readonly zeroBytesMax: number;
}

const defaultLimits: HolesLimits = {
  filesMax: 10_000,
  nameBytesMax: 1024 ** 2,
  zeroBytesMax: 4 * GiB,
};
/** All holes become zeros. */
export const noArchives: HolesLimits = { ...defaultLimits, filesMax: 0 };
/** Of a file's data: so many zeros are cheaper than a copy of the file. */
const zerosPart = 1 / 8;
/** Left free beside the archives. */
const reserveBytes = GiB;
/** What the program's arguments have beside the name itself. */
const argumentBytes = 100;
const tarTimeoutMs = 12 * 3_600_000;
const metadata = ['--xattrs', '--numeric-owner'];

/**
 * The largest holes first. A name that is no UTF-8 cannot be an argument.
 * @throws BACKUP_HOLES_TOO_MANY
 */
export function planHoles(
  files: readonly HoledFile[],
  { filesMax, nameBytesMax, zeroBytesMax }: HolesLimits = defaultLimits,
): HolesPlan {
  const archived: Record<string, string[]> = {};
  const zeroed: string[] = [];
  let [count, nameBytes, archivedBytes, zeroBytes] = [0, 0, 0, 0];
  for (const file of files.toSorted((a, b) => b.holeBytes - a.holeBytes)) {
    const { folder, path, holeBytes, dataBytes } = file;
    const room = count < filesMax && nameBytes + path.length + argumentBytes <= nameBytesMax;
    if (room && holeBytes > dataBytes * zerosPart && isUtf8(path)) {
      (archived[folder] ??= []).push(path);
      count += 1;
      nameBytes += path.length + argumentBytes;
      archivedBytes += dataBytes;
      continue;
    }
    zeroed.push(`${folder}/${path}`);
    zeroBytes += Math.max(0, holeBytes - dataBytes * zerosPart);
  }
  if (zeroBytes > zeroBytesMax) {
    const details = { files: files.length, holes: formatBytes(zeroBytes), filesMax };
    throw BackupErrors.BACKUP_HOLES_TOO_MANY(details);
  }
  return { archived, archivedFiles: count, archivedBytes, zeroed };
}

/** The archived files' paths inside the backup, for the program to leave out. */
export const archivedPaths = ({ archived }: HolesPlan): string[] =>
  Object.entries(archived).flatMap(([folder, paths]) =>
    paths.map((path) => `/${folder}/${toText(path)}`),
  );

/**
 * Writes one archive a folder into `target`. Nothing may change the folders meanwhile.
 * @throws BACKUP_HOLES_NO_ROOM
 */
export async function archiveHoled(
  exec: Exec,
  folders: BackupFolders,
  plan: HolesPlan,
  { target, signal }: { target: string; signal: AbortSignal },
): Promise<void> {
  if (plan.archivedFiles === 0) return;
  await mkdir(target, { recursive: true });
  const { bavail, bsize } = await statfs(target);
  if (bavail * bsize < plan.archivedBytes + reserveBytes) {
    throw BackupErrors.BACKUP_HOLES_NO_ROOM({
      needed: formatBytes(plan.archivedBytes + reserveBytes),
      free: formatBytes(bavail * bsize),
      folder: target,
    });
  }
  for (const [name, paths] of Object.entries(plan.archived)) {
    const list = join(target, `${name}.list`);
    await writeFile(list, listOf(withParents(paths)));
    await exec.run(
      [
        'tar',
        '--create',
        '--sparse',
        '--format=posix',
        ...metadata,
        '--no-recursion',
        '--file',
        archiveIn(target, name),
        '--directory',
        folders[name] ?? '',
        '--null',
        '--files-from',
        list,
      ],
      { timeoutMs: tarTimeoutMs, signal },
    );
  }
}

/**
 * Takes files out of the archives into folders where nothing runs: all of them, or those that are
 * `within` or beneath it.
 * @throws RESTORE_DISK_FULL, BACKUP_CONTENT_INVALID
 */
export async function extractHoled(
  exec: Exec,
  folders: BackupFolders,
  archived: Readonly<Record<string, readonly string[]>>,
  options: { from: string; backupId: string; signal: AbortSignal; within?: string },
): Promise<void> {
  const { from, signal, within, backupId } = options;
  for (const [name, all] of Object.entries(archived)) {
    const target = folders[name];
    if (target === undefined) continue;
    const paths = within === undefined ? all : all.filter((path) => isWithin(path, within));
    if (paths.length === 0) continue;
    await access(archiveIn(from, name));
    for (const folder of new Set(paths.map((path) => dirname(path)))) {
      if (within !== undefined) await mkdir(join(target, toText(folder)), { recursive: true });
      refuseLinks(target, toText(folder), backupId);
    }
    const list = join(from, `${name}.list`);
    const parents = within === undefined ? withParents(paths) : paths;
    await writeFile(list, listOf(parents));
    try {
      await exec.run(
        [
          'tar',
          '--extract',
          '--same-owner',
          '--same-permissions',
          ...metadata,
          '--xattrs-include=*',
          '--no-recursion',
          '--no-wildcards',
          '--file',
          archiveIn(from, name),
          '--directory',
          target,
          '--null',
          '--files-from',
          list,
        ],
        { timeoutMs: tarTimeoutMs, signal },
      );
    } catch (error) {
      throw asFull(error);
    }
  }
}

/** Whether the path is a folder on the way that nobody put a link in. */
function refuseLinks(target: string, folder: string, backupId: string): void {
  try {
    closeSync(openBeneath(target, folder, constants.O_RDONLY | constants.O_DIRECTORY));
  } catch (cause) {
    const reason = `${folder} is no folder in it`;
    throw BackupErrors.BACKUP_CONTENT_INVALID({ backupId, reason }, { cause });
  }
}

function asFull(error: unknown): unknown {
  const said = CodedError.is(error) ? String(error.details['stderr'] ?? error.message) : '';
  if (!/no space left|disk quota exceeded|file too large/i.test(said)) return error;
  return BackupErrors.RESTORE_DISK_FULL({}, { cause: error });
}

/** Folders on the way get their times back after the files. */
function withParents(paths: readonly string[]): string[] {
  const parents = new Set<string>();
  for (const path of paths) {
    for (let up = dirname(path); up !== '.' && !parents.has(up); up = dirname(up)) parents.add(up);
  }
  return [...paths, ...parents];
}

const listOf = (paths: readonly string[]): Buffer =>
  Buffer.from(paths.map((path) => `${path}\0`).join(''), 'latin1');

const archiveIn = (folder: string, name: string): string => join(folder, `${name}.tar`);

/** `within` in the same letters as the paths. */
const isWithin = (path: string, within: string): boolean => {
  const prefix = Buffer.from(within).toString('latin1');
  return path === prefix || path.startsWith(`${prefix}/`);
};

const toText = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8');

const isUtf8 = (latin1: string): boolean =>
  Buffer.from(toText(latin1), 'utf8').toString('latin1') === latin1;
