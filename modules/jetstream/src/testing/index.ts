export {
  accountStoreConformance,
  type AccountStoreUnderTest,
} from './account-store.conformance.js';
export { openTestStore } from './test-store.js';
export {
  startTestJetStream,
  type TestJetStream,
  type TestJetStreamOptions,
} from './test-jetstream.js';
