import { mkdir, readFile } from 'node:fs/promises';
import type { Exec } from '@rookery/core';

/**
 * A tmpfs in the data folder. What containers leave there (pids, locks) must not survive a reboot,
 * and must go when the data folder's mounts go.
 */
export async function mountRunFolder(exec: Exec, path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o711 });
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  if (mounts.split('\n').some((line) => line.split(' ')[4] === path)) return;
  await exec.run(['mount', '-t', 'tmpfs', '-o', 'mode=711,nosuid,nodev', 'rookery', path]);
}
