import type { EngineInput } from './engine-io.js';

/**
 * One account's JetStream: a synchronous state machine over its store. The runtime (a worker, or a
 * test) calls {@link handle} for each input of a batch, commits the store, and then lets out what
 * was said. It never commits itself and never waits.
 */
export abstract class Engine {
  abstract handle(input: EngineInput): void;
  /** Does what is due: redeliveries, expiries, heartbeats, ends of pull requests. */
  abstract wake(nowMs: number): void;
  /** When {@link wake} wants to be called next, or null. */
  abstract nextWakeMs(): number | null;
  /** The transaction failed and was rolled back: forgets what is in memory and reads it again. */
  abstract reload(): void;
  /** Answers an input whose transaction failed (disk full …), so that nobody waits in vain. */
  abstract refuse(input: EngineInput, error: Error): void;
  /** Nothing waits: no pull request, no push consumer with interest, nothing unacknowledged soon due. */
  abstract readonly idle: boolean;
  /**
   * At the end of a batch: gives the store what must be on disk with it.
   * @returns whether consumers' positions, which may wait otherwise, are among that
   */
  abstract beforeCommit(): boolean;
  /** The server stops: everybody who waits for messages is told. */
  abstract endPulls(): void;
  /** Before the account is closed: gives the store what is held back (consumers' positions). */
  abstract flush(): void;
}
