import {
  StreamStore,
  type AppendMessage,
  type Filters,
  type PurgeRange,
  type StoredConsumer,
  type StoredMessage,
  type StreamState,
  type SubjectCount,
} from '../engine/account-store.js';
import type { ConsumerTable } from './consumer-table.js';
import { decodeRecord, encodeRecord } from './record.js';
import { purgeMessages } from './purge.js';
import { MessageReader } from './message-reader.js';
import type { Statements } from './statements.js';
import { StoreCorruptError } from './store-errors.js';
import { StreamCounters } from './stream-counters.js';
import { SubjectTable } from './subject-table.js';
import type { WriteAheadRecord } from './write-ahead-log.js';

/** A message that was added to a stream and may not be in its table yet. */
export interface Addition extends WriteAheadRecord {
  readonly stream: SqliteStreamStore;
  readonly seq: number;
  readonly subject: number;
  readonly expiresMs: number | null;
}

/** What a stream needs of its account. */
export interface StreamHost {
  readonly statements: Statements;
  readonly consumers: ConsumerTable;
  /** Begins the transaction unless it is open. */
  begin(): void;
  /** A message joined the transaction; {@link SqliteStreamStore.insert} will be called for it. */
  appended(message: Addition): void;
  /** What is deleted until the end of the call is overwritten. */
  erasing(work: () => void): void;
  /** The stream's row has another configuration. */
  configured(id: number, config: string): void;
}

/** Messages that a stream's row may lag behind: so many are counted when the file is opened. */
const behindMax = 1_024;

type Removed = [subject: number, bytes: number, expiresMs: number | null];

/** One stream in the account's file. What is in memory always equals the open transaction. */
export class SqliteStreamStore extends StreamStore {
  readonly counters: StreamCounters;
  readonly subjectTable: SubjectTable;
  readonly reader: MessageReader;
  readonly table: string;
  /** When the next message expires; undefined: not known. */
  private nextExpiry: number | null | undefined;
  private readonly sqlInsert: string;
  private readonly sqlRemove: string;
  private readonly sqlState: string;

  constructor(
    private readonly host: StreamHost,
    readonly id: number,
    readonly name: string,
    private configText: string,
    readonly createdNs: bigint,
  ) {
    super();
    const { statements } = host;
    this.table = `message_${id}`;
    this.sqlInsert = `INSERT INTO ${this.table} (seq, subject, expires_ms, data) VALUES (?, ?, ?, ?)`;
    this.sqlRemove = `DELETE FROM ${this.table} WHERE seq = ?
      RETURNING subject, length(data), expires_ms`;
    this.sqlState = `INSERT OR REPLACE INTO stream_state
      (stream, first_seq, last_seq, messages, bytes, last_time_ns) VALUES (?, ?, ?, ?, ?, ?)`;
    this.subjectTable = new SubjectTable(statements, id);
    this.counters = new StreamCounters((seq) => this.reader.timeAt(seq)?.timeNs ?? 0n);
    this.reader = new MessageReader(statements, this.table, this.counters, this.subjectTable);
    this.load();
  }

  get state(): StreamState {
    return this.counters;
  }

  get config(): string {
    return this.configText;
  }

  override set config(config: string) {
    this.host.begin();
    this.host.configured(this.id, config);
    this.configText = config;
  }

  // Writing.

  append(message: AppendMessage): number {
    const { counters } = this;
    const seq = counters.lastSeq + 1;
    const record = encodeRecord(seq, message);
    const expiresMs = message.expiresAtMs ?? null;
    const subject = this.subjectTable.added(message.subject, seq);
    counters.appended(record.length, message.timeNs);
    const names = { streamId: this.id, streamCreatedNs: this.createdNs };
    this.host.appended({ stream: this, ...names, seq, subject, expiresMs, record });
    if (expiresMs !== null && this.nextExpiry !== undefined) {
      this.nextExpiry = Math.min(this.nextExpiry ?? Infinity, expiresMs);
    }
    return seq;
  }

  /** Puts an added message into the table. */
  insert({ seq, subject, expiresMs, record }: Addition): void {
    this.host.statements.runNow(this.sqlInsert, seq, subject, expiresMs, record);
  }

  remove(seq: number, erase = false): boolean {
    if (seq < this.counters.firstSeq || seq > this.counters.lastSeq) return false;
    this.host.begin();
    let removed: Removed | undefined;
    const remove = (): void => {
      removed = this.host.statements.row<Removed>(this.sqlRemove, seq);
    };
    if (erase) this.host.erasing(remove);
    else remove();
    if (!removed) return false;
    const [subject, bytes, expiresMs] = removed;
    if (expiresMs !== null) this.nextExpiry = undefined;
    this.subjectTable.removed(subject, seq);
    this.counters.removed(1, bytes, seq, () => this.reader.firstSeqFrom(seq + 1));
    return true;
  }

  purge(range: PurgeRange): number {
    this.host.begin();
    this.nextExpiry = undefined;
    return purgeMessages(this, this.host.statements, range);
  }

  // Reading.

  get(seq: number): StoredMessage | null {
    return this.reader.get(seq);
  }

  read(fromSeq: number, filters: Filters): IterableIterator<StoredMessage> {
    return this.reader.read(fromSeq, filters);
  }

  last(filter: string, upToSeq?: number): StoredMessage | null {
    const seq = this.reader.lastSeq(filter, upToSeq);
    return seq === 0 ? null : this.reader.get(seq);
  }

  lastSeqOf(subject: string): number {
    return this.subjectTable.find(subject)?.lastSeq ?? 0;
  }

  lastPerSubject(filters: Filters): number[] {
    return this.reader.lastPerSubject(filters);
  }

  count(fromSeq: number, filters: Filters): number {
    return this.reader.count(fromSeq, filters);
  }

  *subjects(filter: string): IterableIterator<SubjectCount> {
    for (const entry of this.subjectTable.matching(filter)) yield this.subjectTable.toCount(entry);
  }

  subjectCount(): number {
    return this.subjectTable.size;
  }

  seqAtTime(timeNs: bigint): number {
    return this.reader.seqAtTime(timeNs);
  }

  deletedSeqs(): number[] {
    return this.reader.deletedSeqs();
  }

  expired(nowMs: number, max: number): StoredMessage[] {
    const next = this.nextExpiryMs();
    if (next === null || next > nowMs) return [];
    return this.host.statements
      .values<Buffer>(
        `SELECT data FROM ${this.table} WHERE expires_ms <= ? ORDER BY expires_ms LIMIT ?`,
        nowMs,
        max,
      )
      .map((record) => decodeRecord(record, 0));
  }

  nextExpiryMs(): number | null {
    if (this.nextExpiry === undefined) {
      this.nextExpiry =
        this.host.statements.value<number | null>(
          `SELECT min(expires_ms) FROM ${this.table} WHERE expires_ms IS NOT NULL`,
        ) ?? null;
    }
    return this.nextExpiry;
  }

  // Consumers.

  consumers(): StoredConsumer[] {
    return this.host.consumers.list(this.id);
  }

  saveConsumer(name: string, config: string, createdNs: bigint): void {
    this.host.begin();
    this.host.consumers.save(this.id, name, config, createdNs);
  }

  saveConsumerState(name: string, state: Buffer): void {
    this.host.consumers.saveState(this.id, name, state);
  }

  deleteConsumer(name: string): void {
    this.host.begin();
    this.host.consumers.delete(this.id, name);
  }

  // The account's side.

  /** Before a commit: writes what has to be written with it. */
  settle(): void {
    const { counters, subjectTable } = this;
    if (counters.changed || counters.behind >= behindMax) this.catchUp();
    else subjectTable.flush();
  }

  /** True when the file does not count all messages. */
  get isBehind(): boolean {
    return this.counters.behind > 0;
  }

  /** Writes all that is only in memory yet; within the transaction. */
  catchUp(): void {
    const { counters } = this;
    // A message that the stream's row counts is not looked at again for its subject's.
    this.subjectTable.catchUp();
    if (!counters.changed && !this.isBehind) return;
    const { firstSeq, lastSeq, messages, bytes, lastTimeNs } = counters;
    const values = [this.id, firstSeq, lastSeq, messages, bytes, lastTimeNs];
    this.host.statements.run(this.sqlState, ...values);
    counters.written();
  }

  /** Takes everything from the file again. */
  load(): void {
    const { statements } = this.host;
    this.subjectTable.forget();
    this.nextExpiry = undefined;
    this.counters.load(
      statements.bigRows<[bigint, bigint, bigint, bigint, bigint]>(
        `SELECT first_seq, last_seq, messages, bytes, last_time_ns
         FROM stream_state WHERE stream = ?`,
        this.id,
      )[0],
    );
    this.configText =
      statements.value<string>('SELECT config FROM stream WHERE id = ?', this.id) ??
      this.configText;
    this.countOn();
  }

  /** Messages that were added since the state was written. */
  private countOn(): void {
    const { counters, subjectTable } = this;
    const rows = this.host.statements.rows<[number, number, number]>(
      `SELECT seq, subject, length(data) FROM ${this.table} WHERE seq > ? ORDER BY seq`,
      counters.lastSeq,
    );
    for (const [seq, subject, bytes] of rows) {
      if (seq !== counters.lastSeq + 1) {
        throw new StoreCorruptError(`message ${seq} follows message ${counters.lastSeq}`);
      }
      subjectTable.countOn(subject, seq);
      counters.appended(bytes, counters.lastTimeNs);
    }
    if (rows.length > 0) counters.lastTimeNs = this.reader.timeAt(counters.lastSeq)!.timeNs;
  }
}
