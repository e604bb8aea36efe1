import { readFile, statfs } from 'node:fs/promises';
import type { Exec } from '@rookery/core';
import { StorageErrors } from '../storage.errors.js';

/** `f_type` of a btrfs file system (linux/magic.h). */
const btrfsMagic = 0x9123683e;

export async function isBtrfs(path: string): Promise<boolean> {
  return (await statfs(path)).type === btrfsMagic;
}

export interface MountEntry {
  readonly target: string;
  readonly source: string;
  readonly fsType: string;
  readonly options: readonly string[];
}

/** The topmost mount at exactly `path`, from this process's view. */
export async function mountAt(path: string): Promise<MountEntry | undefined> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  const entries = text
    .split('\n')
    .map(parseMount)
    .filter((entry) => entry?.target === path);
  return entries.at(-1);
}

/** `36 35 98:0 /root /target rw,nosuid shared:1 - btrfs /dev/loop0 rw,space_cache` */
function parseMount(line: string): MountEntry | undefined {
  const [left, right] = line.split(' - ');
  const [, , , , target, options] = left?.split(' ') ?? [];
  const [fsType, source] = right?.split(' ') ?? [];
  if (target === undefined || options === undefined || !fsType || source === undefined) {
    return undefined;
  }
  // Spaces and the like are written as octal escapes.
  const unescaped = target.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return { target: unescaped, source, fsType, options: options.split(',') };
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
