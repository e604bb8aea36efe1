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
export { TcpGate } from './gateway/tcp-gate.js';
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
export { configuredBroker } from './server-config/configured-broker.js';
export type { AccountConfig } from './server-config/accounts.js';
export { readServerConfig, type ServerConfig } from './server-config/server-config.js';
export { StandaloneAuthenticator } from './auth/standalone-authenticator.js';
export { Authenticator, ConnectOptions, type ConnectRequest } from './auth/authenticator.js';
export type { ConatIdentity, ConatPermissions, ReplyRules, SubjectRules } from './auth/identity.js';
export { provenNkey, sameSecret } from './auth/proofs.js';
export { ConatErrors } from './conat.errors.js';
export {
  ConatClient,
  type ConatClientOptions,
  type ConatClientStatus,
  type ConatCredentials,
} from './client/conat-client.js';
export type { SocketLike } from './client/dial-socket.js';
export { Persistence, type JetStreamQuota, type PersistentAccount } from './persistence.js';
export { ConatModule } from './conat.module.js';
export type { ConatOptions, ConatOptionsInput } from './conat.module-definition.js';
export { ConatWsAdapter } from './gateway/conat-ws.adapter.js';
