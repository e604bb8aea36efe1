/** The HTTP API: views and routes, shared by the hub that serves it and the SDK that calls it. */
export { api, apiPrefix, idempotencyHeader, type Api, type OperationName } from './api.js';
export { route, type Route, type RouteInput } from './route.js';
export {
  AccountName,
  AccountView,
  ApiKeyView,
  AuditView,
  BackupView,
  CollaboratorView,
  HostTrouble,
  HostCopyView,
  HostView,
  MoveView,
  OperationView,
  PageQuery,
  pageOf,
  PlacementView,
  Problem,
  ProjectBackupsView,
  ProjectView,
  QuotaInput,
  SessionView,
  Started,
} from './views.js';
/** What the API's answers and a project's streams are made of, from those who speak of it among themselves. */
export {
  projectStreams,
  type ExecControl,
  type ExecResult,
  SnapshotView,
} from '@rookery/fleet/contract';
