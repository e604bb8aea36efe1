/** The HTTP API: views and routes, shared by the hub that serves it and the SDK that calls it. */
export { api, apiPrefix, idempotencyHeader, type Api, type OperationName } from './contract/api.js';
export { route, type Route, type RouteInput } from './contract/route.js';
export {
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
} from './contract/views.js';
