export { MemoryStorageDriver } from '../memory.driver.js';
export {
  findBtrfsProgram,
  loopbackVolume,
  withLoopbackVolume,
  type TestVolume,
} from './loopback.js';
export {
  storageDriverConformance,
  type ConformanceOptions,
  type JestKit,
} from './storage-driver.conformance.js';
