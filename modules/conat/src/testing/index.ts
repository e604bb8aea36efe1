export {
  AllowAllAuthenticator,
  MappedAuthenticator,
  spaceIdentity,
  startTestBroker,
  TokenAuthenticator,
  type TestBroker,
  type TestBrokerOptions,
} from './test-broker.js';
export { bodyLengths, bodyOf, headersOf, subjectLengths, subjectOf } from './lengths.js';
export { RawClient } from './raw-client.js';
export {
  natsServerMissing,
  NatsServerOracle,
  natsServerPath,
  type NatsServerOptions,
} from './nats-server.oracle.js';
