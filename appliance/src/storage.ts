import { SystemExec } from '@rookery/core';
import { selectStorageDriver, StorageOptions } from '@rookery/storage';
import type { StorageDriver } from '@rookery/storage/contract';
import type { HostConfig } from './config/config.js';

/** The host's storage, open. Agent and ingress open it each for itself; that changes nothing. */
export async function openStorage(config: HostConfig): Promise<StorageDriver> {
  const { paths, volumeBytes, storageDriver, btrfsProgram } = config;
  const options = StorageOptions.parse({
    volume: paths.volume,
    driver: storageDriver,
    btrfsProgram,
    ...(volumeBytes > 0 &&
      storageDriver !== 'directory' && {
        loopback: { imageFile: paths.volumeFile, sizeBytes: volumeBytes },
      }),
  });
  const storage = await selectStorageDriver(new SystemExec(), options);
  await storage.open();
  return storage;
}
