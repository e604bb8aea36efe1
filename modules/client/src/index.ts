export {
  RookeryClient,
  type ExecCall,
  type ExecRequest,
  type LogsCall,
  type LogsRequest,
  type RookeryClientOptions,
  type WaitOptions,
} from './rookery-client.js';
export type { ApiMethods } from './api-methods.js';
export { hasEnded, successOf, type WatchOptions } from './operations.js';
export type { ConatAccess, ConatConnection } from './conat-access.js';
export type { ConnectConat } from './project-streams.js';
export type { RequestOptions, TransportOptions } from './transport.js';
export { ClientErrors } from './client.errors.js';
