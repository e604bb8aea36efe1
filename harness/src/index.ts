export {
  diffManifests,
  expectSameTree,
  manifestOf,
  type ManifestEntry,
} from './checkers/manifest.js';
