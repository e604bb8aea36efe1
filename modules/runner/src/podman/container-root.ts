import { join } from 'node:path';
import type { Exec } from '@rookery/core';
import type { ContainerSpec } from '../container.driver.js';
import { containerEnv } from './container-args.js';
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

/**
 * Gets a project's volume and root filesystem ready for a start.
 * @returns the parts of its volume as the container's users own them
 * @throws ROOTFS_UNUSABLE
 */
export async function prepareRoot(
  exec: Exec,
  spec: ContainerSpec,
  place: StartPlace,
): Promise<Record<'home' | 'snapshots' | 'scratch', string>> {
  const { projectId, volume, imagePath } = spec;
  const { home, snapshots, scratch } = volume;
  const layer = join(volume.overlay, overlayKey(spec.imageRef));
  await prepareLayer(layer);
  await checkRoot(projectId, {
    upper: join(layer, 'upper'),
    lower: imagePath,
    mounts: { root: home, scratch },
  });
  const sources = { home, snapshots, scratch, layer, lower: imagePath };
  const mounts = await attachMapped(exec, place.mounts, sources, place.range);
  await writePrivateStart(place.startFolder, {
    range: place.range,
    env: containerEnv(spec, hostnameOf(projectId)),
    overlayOptions: overlayOptions(mounts),
  });
  return mounts;
}
