import { lstat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Exec } from '@rookery/core';
import type { ContainerSpec } from '../container.driver.js';
import { containerEnv, type VolumeMounts } from './container-args.js';
import { hostnameOf } from './container-files.js';
import { attachMapped } from './mapped-mounts.js';
import { overlayOptions, prepareLayer } from './overlay-mount.js';
import { writePrivateStart } from './private-runtime.js';
import { checkRoot } from './root-check.js';
import { overlayKey, type IdRange } from './runner-id.js';

/** Where and as whom a container starts. */
interface StartPlace {
  readonly range: IdRange;
  /** Folder for mounts that last as long as the start. */
  readonly mounts: string;
  /** Folder that the host's OCI runtime looks into. */
  readonly startFolder: string;
}

/** The upper of a rescue, beside those of images: their names end with a digest. */
const rescueLayer = 'rescue';
const removeTimeoutMs = 10 * 60_000;

/**
 * Gets a project's volume and root filesystem ready for a start. The layer of an earlier rescue is
 * thrown away: each begins clean, and nothing lasts that was written to a root filesystem that is
 * not the project's.
 * @throws ROOTFS_UNUSABLE
 */
export async function prepareRoot(
  exec: Exec,
  spec: ContainerSpec,
  place: StartPlace,
): Promise<VolumeMounts> {
  const { projectId, volume, imagePath } = spec;
  const { home, snapshots, scratch } = volume;
  const own = join(volume.overlay, overlayKey(spec.imageRef));
  const rescue = join(volume.overlay, rescueLayer);
  await removeLayer(exec, rescue);
  await prepareLayer(own);
  const isRescue = spec.rescue === true;
  const layer = isRescue ? rescue : own;
  const rescued = join(own, 'upper');
  if (isRescue) await prepareLayer(layer);
  await checkRoot(projectId, {
    upper: join(layer, 'upper'),
    lower: imagePath,
    mounts: { root: home, scratch, ...(isRescue && { rescue: rescued }) },
  });
  const sources = { home, snapshots, scratch, layer, lower: imagePath };
  const mounts = isRescue
    ? await attachMapped(exec, place.mounts, { ...sources, rescued }, place.range)
    : await attachMapped(exec, place.mounts, sources, place.range);
  await writePrivateStart(place.startFolder, {
    range: place.range,
    env: containerEnv(spec, hostnameOf(projectId)),
    overlayOptions: overlayOptions(mounts),
  });
  return mounts;
}

/** `rm` walks by descriptors: nothing in a layer leads it elsewhere. */
async function removeLayer(exec: Exec, layer: string): Promise<void> {
  if (!(await isThere(layer))) return;
  await exec.run(['rm', '-rf', '--one-file-system', '--', layer], { timeoutMs: removeTimeoutMs });
}

async function isThere(path: string): Promise<boolean> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
  return found !== undefined;
}
