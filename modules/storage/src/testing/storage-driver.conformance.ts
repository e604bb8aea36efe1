import { imagesConform, reconcileConforms } from './conformance/images.js';
import { pathStagingsConform, snapshotsConform } from './conformance/snapshots.js';
import { streamsConform } from './conformance/streams.js';
import { wholeRestoresConform } from './conformance/restores.js';
import type { TestKit } from '@rookery/core/testing';
import { ConformanceSuite, type ConformanceOptions } from './conformance/suite.js';
import { temporarySnapshotsConform, quotaConforms, volumesConform } from './conformance/volumes.js';

export type { ConformanceOptions };

/** What every storage driver must do; parts that it says it cannot must fail with their code. */
export function storageDriverConformance(
  name: string,
  jest: TestKit,
  options: ConformanceOptions,
): void {
  jest.describe(`${name} as a StorageDriver`, () => {
    const suite = new ConformanceSuite(jest, options);
    jest.beforeAll(() => suite.open());
    jest.afterAll(() => suite.close());

    volumesConform(suite);
    snapshotsConform(suite);
    pathStagingsConform(suite);
    wholeRestoresConform(suite);
    temporarySnapshotsConform(suite);
    quotaConforms(suite);
    streamsConform(suite);
    imagesConform(suite);
    reconcileConforms(suite);
  });
}
