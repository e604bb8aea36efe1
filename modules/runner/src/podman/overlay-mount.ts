import { chown, lstat, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '@rookery/core';
import { RunnerErrors } from '../runner.errors.js';
import { mappedRootId } from './runner-id.js';

export interface OverlayLayers {
  /** The image: read-only. */
  readonly lower: string;
  /** Folder in the project's volume that holds `upper` and `work`. */
  readonly layer: string;
  readonly merged: string;
}

/** Mounts a project's root filesystem: its changes over the shared image. */
export async function mountOverlay(exec: Exec, layers: OverlayLayers): Promise<void> {
  const upper = join(layers.layer, 'upper');
  const work = join(layers.layer, 'work');
  await realFolder(layers.layer, 0);
  await realFolder(upper, mappedRootId);
  await realFolder(work, 0);
  await mkdir(layers.merged, { recursive: true, mode: 0o755 });
  if (await isMountPoint(layers.merged)) await unmount(exec, layers.merged);
  // Without nosuid, although the volume has it: sudo must work. What redirect_dir, metacopy and
  // index write into the upper would bind it to this very copy of the image and this kernel.
  const options = [
    `lowerdir=${escaped(layers.lower)}`,
    `upperdir=${escaped(upper)}`,
    `workdir=${escaped(work)}`,
    'redirect_dir=off',
    'metacopy=off',
    'index=off',
    'xino=off',
    'nodev',
  ].join(',');
  await exec.run(['mount', '-t', 'overlay', 'overlay', '-o', options, layers.merged]);
}

/** Not mounted: nothing to do. A busy mount disappears from sight now and ends with its last user. */
export async function unmount(exec: Exec, path: string): Promise<void> {
  for (let layer = 0; layer < stackedMountsMax && (await isMountPoint(path)); layer += 1) {
    const { exit } = await exec.run(['umount', path], { okExits: [0, 1, 32] });
    if (exit !== 0) await exec.run(['umount', '--lazy', path], { okExits: [0, 1, 32] });
  }
}

const stackedMountsMax = 8;

async function isMountPoint(path: string): Promise<boolean> {
  return (await mountPoints()).includes(path);
}

/** Every mount point that this process sees, in the order of mounting. */
export async function mountPoints(): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  return table
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path !== '')
    .map((path) =>
      path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))),
    );
}

/** Makes a folder; what is there already must be one, not a link to one. */
async function realFolder(path: string, owner: number): Promise<void> {
  try {
    await mkdir(path, { mode: 0o755 });
    await chown(path, owner, owner);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const found = await lstat(path);
    if (!found.isDirectory()) {
      throw RunnerErrors.CONTAINER_START_FAILED({
        projectId: path,
        reason: 'the overlay’s folder is not a folder',
      });
    }
  }
}

/** A colon separates lower layers and a comma separates options. */
function escaped(path: string): string {
  return path.replace(/[\\:,]/g, (character) => `\\${character}`);
}
