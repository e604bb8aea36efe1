/** A message as it is stored. Times are nanoseconds since the epoch. */
export interface StoredMessage {
  readonly seq: number;
  readonly subject: string;
  readonly timeNs: bigint;
  /** The header block as it was sent (`NATS/1.0\r\n…`), or null. */
  readonly headers: Buffer | null;
  readonly payload: Buffer;
}

export interface AppendMessage {
  readonly subject: string;
  readonly timeNs: bigint;
  readonly headers: Buffer | null;
  readonly payload: Buffer;
  /** When it expires by its own TTL; absent: only with its stream's limits. */
  readonly expiresAtMs?: number;
}

/** Kept in memory and always equal to what the open transaction would commit. */
export interface StreamState {
  /** `lastSeq + 1` when the stream is empty, as a NATS server has it. */
  readonly firstSeq: number;
  readonly lastSeq: number;
  readonly messages: number;
  readonly bytes: number;
  /** 0n when nothing was ever stored. */
  readonly firstTimeNs: bigint;
  readonly lastTimeNs: bigint;
}

export interface SubjectCount {
  readonly subject: string;
  readonly messages: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
}

export interface StoredConsumer {
  readonly name: string;
  /** What the API part wrote; the store does not look into it. */
  readonly config: string;
  readonly createdNs: bigint;
  /** Positions; null before the first were saved. */
  readonly state: Buffer | null;
}

/** Subject filters of a reader; null reads everything. Wildcards as in NATS. */
export type Filters = readonly string[] | null;

export interface PurgeRange {
  readonly filter?: string;
  /** Only messages with a lower sequence. */
  readonly beforeSeq?: number;
  /** How many of the newest stay. */
  readonly keep?: number;
}

/**
 * One stream's messages and its consumers' positions. Synchronous: it is called in a worker
 * thread, inside the account's open transaction (writes begin one by themselves).
 */
export abstract class StreamStore {
  abstract readonly name: string;
  abstract readonly createdNs: bigint;
  /** What the API part wrote; the store does not look into it. */
  abstract config: string;
  abstract readonly state: StreamState;

  /** @returns its sequence, `state.lastSeq + 1` before the call */
  abstract append(message: AppendMessage): number;
  abstract get(seq: number): StoredMessage | null;
  /** Messages with `seq >= fromSeq` in order; stops when the caller stops. */
  abstract read(fromSeq: number, filters: Filters): IterableIterator<StoredMessage>;
  /** The newest message on a subject, which may have wildcards; at or before `upToSeq` if given. */
  abstract last(filter: string, upToSeq?: number): StoredMessage | null;
  /** Sequence of the newest message on exactly this subject; 0 for none. */
  abstract lastSeqOf(subject: string): number;
  /** Sequences of the newest message of each matching subject, ascending. */
  abstract lastPerSubject(filters: Filters): number[];
  /** How many messages have `seq >= fromSeq` and match. */
  abstract count(fromSeq: number, filters: Filters): number;
  /** Subjects in use that match. */
  abstract subjects(filter: string): IterableIterator<SubjectCount>;
  abstract subjectCount(): number;
  /** First message at or after a time; `lastSeq + 1` for none. */
  abstract seqAtTime(timeNs: bigint): number;
  /** Sequences that are gone between first and last, ascending. */
  abstract deletedSeqs(): number[];

  /** @returns false when it was not there. Erased content is overwritten (`secure_delete`). */
  abstract remove(seq: number, erase?: boolean): boolean;
  /** @returns how many went. Without a filter `firstSeq` moves on, also over an empty stream. */
  abstract purge(range: PurgeRange): number;
  /** Messages whose own TTL ended at or before `nowMs`, oldest expiry first. */
  abstract expired(nowMs: number, max: number): StoredMessage[];
  /** When the next message's own TTL ends, or null. */
  abstract nextExpiryMs(): number | null;

  abstract consumers(): StoredConsumer[];
  abstract saveConsumer(name: string, config: string, createdNs: bigint): void;
  /**
   * Positions. They join the transaction that is open or the next that is opened for another
   * reason, and are written at the latest when the account is flushed: losing some only means
   * that messages are delivered again.
   */
  abstract saveConsumerState(name: string, state: Buffer): void;
  abstract deleteConsumer(name: string): void;
}

/** One account's file. */
export abstract class AccountStore {
  abstract streams(): StreamStore[];
  abstract stream(name: string): StreamStore | null;
  abstract createStream(name: string, config: string, createdNs: bigint): StreamStore;
  abstract deleteStream(name: string): void;
  /** Bytes of all streams together. */
  abstract bytes(): number;

  /** True while there is something that {@link commit} would have to write. */
  abstract readonly dirty: boolean;
  /** Ends the open transaction; when it returns, it is on disk. */
  abstract commit(): void;
  abstract rollback(): void;
  /** Writes consumers' positions that wait, too. */
  abstract flush(): void;
  abstract close(): void;
}
