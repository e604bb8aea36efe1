export {
  RookeryClient,
  type ExecCall,
  type ExecRequest,
  type LogsCall,
  type LogsRequest,
  type RookeryClientOptions,
  type WaitOptions,
} from './sdk/rookery-client.js';
export type { ApiMethods } from './sdk/api-methods.js';
export { hasEnded, successOf, type WatchOptions } from './sdk/operations.js';
export type { ConatAccess, ConatConnection } from './sdk/conat-access.js';
export type { ConnectConat } from './sdk/project-streams.js';
export type { RequestOptions, TransportOptions } from './sdk/transport.js';
export { ClientErrors } from './sdk/client.errors.js';
