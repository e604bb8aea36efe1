export { MemoryStorageDriver } from '../memory.driver.js';
export { CutVolume } from './cut-volume.js';
export {
  findBtrfsProgram,
  loopbackVolume,
  withLoopbackVolume,
  type TestVolume,
} from './loopback.js';
export { storageDriverConformance, type ConformanceOptions } from './storage-driver.conformance.js';
// Parts that are tested by themselves, with tables.
export { planStorageRepairs, type StorageActual } from '../btrfs/reconcile-plan.js';
export { SendStreamGuard } from '../btrfs/send-stream-guard.js';
export { isProjectQgroup, projectOfFolder, qgroupOf, VolumeLayout } from '../layout.js';
