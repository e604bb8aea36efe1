export {
  catalogue,
  catalogueDefinitions,
  CodedError,
  CoreErrors,
  abortedBy,
  toCodedError,
  type Catalogue,
  type CatalogueDefinitions,
  type CodedErrorJson,
  type ErrorDefinition,
  type ErrorDetails,
  type ErrorFactory,
} from './errors.js';
export { newId, newSecret } from './ids.js';
export {
  anyLinkPrefix,
  hostCgroup,
  hostNetworkNames,
  hostRouteProtocol,
  hostTag,
  type HostNetworkNames,
} from './host-tag.js';
export { IdClaims, idClaimsDir, idsPerProject, LockedIdClaims } from './id-claims.js';
export { ipRange, ipText, rangeHolds, rangesOverlap, type IpRange } from './ip-range.js';
export { NetworkErrors } from './network.errors.js';
export {
  LockedClaims,
  NetworkClaims,
  networkClaimsDir,
  type NetworkClaim,
  type NetworkHolder,
} from './network-claims.js';
export { counted, formatBytes, GiB, KiB, MiB, parseBytes, TiB } from './units.js';
export { syncFolder, writeFileAtomic, type AtomicFileOptions } from './atomic-file.js';
export { parseMounts, readMounts, type Mount } from './mounts.js';
export { bearerToken } from './bearer-token.js';
export { Reverter } from './reverter.js';
export { KeyedLock, SingleFlight } from './keyed-lock.js';
export { Clock, SystemClock } from './clock.js';
export { backoffMs, waitFor, type BackoffOptions } from './retry.js';
export {
  Exec,
  SystemExec,
  type ExecOptions,
  type ExecResult,
  type ProcessEnd,
  type SpawnedProcess,
  type SpawnOptions,
} from './exec.js';
export { machineMemoryBytes, projectMemoryBytes } from './machine-memory.js';
export { oomScore, protectFromOom } from './oom-score.js';
export { spawnPty, type PtyProcess, type PtySize } from './exec-pty.js';
export { createLogger, type Logger } from './logger.js';
export { parseConfig, parseInput } from './config.js';
export { AccessTokenMinter, AccessTokenVerifier, type AccessGrant } from './access-token.js';
export { identifyProcess, isProcessAlive, type ProcessIdentity } from './process-identity.js';
export {
  exitUnrecoverable,
  onSupervisorGone,
  startDetached,
  supervisedLogBytesMax,
  Supervisor,
  tellSupervisor,
  type ChildEnd,
  type DetachedProcess,
  type SupervisedCommand,
  type SupervisorEvent,
  type SupervisorOptions,
  type SupervisorState,
} from './supervise.js';
export { fdPath, openBeneath, openPathFlags, withBeneath, type BeneathOptions } from './beneath.js';
export {
  ioctl,
  linkSocket,
  mkdirAt,
  nextData,
  renameAt,
  renameExchange,
  tryFileLock,
  unlinkAt,
} from './syscalls.js';
export { allXattrs, readXattrs } from './xattrs.js';
export { attachMount, cloneMount, mapMountIds } from './mount-syscalls.js';
export {
  refuseUpgrade,
  UpgradeDispatcher,
  type UpgradeHandler,
  type UpgradeMatch,
} from './upgrade-dispatcher.js';
export { relayUpgrade, type UpgradeRelayOptions } from './upgrade-relay.js';
