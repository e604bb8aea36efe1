import { chmod, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readMounts, type Exec } from '@rookery/core';

/**
 * A tmpfs for what containers leave (pids, locks) and what must not survive a reboot. Its source
 * names the data folder, so that whoever removes that folder finds this mount too.
 */
export async function mountRunFolder(exec: Exec, path: string, dataDir: string): Promise<void> {
  // The folders above stay open: containers' root filesystems are mounted beside this one.
  await mkdir(dirname(path), { recursive: true, mode: 0o711 });
  await mkdir(path, { recursive: true, mode: 0o700 });
  if ((await readMounts()).some((mount) => mount.path === path)) {
    await chmod(path, 0o700);
    return;
  }
  await exec.run([
    'mount',
    '-t',
    'tmpfs',
    '-o',
    'mode=700,nosuid,nodev',
    `rookery:${dataDir}`,
    path,
  ]);
}
