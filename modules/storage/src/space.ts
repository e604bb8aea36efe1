import { statfs } from 'node:fs/promises';
import type { StorageSpace } from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';

export async function spaceOf(volume: string): Promise<StorageSpace> {
  const { blocks, bavail, bsize } = await statfs(volume);
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
}

/** What makes the volume fuller is refused before it is full. @throws DISK_FULL */
export async function requireFree(options: {
  volume: string;
  minFreeBytes: number;
}): Promise<void> {
  const { freeBytes } = await spaceOf(options.volume);
  if (freeBytes < options.minFreeBytes) throw StorageErrors.DISK_FULL({ volume: options.volume });
}
