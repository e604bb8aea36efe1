import { closeSync, openSync, readSync, statSync } from 'node:fs';
import Sqlite, { type Database } from 'better-sqlite3';
import { AccountStore, type StreamStore } from '../engine/account-store.js';
import { ConsumerTable } from './consumer-table.js';
import { createStreamTables, dropStreamTables, migrate } from './migrations.js';
import { SqliteStreamStore, type Addition, type StreamHost } from './sqlite-stream.store.js';
import { decodeWhole } from './record.js';
import { Statements } from './statements.js';
import { StoreCorruptError } from './store-errors.js';
import { WriteAheadLog, tailBatchBytesMax } from './write-ahead-log.js';

export interface SqliteAccountStoreOptions {
  /**
   * `full`: what was committed is on disk when `commit` returns. `off` is for tests that prove
   * that this matters.
   */
  readonly synchronous?: 'full' | 'off';
}

/** Another process may be about to end. */
const lockWaitMs = 1_000;
/** Pages that one connection keeps in memory, in KiB. */
const cacheKiB = 8 * 1024;
/** The write-ahead log shrinks to this after it was written back. */
const logBytesKept = 8 * 1024 * 1024;
/** With so many pages in the log it is worth writing them back. */
const checkpointPages = 4_096;
/** How much is written between two looks at the log's size. */
const lookEveryBytes = 1024 * 1024;
const lookEveryCommits = 64;
/** A larger file is not read through after an unclean end: its pages are checked as they are read. */
const checkedBytesMax = 64 * 1024 * 1024;
/** Free pages above which some are given back to the file system. */
const freePagesMax = 1_024;
const freePagesStep = 4_096;

/**
 * An account's file: SQLite with a write-ahead log that is fsynced by each commit. One connection
 * holds it exclusively, so that two processes never share it by mistake and no shared memory is
 * needed. The log is written back (`checkpoint`) apart from commits, by whoever runs the store.
 * A few messages are put on disk by the {@link WriteAheadLog} in front of it: then they join the database
 * when somebody looks, in a transaction that stays open over several of this store's commits.
 */
export class SqliteAccountStore extends AccountStore {
  private readonly database: Database;
  private readonly statements: Statements;
  private readonly consumerTable: ConsumerTable;
  private readonly host: StreamHost;
  private byName = new Map<string, SqliteStreamStore>();
  private tail: WriteAheadLog | null = null;
  /** Something was done since the last commit; more than adding messages, if `structural`. */
  private open = false;
  private structural = false;
  /** Messages added since the last commit. */
  private added: Addition[] = [];
  private addedBytes = 0;
  /** Messages that are not in their tables yet: a reader, or a commit of the file, puts them there. */
  private unwritten: Addition[] = [];
  private erased = false;
  private sinceLook = { commits: 0, bytes: 0 };

  /**
   * Opens the file, or makes it.
   * @throws StoreCorruptError, or what SQLite says
   */
  constructor(file: string, options: SqliteAccountStoreOptions = {}) {
    super();
    const fresh = !requireHeader(file);
    this.database = new Sqlite(file, { timeout: lockWaitMs });
    try {
      this.prepare(fresh, options);
      // Behind the lock: until it was given, another process may have gone on writing.
      if (file !== ':memory:') this.takeOver(file, options.synchronous !== 'off');
      migrate(this.database);
      this.statements = new Statements(this.database, () => this.writeAdded());
      this.consumerTable = new ConsumerTable(this.statements);
      this.host = this.makeHost();
      this.load();
      this.addTail();
    } catch (error) {
      this.database.close();
      throw error;
    }
  }

  streams(): StreamStore[] {
    return [...this.byName.values()];
  }

  stream(name: string): StreamStore | null {
    return this.byName.get(name) ?? null;
  }

  createStream(name: string, config: string, createdNs: bigint): StreamStore {
    this.begin();
    // Counted on, so that a prepared statement never meets another stream's table.
    const id = this.statements.value<number>('SELECT ifnull(max(id), 0) + 1 FROM stream')!;
    this.statements.run(
      'INSERT INTO stream (id, name, config, created_ns) VALUES (?, ?, ?, ?)',
      id,
      name,
      config,
      createdNs,
    );
    createStreamTables(this.database, id);
    const stream = new SqliteStreamStore(this.host, id, name, config, createdNs);
    stream.counters.changed = true;
    this.byName.set(name, stream);
    return stream;
  }

  deleteStream(name: string): void {
    const stream = this.byName.get(name);
    if (!stream) return;
    this.begin();
    this.byName.delete(name);
    this.consumerTable.streamDeleted(stream.id);
    this.forgetStatements(stream.id);
    this.statements.run('DELETE FROM stream WHERE id = ?', stream.id);
    dropStreamTables(this.database, stream.id);
  }

  bytes(): number {
    let bytes = 0;
    for (const stream of this.byName.values()) bytes += stream.counters.bytes;
    return bytes;
  }

  get dirty(): boolean {
    return this.open;
  }

  /** True when consumers' positions wait for {@link flush}. */
  get hasPositions(): boolean {
    return this.consumerTable.hasWaiting;
  }

  commit(): void {
    if (!this.open) return;
    if (this.structural || !this.tail?.append(this.added)) this.commitFile();
    this.settled();
  }

  rollback(): void {
    this.unwritten = [];
    // SQLite ends the transaction by itself when it fails for want of room.
    if (this.database.inTransaction) this.database.exec('ROLLBACK');
    this.load();
    this.addTail();
  }

  /** Writes what commits leave for later: consumers' positions and counts. */
  flush(): void {
    const behind = [...this.byName.values()].filter((stream) => stream.isBehind);
    if (behind.length > 0 || this.hasPositions || this.isAhead) this.begin();
    for (const stream of behind) stream.catchUp();
    this.commit();
  }

  /** Writes the log back when it has grown large. Call it between commits. */
  checkpointIfLarge(): void {
    const { commits, bytes } = this.sinceLook;
    if (this.isAhead) return;
    if (commits < lookEveryCommits && bytes < lookEveryBytes) return;
    this.sinceLook = { commits: 0, bytes: 0 };
    const [state] = this.database.pragma('wal_checkpoint(NOOP)') as { log: number }[];
    if (state && state.log >= checkpointPages) this.database.pragma('wal_checkpoint(PASSIVE)');
  }

  /** For quiet times: writes the log back and gives free space back to the file system. */
  tidy(): void {
    this.flush();
    const free = this.database.pragma('freelist_count', { simple: true }) as number;
    if (free > freePagesMax) this.database.pragma(`incremental_vacuum(${freePagesStep})`);
    // What was erased still stands in the log until that is cut off.
    this.checkpoint(this.erased ? 'TRUNCATE' : 'PASSIVE');
  }

  /** Closes it so that the one file holds everything. */
  fold(): void {
    if (this.open) this.rollback();
    this.flush();
    this.checkpoint('TRUNCATE');
    // While the file is locked: whoever opens it next writes a tail of its own.
    this.tail?.remove();
    this.abandon();
  }

  private checkpoint(mode: 'PASSIVE' | 'TRUNCATE'): void {
    this.database.pragma(`wal_checkpoint(${mode})`);
    if (mode === 'TRUNCATE') this.erased = false;
  }

  /** Uncommitted work is lost; positions that wait are written. */
  close(): void {
    if (!this.database.open) return;
    try {
      if (this.open) this.rollback();
      this.flush();
      if (this.erased) this.checkpoint('TRUNCATE');
    } finally {
      this.abandon();
    }
  }

  /** Ends without writing anything: for a file that is corrupt. */
  abandon(): void {
    try {
      this.tail?.close();
    } finally {
      // Whatever else fails, the file must not stay locked.
      this.database.close();
    }
  }

  private prepare(fresh: boolean, { synchronous = 'full' }: SqliteAccountStoreOptions): void {
    const { database } = this;
    database.pragma('locking_mode = EXCLUSIVE');
    // It cannot be chosen once the file has a page; and saying it again would be a write.
    if (fresh) database.pragma('auto_vacuum = INCREMENTAL');
    database.pragma('journal_mode = WAL');
    database.pragma(`synchronous = ${synchronous}`);
    database.pragma('wal_autocheckpoint = 0');
    database.pragma(`journal_size_limit = ${logBytesKept}`);
    database.pragma(`cache_size = -${cacheKiB}`);
    database.pragma('foreign_keys = ON');
    database.pragma('temp_store = MEMORY');
    database.pragma('cell_size_check = ON');
    // Locked from here on, until it is closed.
    database.exec('BEGIN IMMEDIATE; COMMIT');
  }

  /** What a process before this one left. */
  private takeOver(file: string, synchronous: boolean): void {
    this.tail = new WriteAheadLog(`${file}-tail`, synchronous);
    if (endedUncleanly(file) || this.tail.isLeft) this.check(file);
  }

  private check(file: string): void {
    if (statSync(file).size > checkedBytesMax) return;
    const verdict = this.database.pragma('quick_check(1)', { simple: true });
    if (verdict !== 'ok') throw new StoreCorruptError(`the file is damaged: ${String(verdict)}`);
  }

  private makeHost(): StreamHost {
    return {
      statements: this.statements,
      consumers: this.consumerTable,
      begin: () => this.begin(),
      appended: (message) => this.appended(message),
      configured: (id, config) =>
        this.statements.run('UPDATE stream SET config = ? WHERE id = ?', config, id),
      erasing: (work) => {
        this.erased = true;
        this.database.pragma('secure_delete = ON');
        try {
          work();
        } finally {
          this.database.pragma('secure_delete = OFF');
        }
      },
    };
  }

  private begin(): void {
    this.writeAdded();
    this.beginTransaction();
    this.open = true;
    this.structural = true;
  }

  private beginTransaction(): void {
    if (!this.database.inTransaction) this.database.exec('BEGIN IMMEDIATE');
  }

  /** There are messages that no commit of the file has. */
  private get isAhead(): boolean {
    return this.unwritten.length > 0 || this.database.inTransaction;
  }

  private writeAdded(): void {
    const { unwritten } = this;
    if (unwritten.length === 0) return;
    this.unwritten = [];
    this.beginTransaction();
    for (const message of unwritten) message.stream.insert(message);
  }

  private appended(message: Addition): void {
    this.open = true;
    this.unwritten.push(message);
    this.sinceLook.bytes += message.record.length;
    this.addedBytes += message.record.length;
    // The tail would not take them: they are not kept for it.
    if (this.addedBytes > tailBatchBytesMax) this.structural = true;
    if (this.structural) this.writeAdded();
    else this.added.push(message);
  }

  private commitFile(): void {
    this.writeAdded();
    for (const stream of this.byName.values()) stream.settle();
    this.consumerTable.flush();
    this.database.exec('COMMIT');
    this.consumerTable.written();
    this.tail?.clear();
    this.sinceLook.commits += 1;
  }

  /** What is done from now on is another transaction to whoever runs the store. */
  private settled(): void {
    this.open = false;
    this.structural = false;
    this.added = [];
    this.addedBytes = 0;
  }

  /** Adds what the tail has and the file has not, in a transaction that stays open. */
  private addTail(): void {
    const streams = new Map([...this.byName.values()].map((stream) => [stream.id, stream]));
    for (const { streamId, streamCreatedNs, record } of this.tail?.read() ?? []) {
      const message = decodeWhole(record);
      const stream = streams.get(streamId);
      if (stream?.createdNs !== streamCreatedNs) continue;
      if (message.seq <= stream.state.lastSeq) continue;
      if (message.seq !== stream.state.lastSeq + 1) {
        throw new StoreCorruptError(`no message of ${stream.name} before message ${message.seq}`);
      }
      stream.append(message);
    }
    this.settled();
  }

  /** Streams as the file has them. Those that stay keep their object. */
  private load(): void {
    const before = this.byName;
    this.byName = new Map();
    const rows = this.statements.bigRows<[bigint, string, string, bigint]>(
      'SELECT id, name, config, created_ns FROM stream ORDER BY id',
    );
    for (const [bigId, name, config, createdNs] of rows) {
      const id = Number(bigId);
      const known = before.get(name);
      if (known?.id === id) known.load();
      else this.forgetStatements(id);
      const stream =
        known?.id === id ? known : new SqliteStreamStore(this.host, id, name, config, createdNs);
      this.byName.set(name, stream);
    }
    for (const stream of before.values()) {
      if (this.byName.get(stream.name) !== stream) this.forgetStatements(stream.id);
    }
  }

  private forgetStatements(id: number): void {
    this.statements.forget(`message_${id} `);
    this.statements.forget(`subject_${id} `);
  }
}

/** A store that was closed has no log. */
const endedUncleanly = (file: string): boolean =>
  (statSync(`${file}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0;

const header = 'SQLite format 3\0';

/**
 * SQLite takes a file whose first bytes are gone for an empty one in some cases; a file that is
 * not empty has to say what it is. @returns false when there is nothing yet
 */
function requireHeader(file: string): boolean {
  const size = file === ':memory:' ? 0 : (statSync(file, { throwIfNoEntry: false })?.size ?? 0);
  if (size === 0) return false;
  const found = Buffer.alloc(header.length);
  const fd = openSync(file, 'r');
  try {
    readSync(fd, found, 0, found.length, 0);
  } finally {
    closeSync(fd);
  }
  if (found.toString('latin1') === header) return true;
  throw new StoreCorruptError('the file is no SQLite database');
}
