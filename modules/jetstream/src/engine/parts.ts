import type { StreamConfig } from './stream-config.js';
import type { AckInput, ApiInput, FlowControlInput, InterestInput } from './engine-io.js';
import type { StreamStore } from './account-store.js';

/**
 * The border between the engine's two halves: streams (API of streams, publishing, retention) and
 * consumers (API of consumers, delivery, acknowledgements). Each sees the other only as this.
 */

/** A stream as its consumers see it. */
export interface StreamHandle {
  readonly name: string;
  readonly config: Readonly<StreamConfig>;
  readonly store: StreamStore;
  /**
   * A consumer is done with a message. Work queues remove it; interest streams when nobody needs
   * it any more; others keep it.
   */
  acknowledged(seq: number): void;
}

/** All consumers of an account, as streams see them. */
export abstract class ConsumerSet {
  /** Reads a stream's consumers from its store (at start, and after a rollback). */
  abstract load(stream: StreamHandle): void;
  /** A message was stored: deliver it to those who wait. */
  abstract appended(stream: StreamHandle, seq: number, subject: string): void;
  /** Messages went (deleted, purged, expired, limits): pending ones are forgotten. */
  abstract removed(stream: StreamHandle, seqs: readonly number[] | 'many'): void;
  /** The stream's configuration changed. */
  abstract updated(stream: StreamHandle): void;
  /** The stream goes: its consumers too, and those who wait are told. */
  abstract deleted(stream: StreamHandle): void;
  /** For interest retention: is there a consumer that has not acknowledged this message? */
  abstract needs(stream: StreamHandle, seq: number, subject: string): boolean;
  abstract count(stream: StreamHandle): number;

  /** `CONSUMER.*` requests. The stream is null when there is none of that name. */
  abstract api(request: ApiInput, tokens: readonly string[]): void;
  abstract ack(input: AckInput): void;
  abstract flowControl(input: FlowControlInput): void;
  abstract interest(input: InterestInput): void;
  abstract wake(nowMs: number): void;
  abstract nextWakeMs(): number | null;
  abstract readonly idle: boolean;
  /** Gives the store the positions whose acknowledgements were confirmed. @returns are there any? */
  abstract beforeCommit(): boolean;
  /** Pull requests that wait are answered: the server stops. */
  abstract endPulls(): void;
  /** Gives the positions that it holds back to the store. */
  abstract flush(): void;
}

/** How the consumers' half finds streams. */
export interface StreamLookup {
  find(name: string): StreamHandle | null;
}
