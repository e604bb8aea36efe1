import { stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { CodedError } from '@rookery/core';
import { projectsAreFull } from './btrfs/projects-full.js';
import type { StorageSpace } from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';

/** @param imageFile of a volume in a file: what it may still take of the disk that it lies on counts too */
export async function spaceOf(volume: string, imageFile?: string): Promise<StorageSpace> {
  const { blocks, bfree, bavail, bsize } = await statfs(volume);
  const whole = { totalBytes: blocks * bsize, freeBytes: bavail * bsize };
  if (imageFile === undefined) return whole;
  const [disk, image] = await Promise.all([statfs(dirname(imageFile)), stat(imageFile)]);
  // Blocks that the file has had since they were used and freed are there already.
  const had = Math.max(0, image.blocks * 512 - (blocks - bfree) * bsize);
  const growthBytes = disk.bavail * disk.bsize + had;
  return { ...whole, freeBytes: Math.min(whole.freeBytes, growthBytes) };
}

/** What makes the volume fuller is refused before it is full. @throws DISK_FULL */
export function requireFree(
  { freeBytes }: StorageSpace,
  options: { volume: string; minFreeBytes: number },
): void {
  if (freeBytes < options.minFreeBytes) throw StorageErrors.DISK_FULL({ volume: options.volume });
}

/**
 * DISK_FULL or QUOTA_EXCEEDED when a failure's text says so. Node has no name for EDQUOT (122), which
 * also says that the projects together have nothing left.
 */
export function spaceErrorOf(
  text: string,
  volume: string,
  cause?: unknown,
): CodedError | undefined {
  const refused = /Disk quota exceeded|EDQUOT|error -122/i.test(text);
  if (refused && !projectsAreFull(volume)) return StorageErrors.QUOTA_EXCEEDED({}, { cause });
  if (refused || /No space left|ENOSPC/i.test(text))
    return StorageErrors.DISK_FULL({ volume }, { cause });
  return undefined;
}
