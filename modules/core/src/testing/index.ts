export { selfSignedCertificate } from './certificate.js';
export { FaultyExec, type ExecFault } from './faulty-exec.js';
export { withFileSizeMax } from './file-size-limit.js';
export { diffManifests, manifestOf, type ManifestEntry, type ManifestOptions } from './manifest.js';
export { Random } from './random.js';
export type { TestKit } from './test-kit.js';
export { readXattrs, writeXattr } from '../xattrs.js';
