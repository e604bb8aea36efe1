import { closeSync, constants } from 'node:fs';
import { newId, openBeneath, parseInput, renameAt } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import { z } from 'zod';
import type { VolumeLayout } from './layout.js';
import type { PathStagings } from './path-staging.js';

const folder = constants.O_RDONLY | constants.O_DIRECTORY;
/** A folder of the overlay's, as whoever mounts it names it: one part of a path. */
const LayerName = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$/);

/**
 * Takes a layer out of a project's overlay in one step, then removes what was in it: a crash leaves
 * the whole layer or none of it, and what is left of it elsewhere `reconcile` drops. Nothing in the
 * layer is opened or followed. Repeating does no harm.
 */
export async function dropLayer(
  layout: VolumeLayout,
  stagings: PathStagings,
  id: ProjectId,
  layer: string,
): Promise<void> {
  const name = parseInput(LayerName, layer);
  await using staging = await stagings.open(id, newId());
  const overlay = openBeneath(layout.live(id), overlayFolder, folder);
  try {
    const aside = openBeneath(staging.folder, '.', folder);
    try {
      renameAt(overlay, name, aside, 'layer');
    } finally {
      closeSync(aside);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  } finally {
    closeSync(overlay);
  }
}

const overlayFolder = '.local/share/overlay';
