import { SystemExec, type Clock } from '@rookery/core';
import { selectStorageDriver, StorageOptions } from '@rookery/storage';
import type { StorageDriver } from '@rookery/storage/contract';
import type { HostConfig } from './config/config.js';
import { HostRow } from './database/entities/host.entity.js';
import { ProjectRow } from './database/entities/project.entity.js';
import { VolumeRow } from './database/entities/volume.entity.js';
import type { HostDatabase } from './database/host-database.js';

/**
 * The agent's storage, open. Only a host that has nothing yet makes a volume: a disk that is not
 * mounted, or a file that is gone, must not become an empty volume with projects that have lost all.
 * From then on the host serves that one volume and no other.
 * @throws VOLUME_ABSENT, VOLUME_FOREIGN
 */
export async function openOwnStorage(
  config: HostConfig,
  database: HostDatabase,
  clock: Clock,
): Promise<StorageDriver> {
  const known = database.findOne(VolumeRow, { id: 1 });
  const isNew =
    !known &&
    database.findOne(HostRow, { id: 1 }) === undefined &&
    database.find(ProjectRow).length === 0;
  const storage = await openStorage(config, { create: isNew, identity: known?.identity });
  if (!known) {
    const identity = await storage.identity();
    database.write((rows) => rows.put(VolumeRow, { id: 1, identity, notedAt: clock.now() }));
  }
  return storage;
}

/** Agent and ingress open it each for itself; that changes nothing. */
export async function openStorage(
  config: HostConfig,
  which: { readonly create: boolean; readonly identity: string | undefined },
): Promise<StorageDriver> {
  const { paths, volumeBytes, storageDriver, btrfsProgram, diskReserveBytes } = config;
  const options = StorageOptions.parse({
    volume: paths.volume,
    driver: storageDriver,
    btrfsProgram,
    create: which.create,
    ...(diskReserveBytes !== undefined && { reserveBytes: diskReserveBytes }),
    ...(which.identity !== undefined && { identity: which.identity }),
    ...(volumeBytes > 0 &&
      storageDriver !== 'directory' && {
        loopback: { imageFile: paths.volumeFile, sizeBytes: volumeBytes },
      }),
  });
  const storage = await selectStorageDriver(new SystemExec(), options);
  await storage.open();
  return storage;
}
