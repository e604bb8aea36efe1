import { statfs } from 'node:fs/promises';
import type { CodedError } from '@rookery/core';
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

/** DISK_FULL or QUOTA_EXCEEDED when a failure's text says so. Node has no name for EDQUOT (122). */
export function spaceErrorOf(
  text: string,
  volume: string,
  cause?: unknown,
): CodedError | undefined {
  if (/Disk quota exceeded|EDQUOT|error -122/i.test(text))
    return StorageErrors.QUOTA_EXCEEDED({}, { cause });
  if (/No space left|ENOSPC/i.test(text)) return StorageErrors.DISK_FULL({ volume }, { cause });
  return undefined;
}
