import type { Broker } from './broker/broker.js';

/** One isolated JetStream of a broker. */
export interface PersistentAccount {
  readonly id: string;
  /** In front of its subjects on the broker; '' for one that spans the whole broker. */
  readonly subjectPrefix: string;
  /** In front of the subjects of its API on the broker. */
  readonly apiPrefix: string;
}

/** As nats-server's limits of an account; what is left out has none. */
export interface JetStreamQuota {
  /** Of streams with `storage: memory`, which are counted apart. */
  readonly memoryBytesMax?: number;
  readonly storageBytesMax?: number;
  readonly streamsMax?: number;
  /** Of each stream. */
  readonly consumersMax?: number;
}

/**
 * Port: what keeps messages for a broker and answers JetStream's API there. `@rookery/jetstream` has
 * an implementation.
 */
export abstract class Persistence {
  /** Called once, before clients are let in: when it resolves, streams hear what is published. */
  abstract start(broker: Broker): Promise<void>;

  abstract accounts(): readonly PersistentAccount[];

  /** Accounts whose file was found damaged and put aside. */
  abstract damagedAccounts(): readonly string[];

  /** Of JetStream's API, as nats-server numbers it. */
  abstract readonly apiLevel: number;

  /** Called when the last client is gone. Repeating does no harm. */
  abstract close(): Promise<void>;
}
