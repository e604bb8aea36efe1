import { createLogger } from '@rookery/core';
import { startTestBroker, type TestBroker, type TestBrokerOptions } from '@rookery/conat/testing';
import type { JetStreamAccount } from '../account.js';
import { JetStream, type JetStreamOptions } from '../jetstream.js';

export interface TestJetStreamOptions extends Omit<TestBrokerOptions, 'persistence'> {
  /** Persistence for these accounts; the others have none. */
  readonly jetStream: {
    readonly accounts: readonly JetStreamAccount[];
    readonly options?: Omit<JetStreamOptions, 'accounts'>;
  };
}

/** A real broker that keeps messages. */
export interface TestJetStream extends TestBroker {
  readonly jetStream: JetStream;
}

export async function startTestJetStream(options: TestJetStreamOptions): Promise<TestJetStream> {
  const { jetStream: persistence, ...network } = options;
  const jetStream = new JetStream({
    accounts: persistence.accounts,
    logger: createLogger('test-jetstream', 'silent'),
    ...persistence.options,
  });
  const broker = await startTestBroker({ ...network, persistence: jetStream });
  return { ...broker, jetStream };
}
