import * as jest from '@jest/globals';
import { MemoryStorageDriver, storageDriverConformance } from '@rookery/storage/testing';

const snapshotsMax = 6;

storageDriverConformance('memory', jest, {
  snapshotsMax,
  enforcesQuota: false,
  make: () =>
    Promise.resolve({
      driver: new MemoryStorageDriver({ snapshotsPerProjectMax: snapshotsMax }),
      dispose: () => Promise.resolve(),
    }),
});
