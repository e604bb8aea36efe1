import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { KeyedLock } from './keyed-lock.js';

export interface AtomicFileOptions {
  /** Permissions, whatever the umask says; the owner alone reads and writes unless told otherwise. */
  readonly mode?: number;
  /** User and group id of the file's owner; this process's when none is given. */
  readonly ownerId?: number;
}

const writers = new KeyedLock();

/**
 * Writes a file whole or not at all: readers find what was there before or what is there now, also
 * after a power cut, and it is on disk when this resolves. Writers of one process take turns.
 *
 * @throws the error of the system call that failed; what was there is still there then
 */
export async function writeFileAtomic(
  path: string,
  data: string | Uint8Array,
  options: AtomicFileOptions = {},
): Promise<void> {
  const staged = `${path}.${process.pid}.new`;
  await writers.run(path, async () => {
    try {
      await writeStaged(staged, data, options);
      await rename(staged, path);
    } catch (error) {
      await rm(staged, { force: true }).catch(() => undefined);
      throw error;
    }
    await syncFolder(dirname(path));
  });
}

/** Made anew each time, so that a link that somebody laid there is never followed. */
async function writeStaged(
  staged: string,
  data: string | Uint8Array,
  { mode = 0o600, ownerId }: AtomicFileOptions,
): Promise<void> {
  await rm(staged, { force: true });
  const file = await open(staged, 'wx', 0o600);
  try {
    await file.writeFile(data);
    if (ownerId !== undefined) await file.chown(ownerId, ownerId);
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes what was created, renamed or removed in a folder survive a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
