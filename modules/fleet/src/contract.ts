/** What a hub and its hosts say to each other: all services, subjects and names. Knows no NestJS. */
export {
  BackupRecord,
  nameTag,
  nameOfTags,
  RepositoryView,
  BackupId,
  hostBackups,
} from './contract/backups.js';
export { ContainerStats, WindowSize, ExecInput } from './contract/containers.js';
export {
  HostCapabilities,
  HostCapacity,
  IdentityPublicKey,
  hostRegistration,
  credentialsMax,
  ImageTreeReport,
  imageTreesMax,
  endedMovesMax,
  ProjectReport,
  reportPage,
  ReportSpan,
  hostReports,
  hostAccess,
  ProjectCopy,
  hostCopies,
} from './contract/hosts.js';
export {
  projectSpaceRoot,
  identityNames,
  hostOfIdentity,
  accountOfIdentity,
} from './contract/identities.js';
export {
  MoveStream,
  landingItem,
  MoveManifest,
  MoveTarget,
  moveSource,
  moveDestination,
  receiveCommand,
  transferLogin,
} from './contract/moves.js';
export {
  HostProjectView,
  ExecResult,
  ExecControl,
  LogsInput,
  hostProjects,
  projectStreams,
} from './contract/projects.js';
export { ProjectRoute, projectRoutes, RouteChange, routeChangeSubject } from './contract/routes.js';
export { SnapshotView, VolumeUsage, hostSnapshots } from './contract/snapshots.js';
