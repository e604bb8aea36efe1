import { createHash } from 'node:crypto';
import {
  chmod,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { CoreErrors } from '@rookery/core';
import { z } from 'zod';
import { StorageErrors } from '../storage.errors.js';

/** The memory driver's stream: one line of JSON, then its SHA-256. Small trees only. */
const Entry = z.object({
  path: z.string(),
  mode: z.int(),
  kind: z.enum(['folder', 'file', 'link']),
  /** Base64 of a file, target of a link. */
  content: z.string(),
});
const FolderStream = z.object({
  uuid: z.string(),
  parentUuid: z.string().optional(),
  entries: z.array(Entry),
});
export type FolderStream = z.output<typeof FolderStream>;

const digestBytes = 32;

export async function packFolder(
  folder: string,
  uuids: { uuid: string; parentUuid?: string },
): Promise<Buffer> {
  const entries: z.output<typeof Entry>[] = [];
  const walk = async (relative: string): Promise<void> => {
    for (const name of (await readdir(join(folder, relative))).sort()) {
      const path = join(relative, name);
      const { mode, ...kind } = await lstat(join(folder, path)).then((stats) => ({
        mode: stats.mode & 0o7777,
        isFolder: stats.isDirectory(),
        isLink: stats.isSymbolicLink(),
        isFile: stats.isFile(),
      }));
      if (kind.isFolder) {
        entries.push({ path, mode, kind: 'folder', content: '' });
        await walk(path);
      } else if (kind.isLink) {
        const content = await readlink(join(folder, path));
        entries.push({ path, mode, kind: 'link', content });
      } else if (kind.isFile) {
        const content = await readFile(join(folder, path), 'base64');
        entries.push({ path, mode, kind: 'file', content });
      }
    }
  };
  await walk('');
  const body = Buffer.from(JSON.stringify({ ...uuids, entries } satisfies FolderStream));
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}

/** @returns undefined when the bytes are not exactly one whole stream. */
function parseFolderStream(bytes: Buffer): FolderStream | undefined {
  const body = bytes.subarray(0, -digestBytes);
  const digest = createHash('sha256').update(body).digest();
  if (!digest.equals(bytes.subarray(-digestBytes))) return undefined;
  return FolderStream.parse(JSON.parse(body.toString('utf8')));
}

export async function unpackFolder(stream: FolderStream, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const { path, mode, kind, content } of stream.entries) {
    const target = join(folder, path);
    if (kind === 'link') {
      await symlink(content, target);
      continue;
    }
    if (kind === 'folder') await mkdir(target, { recursive: true });
    else await writeFile(target, Buffer.from(content, 'base64'));
    await chmod(target, mode);
  }
}

/** @throws STREAM_INVALID, CANCELED */
export async function readFolderStream(
  stream: Readable,
  item: string,
  signal: AbortSignal | undefined,
): Promise<FolderStream> {
  const stop = (): void => void stream.destroy(signal?.reason as Error);
  let bytes: Buffer;
  try {
    signal?.throwIfAborted();
    signal?.addEventListener('abort', stop, { once: true });
    bytes = await buffer(stream);
  } catch (error) {
    if (signal?.aborted) throw CoreErrors.CANCELED({}, { cause: error });
    throw StorageErrors.STREAM_INVALID({ item, reason: String(error) }, { cause: error });
  } finally {
    signal?.removeEventListener('abort', stop);
  }
  const parsed = parseFolderStream(bytes);
  if (parsed) return parsed;
  throw StorageErrors.STREAM_INVALID({ item, reason: 'it is cut off or changed' });
}
