export { Broker, type BrokerOptions, type RevocationReason } from './broker/broker.js';
export { BrokerLimits, type BrokerLimitsInput } from './broker/limits.js';
export {
  InternalClient,
  type InternalHandler,
  type InternalMessage,
  type InternalPublish,
} from './broker/internal-client.js';
export type { InterestListener } from './broker/interest.js';
export type { OutgoingBody } from './broker/outgoing-op.js';
export type { BrokerMetrics, TransportKind } from './broker/broker-metrics.js';
export type { Connection, Transport } from './broker/ports.js';
export { Fabric, type FabricHost, type FabricStatus } from './fabric/fabric.js';
export { InProcessFabric } from './fabric/in-process.fabric.js';
export { NatsFabric, type NatsFabricPorts } from './fabric/nats.fabric.js';
export { NatsFabricOptions, type NatsFabricOptionsInput } from './fabric/nats-options.js';
export { TcpListener, TcpOptions, type TcpAddress } from './gateway/tcp-listener.js';
export { TcpDoor } from './gateway/tcp-door.js';
export {
  serveBroker,
  type StandaloneOptions,
  type StandaloneServer,
} from './gateway/standalone.js';
export { brokerMetrics, brokerMetricsType, brokerRegistry } from './metrics/broker-registry.js';
export { mayReadMetrics } from './metrics/metrics-access.js';
export {
  UsersAuthenticator,
  type ServerUser,
  type UsersOptions,
} from './auth/users-authenticator.js';
export { configuredBroker, openAccounts } from './server-config/configured-broker.js';
export type { AccountConfig } from './server-config/accounts.js';
export { readServerConfig, type ServerConfig } from './server-config/server-config.js';
export { StandaloneAuthenticator } from './auth/standalone-authenticator.js';
export { Authenticator, ConnectOptions, type ConnectRequest } from './auth/authenticator.js';
export type { ConatIdentity, ConatPermissions, ReplyRules, SubjectRules } from './auth/identity.js';
export {
  NetworkAuthenticator,
  type NetworkAuthenticatorPorts,
} from './auth/network-authenticator.js';
export {
  accountPermissions,
  connectionPermissions,
  hostPermissions,
  hubPermissions,
  joiningHostPermissions,
  projectIdentity,
  projectPermissions,
  type ProjectAccess,
} from './auth/permissions.js';
export { joiningIdentityName, provenNkey, sameSecret } from './auth/proofs.js';
export { ConatErrors } from './conat.errors.js';
export {
  ConatClient,
  type ConatClientOptions,
  type ConatClientStatus,
  type ConatCredentials,
} from './client/conat-client.js';
export { projectOfSubject, SingleNetworkRouter, SubjectRouter } from './client/subject-router.js';
export {
  RoutedConatClient,
  type RoutedClientOptions,
  type RoutedRequestOptions,
} from './client/routed-client.js';
export type { RouteLimits } from './client/route-limits.js';
export { RouteSource } from './client/route-source.js';
export { createRoutedServiceClient } from './services/routed-service-client.js';
export {
  UpgradeDispatcher,
  refuseUpgrade,
  type UpgradeHandler,
  type UpgradeMatch,
} from './gateway/upgrade-dispatcher.js';
export { relayUpgrade, type UpgradeRelayOptions } from './gateway/upgrade-relay.js';
export { ConatModule } from './conat.module.js';
export type { ConatOptions, ConatOptionsInput } from './conat.module-definition.js';
export { ConatWsAdapter } from './gateway/conat-ws.adapter.js';
export { relayDuplex } from './services/relay.js';
export { serve, ServiceServer, type ServeOptions } from './services/service-server.js';
export { createServiceClient } from './services/service-client.js';
export { serviceLimits, type ServiceLimits } from './services/service-limits.js';
export {
  projectAccount,
  rootAccount,
  type JetStreamAccount,
  type JetStreamQuota,
} from './jetstream/account.js';
export { AccountDirectory, RootAccountDirectory } from './jetstream/account-directory.js';
export { JetStream, type JetStreamOptions } from './jetstream/jetstream.js';
export type { AccountStatus } from './jetstream/account-door.js';
