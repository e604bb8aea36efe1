export { ProxyErrors } from './proxy.errors.js';
export { ProxyLimits } from './limits.js';
export { answersLast } from './http/last-answer.js';
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
export { cookiesNamed } from './http/cookies.js';
export { AppsUrl, ProjectOrigins, type OriginName } from './origins/project-origins.js';
export type { OriginAccess } from './origins/browser-access.js';
export { redeemPath, sessionCookieOf } from './origins/origin-sign-in.js';
export {
  peerAddress,
  TrustedProxies,
  TrustedProxyList,
  type ClientOrigin,
} from './http/trusted-proxies.js';
export { HubProxy, type HubProxyDependencies } from './hub/hub-proxy.js';
export {
  OriginSessions,
  RequestAuthenticator,
  RouteResolver,
  TokenSource,
  type OriginSession,
  type Principal,
  type ProjectRoute,
  type TokenRequest,
} from './hub/hub-proxy.ports.js';
export { CachingTokenSource } from './hub/caching-token-source.js';
export { HostIngress, type HostIngressDependencies } from './host/host-ingress.js';
export { MemoryRouteTable, RouteTable, type HostRoute } from './host/route-table.js';
export { SshIngress, type SshIngressDependencies } from './ssh/ssh-ingress.js';
export {
  ProjectSshHandler,
  TransferAuthorizer,
  TransferReceiver,
  type IncomingTransfer,
} from './ssh/ssh-ingress.ports.js';
export {
  TransferConnection,
  TransferSender,
  type SendOptions,
  type TransferIdentity,
  type TransferTarget,
} from './ssh/transfer-sender.js';
export {
  generateSshKeyPair,
  opensshPrivateKey,
  sshPublicKeyOf,
  type SshKeyPair,
} from './ssh/ssh-keys.js';
export { SshLimits } from './ssh/ssh-limits.js';
export { ProxyRole } from './http/proxy-role.js';
export { ProxyModule, type ProxyModuleOptions } from './proxy.module.js';
