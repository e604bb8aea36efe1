import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as jest from '@jest/globals';
import { parseConfig, SystemExec } from '@rookery/core';
import { DirectoryStorageDriver, StorageOptions } from '@rookery/storage';
import { storageDriverConformance } from '@rookery/storage/testing';

storageDriverConformance('directory', jest, {
  snapshotsMax: 6,
  make: async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-folders-'));
    const options = parseConfig(StorageOptions, { volume: join(folder, 'projects') });
    return {
      driver: new DirectoryStorageDriver(new SystemExec(), options),
      dispose: () => rm(folder, { recursive: true, force: true }),
    };
  },
});
