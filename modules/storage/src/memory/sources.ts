import type { ProjectId } from '@rookery/core/contract';
import type { VolumeLayout } from '../layout.js';
import type { StreamSource } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { MemoryVolume } from './reconcile.js';

/** Where the memory driver finds what a stream is made of. */
interface MemorySources {
  readonly layout: VolumeLayout;
  readonly imageUuid: (digest: string) => string | undefined;
  readonly volume: (id: ProjectId) => MemoryVolume;
}

/** @throws IMAGE_NOT_FOUND, SNAPSHOT_NOT_FOUND */
export function findSource(
  source: StreamSource,
  { layout, imageUuid, volume }: MemorySources,
): { uuid: string; path: string } {
  if (source.kind === 'image') {
    const uuid = imageUuid(source.digest);
    if (uuid === undefined) throw StorageErrors.IMAGE_NOT_FOUND({ digest: source.digest });
    return { uuid, path: layout.image(source.digest) };
  }
  const { kind, projectId, name } = source;
  const { snapshots, frozen } = volume(projectId);
  if (kind === 'snapshot') {
    const snapshot = snapshots.get(name);
    if (!snapshot) throw StorageErrors.SNAPSHOT_NOT_FOUND({ name });
    return { uuid: snapshot.uuid, path: layout.snapshot(projectId, name) };
  }
  const temporary = frozen.get(name);
  if (!temporary) throw StorageErrors.SNAPSHOT_NOT_FOUND({ name });
  return kind === 'frozen'
    ? { uuid: temporary.uuid, path: layout.frozen(projectId, name) }
    : { uuid: temporary.persistenceUuid, path: layout.frozenPersistence(projectId, name) };
}
