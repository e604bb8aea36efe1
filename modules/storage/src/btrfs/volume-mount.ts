import { statfs } from 'node:fs/promises';
import { readMounts, type Exec, type Mount } from '@rookery/core';
import { StorageErrors } from '../storage.errors.js';

/** `f_type` of a btrfs file system (linux/magic.h). */
const btrfsMagic = 0x9123683e;

export async function isBtrfs(path: string): Promise<boolean> {
  return (await statfs(path)).type === btrfsMagic;
}

/** The topmost mount at exactly `path`, from this process's view. */
export async function mountAt(path: string): Promise<Mount | undefined> {
  return (await readMounts()).findLast((mount) => mount.path === path);
}

/**
 * Set-user-id files and devices on the volume would act on the host: a project, or a stream, could
 * bring them. A volume that lacks the options is mounted over itself with them.
 */
export async function ensureSafeMount(exec: Exec, volume: string): Promise<void> {
  const mount = await mountAt(volume);
  const missing = ['nosuid', 'nodev'].filter((option) => !mount?.options.includes(option));
  if (missing.length === 0) return;
  if (!mount) await exec.run(['mount', '--bind', volume, volume]);
  await exec.run(['mount', '-o', 'remount,bind,nosuid,nodev,noatime', volume]);
  const now = await mountAt(volume);
  if (!now?.options.includes('nosuid') || !now.options.includes('nodev')) {
    throw StorageErrors.VOLUME_UNUSABLE({ volume, reason: 'it cannot be mounted nosuid,nodev' });
  }
}
