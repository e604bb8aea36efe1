import { rm } from 'node:fs/promises';
import type { ProjectId } from '@rookery/core/contract';
import { newId, parseInput, type Clock } from '@rookery/core';
import { TemporarySnapshotName, type VolumeLayout } from '../layout.js';
import type { TemporarySnapshot } from '../storage.driver.js';
import { copy, copyLive } from './files.js';
import type { MemoryVolume } from './reconcile.js';

type TemporarySnapshots = MemoryVolume['frozen'];

/** Takes a picture of live and persistence, or gives the one that has this name. */
export async function freezeCopy(
  id: ProjectId,
  name: string,
  pictures: TemporarySnapshots,
  parts: { readonly layout: VolumeLayout; readonly clock: Clock },
): Promise<TemporarySnapshot> {
  const { layout, clock } = parts;
  const root = layout.frozen(id, parseInput(TemporarySnapshotName, name));
  const persistence = layout.frozenPersistence(id, name);
  let picture = pictures.get(name);
  if (!picture) {
    await copyLive(layout.live(id), root);
    await copy(layout.persistence(id), persistence);
    picture = { uuid: newId(), persistenceUuid: newId(), createdAt: clock.now() };
    pictures.set(name, picture);
  }
  const { uuid, persistenceUuid } = picture;
  const release = (): Promise<void> => releaseCopy(id, name, pictures, layout);
  return {
    projectId: id,
    name,
    uuid,
    persistenceUuid,
    root,
    persistence,
    release,
    [Symbol.asyncDispose]: release,
  };
}

export async function releaseCopy(
  id: ProjectId,
  name: string,
  pictures: TemporarySnapshots | undefined,
  layout: VolumeLayout,
): Promise<void> {
  pictures?.delete(name);
  await rm(layout.frozen(id, name), { recursive: true, force: true });
  await rm(layout.frozenPersistence(id, name), { recursive: true, force: true });
}

export function listCopies(
  frozen: MemoryVolume['frozen'] | undefined,
): { name: string; uuid: string; createdAt: number }[] {
  return [...(frozen ?? [])].map(([name, { uuid, createdAt }]) => ({ name, uuid, createdAt }));
}
