import * as jest from '@jest/globals';
import { parseConfig, SystemExec } from '@rookery/core';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, storageDriverConformance } from '@rookery/storage/testing';

const snapshotsMax = 6;

/** Both quotas, each with the program that a machine would have it with. */
for (const [name, btrfsProgram, quota] of [
  ['btrfs with simple quotas', undefined, 'simple'],
  ['btrfs with classic quotas and old progs', 'btrfs', 'classic'],
] as const) {
  storageDriverConformance(name, jest, {
    snapshotsMax,
    make: async () => {
      const volume = await loopbackVolume(btrfsProgram === undefined ? {} : { btrfsProgram });
      const options = parseConfig(StorageOptions, {
        volume: volume.volume,
        driver: 'btrfs',
        btrfsProgram: volume.btrfsProgram,
        quota: quota === 'classic' ? 'classic' : 'auto',
        snapshotsPerProjectMax: snapshotsMax,
        reconcileGraceMs: 0,
      });
      return {
        driver: new BtrfsStorageDriver(new SystemExec(), options),
        dispose: () => volume.destroy(),
      };
    },
  });
}
