import { closeSync, openSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CoreErrors } from './errors.js';
import { waitFor } from './retry.js';
import { tryFileLock } from './syscalls.js';

const lockTimeoutMs = 30_000;

/**
 * Runs a task while no other process of the machine runs one with the same folder's lock. A process
 * that dies gives it back.
 * @param what is locked, for the message of who waits in vain
 * @throws INVALID_CONFIG when the folder cannot be written, TIMEOUT after 30 s
 */
export async function withMachineLock<T>(
  folder: string,
  what: string,
  task: () => Promise<T>,
): Promise<T> {
  const fd = await openLock(folder);
  try {
    await waitFor(`${what} lock is free`, () => tryFileLock(fd), { timeoutMs: lockTimeoutMs });
    return await task();
  } finally {
    closeSync(fd);
  }
}

async function openLock(folder: string): Promise<number> {
  try {
    await mkdir(folder, { recursive: true, mode: 0o755 });
    return openSync(join(folder, 'lock'), 'a', 0o600);
  } catch (error) {
    const reason = `${folder} cannot be written: ${(error as Error).message}`;
    throw CoreErrors.INVALID_CONFIG({ reason }, { cause: error });
  }
}
