import { closeSync, constants, openSync } from 'node:fs';
import { chmod, chown, lstat, mkdir, open, readdir } from 'node:fs/promises';
import { renameExchange, tryFileLock, waitFor } from '@rookery/core';

/** `undefined` for what does not exist, anything else is thrown on. */
export function ignoreMissing(error: unknown): undefined {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
  throw error;
}

export async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing)) !== undefined;
}

/** Names in a folder of the host's root; empty when there is none. */
export async function namesIn(folder: string): Promise<string[]> {
  return (await readdir(folder).catch(ignoreMissing)) ?? [];
}

/** A folder has its number for as long as it is there, and the time when it was made. */
export async function identifyFolder(path: string): Promise<string> {
  const { dev, ino, birthtimeNs } = await lstat(path, { bigint: true });
  return [dev, ino, birthtimeNs].join(' ');
}

/** Makes a folder with exactly this owner and mode, whatever the umask; repeating does no harm. */
export async function ensureFolder(
  path: string,
  mode: number,
  owner?: { uid: number; gid: number },
): Promise<void> {
  await mkdir(path, { recursive: true, mode });
  if (owner) await chown(path, owner.uid, owner.gid);
  await chmod(path, mode);
}

/** Whether a folder is as {@link ensureFolder} makes it. */
export async function isFolderAs(
  path: string,
  mode: number,
  owner: { uid: number; gid: number },
): Promise<boolean> {
  const found = await lstat(path);
  const isOwned = found.uid === owner.uid && found.gid === owner.gid;
  return found.isDirectory() && isOwned && (found.mode & 0o7777) === mode;
}

/**
 * One process at a time, by an advisory lock of a folder: the kernel gives a dead one's back.
 * @throws TIMEOUT
 */
export async function withFolderLock<T>(
  folder: string,
  timeoutMs: number,
  task: () => Promise<T>,
): Promise<T> {
  const handle = await open(folder, 'r');
  try {
    await waitFor(`${folder} is free`, () => tryFileLock(handle.fd), { timeoutMs });
    return await task();
  } finally {
    await handle.close();
  }
}

/** Two paths of a volume change places in one step. */
export function exchangePaths(volume: string, one: string, other: string): void {
  const fd = openSync(volume, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    // Absolute paths: the descriptor only has to be valid.
    renameExchange(fd, one, fd, other);
  } finally {
    closeSync(fd);
  }
}
