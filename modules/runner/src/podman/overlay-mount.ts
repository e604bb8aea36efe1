import { chown, lstat, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { readMounts, type Exec } from '@rookery/core';
import { RunnerErrors } from '../runner.errors.js';
import { diskRootId } from './runner-id.js';

export interface OverlayLayers {
  /** The image: read-only. */
  readonly lower: string;
  /** Holds `upper` and `work`. */
  readonly layer: string;
}

/**
 * Makes the folders of a project's changes, in its volume.
 * @param layer in the project's volume, as it is on disk
 */
export async function prepareLayer(layer: string): Promise<void> {
  await realFolder(layer, 0);
  await realFolder(join(layer, 'upper'), diskRootId);
  await realFolder(join(layer, 'work'), 0);
}

/**
 * Options of a project's root filesystem: its changes over the shared image. Without nosuid,
 * although the volume has it: sudo must work inside; so this is mounted where nobody else sees it.
 * What redirect_dir, metacopy and index write into the upper would bind it to this very copy of the
 * image and this kernel.
 */
export function overlayOptions(layers: OverlayLayers): string {
  return [
    `lowerdir=${escaped(layers.lower)}`,
    `upperdir=${escaped(join(layers.layer, 'upper'))}`,
    `workdir=${escaped(join(layers.layer, 'work'))}`,
    'redirect_dir=off',
    'metacopy=off',
    'index=off',
    'xino=off',
    'nodev',
  ].join(',');
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
  return (await readMounts()).some((mount) => mount.path === path);
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
