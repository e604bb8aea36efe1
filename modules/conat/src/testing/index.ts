export {
  AllowAllAuthenticator,
  ProjectTokenAuthenticator,
  RootedAuthenticator,
  startTestBroker,
  type TestBroker,
  type TestBrokerOptions,
} from './test-broker.js';
export { loopback, type LoopbackOptions } from './loopback.js';
export { faultyClient, type FaultyClient, type ServiceFault } from './faulty-client.js';
export {
  natsServerMissing,
  NatsServerOracle,
  natsServerPath,
  type NatsServerOptions,
} from './nats-server.oracle.js';
export {
  accountStoreConformance,
  type AccountStoreUnderTest,
} from './account-store.conformance.js';
export { openTestStore } from './test-store.js';
