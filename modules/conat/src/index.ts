export {
  Broker,
  type BrokerMetrics,
  type BrokerOptions,
  type RevocationReason,
} from './broker/broker.js';
export { BrokerLimits, type BrokerLimitsInput } from './broker/limits.js';
export type { Connection, Transport } from './broker/connection.js';
export { Authenticator, ConnectOptions, type ConnectRequest } from './auth/authenticator.js';
export type { ConatIdentity, ConatPermissions, SubjectRules } from './auth/identity.js';
export { ConatErrors } from './conat.errors.js';
export {
  ConatClient,
  type ConatClientOptions,
  type ConatClientStatus,
  type ConatCredentials,
} from './client/conat-client.js';
export { SingleNetworkRouter, SubjectRouter } from './client/subject-router.js';
export {
  UpgradeDispatcher,
  refuseUpgrade,
  type UpgradeHandler,
  type UpgradeMatch,
} from './gateway/upgrade-dispatcher.js';
export { serve, ServiceServer, type ServeOptions } from './services/service-server.js';
export { createServiceClient } from './services/service-client.js';
export { serviceLimits, type ServiceLimits } from './services/service-limits.js';
