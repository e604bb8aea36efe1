export { median, rowOf, type BenchRow, type Measured } from './bench/report.js';
export { Cluster, textOf, type ClusterOptions, type HostProcesses } from './cluster/cluster.js';
export { leftoversSince, takeInventory, type Inventory } from './checkers/leftovers.js';
export {
  diffManifests,
  expectSameTree,
  manifestOf,
  type ManifestEntry,
} from './checkers/manifest.js';
