/** Schemas and types that every part of Rookery shares. Knows no NestJS. */
export {
  AccountId,
  DisplayName,
  HostId,
  MoveId,
  OperationId,
  PlacementGeneration,
  Port,
  ProjectId,
  RelativePath,
  SnapshotName,
  ImageTreeDigest,
  SshPublicKey,
} from './contract/ids.js';
export {
  Egress,
  EgressMode,
  EgressTarget,
  egressTargetsMax,
  egressWithin,
  parseEgressTarget,
} from './contract/egress.js';
export {
  CodedErrorView,
  Fence,
  Progress,
  ProjectSpec,
  MoveState,
  ProjectListener,
  ProjectState,
  Quota,
} from './contract/project.js';
export {
  accountOfSubject,
  AccessClaims,
  accessTokenSecondsMax,
  ProjectRole,
  VerificationKey,
} from './contract/access-token.js';
// Without Node's own modules, so that browsers can use them too.
export {
  catalogue,
  catalogueDefinitions,
  CodedError,
  CoreErrors,
  toCodedError,
  type Catalogue,
  type CatalogueDefinitions,
  type CodedErrorJson,
  type ErrorDefinition,
  type ErrorDetails,
  type ErrorFactory,
} from './errors.js';
export { parseInput } from './config.js';
export { backoffMs } from './retry.js';
