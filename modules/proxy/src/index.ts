export { ProxyErrors } from './proxy.errors.js';
export { ProxyLimits } from './limits.js';
export {
  isProjectUrl,
  parseProjectPath,
  type ProjectPath,
  type ProjectPathRedirect,
} from './project-path.js';
export {
  attachProxy,
  createIngressServer,
  hardenServer,
  type AttachableProxy,
  type AttachOptions,
} from './attach.js';
export type { ConnectionFilter } from './http/connections.js';
export { HubProxy, type HubProxyParts } from './hub/hub-proxy.js';
export {
  RequestAuthenticator,
  RouteResolver,
  TokenSource,
  type Principal,
  type ProjectRoute,
  type TokenRequest,
} from './hub/hub-proxy.ports.js';
export { CachingTokenSource } from './hub/caching-token-source.js';
export { HostIngress, type HostIngressParts } from './host/host-ingress.js';
export { MemoryRouteTable, RouteTable, type HostRoute } from './host/route-table.js';
