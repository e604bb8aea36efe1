export {
  containerDriverConformance,
  outcome,
  type ConformanceSetup,
} from './container-driver.conformance.js';
export { MemoryImageStore } from './memory-image.store.js';
export { MemoryProjectStore } from './memory-project.store.js';
export { baseImage, testHost, type TestHost, type TestHostOptions } from './podman-host.js';
