import { describe, expect, it } from '@jest/globals';
import { MiB } from '@rookery/core';
import { MemoryDriver } from '@rookery/runner';
import { containerDriverConformance } from '@rookery/runner/testing';

const driver = new MemoryDriver();
const folder = '/nowhere';
const volume = {
  root: folder,
  home: folder,
  overlay: folder,
  snapshots: folder,
  persistence: folder,
  scratch: folder,
};
const quota = { diskBytes: 64 * MiB, memoryBytes: 64 * MiB, cpus: 1, pidsMax: 64 };

describe('the memory driver', () => {
  containerDriverConformance(
    { describe, it, expect },
    {
      driver: () => driver,
      specOf: async (projectId, generation) => ({
        projectId,
        generation,
        imagePath: folder,
        imageRef: 'localhost/x:1',
        volume,
        quota,
        env: {},
      }),
    },
  );
});
