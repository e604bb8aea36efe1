import type { SubjectCount } from '../engine/account-store.js';
import type { Statements } from './statements.js';
import { StoreCorruptError } from './store-errors.js';
import { subjectFilter, type SubjectFilter } from './subject-filter.js';

/** What is known of one subject of one stream. */
export interface SubjectEntry {
  readonly id: number;
  readonly subject: string;
  messages: number;
  /** 0: not known, see {@link SubjectTable.firstSeq}. */
  firstSeq: number;
  lastSeq: number;
}

type Row = [id: number, subject: string, messages: number, firstSeq: number, lastSeq: number];

const entriesMax = 65_536;
const pageRows = 1_024;

/**
 * The subjects of one stream with how many messages each has and which is its newest. What was
 * asked for is kept in memory; changes are written before a commit and before a query that needs
 * them, so a subject that gets a hundred messages in a batch is written once. A row may lag behind
 * messages that were only added: {@link countOn} tells it from the messages.
 */
export class SubjectTable {
  private readonly entries = new Map<string, SubjectEntry>();
  private readonly entriesById = new Map<number, SubjectEntry>();
  /** Counts how often the entries were dropped: who holds some over that must ask again. */
  private drops = 0;
  /** To be written with the transaction. */
  private readonly changed = new Set<SubjectEntry>();
  /** Entries that only got more messages, with the newest that their rows count. */
  private readonly behind = new Map<SubjectEntry, number>();
  private lastId: number | null = null;
  private total: number | null = null;
  private readonly table: string;
  private readonly messages: string;
  private readonly columns = 'id, subject, messages, first_seq, last_seq';
  private readonly sqlFind: string;
  private readonly sqlById: string;
  private readonly sqlSave: string;
  private readonly sqlDelete: string;
  private readonly sqlFirst: string;
  private readonly sqlLast: string;

  constructor(
    private readonly statements: Statements,
    streamId: number,
  ) {
    this.table = `subject_${streamId}`;
    this.messages = `message_${streamId}`;
    this.sqlFind = `SELECT ${this.columns} FROM ${this.table} WHERE subject = ?`;
    this.sqlById = `SELECT ${this.columns} FROM ${this.table} WHERE id = ?`;
    this.sqlSave = `INSERT INTO ${this.table} (${this.columns}) VALUES (?, ?, ?, ?, ?)
      ON CONFLICT (id) DO UPDATE SET messages = excluded.messages,
        first_seq = excluded.first_seq, last_seq = excluded.last_seq`;
    this.sqlDelete = `DELETE FROM ${this.table} WHERE id = ?`;
    this.sqlFirst = `SELECT min(seq) FROM ${this.messages} WHERE subject = ?`;
    this.sqlLast = `SELECT max(seq) FROM ${this.messages} WHERE subject = ?`;
  }

  find(subject: string): SubjectEntry | null {
    const known = this.entries.get(subject);
    if (known) return known.messages > 0 ? known : null;
    const row = this.statements.row<Row>(this.sqlFind, subject);
    return row ? this.remember(toEntry(row)) : null;
  }

  /** A message with this sequence was stored. @returns the subject's id */
  added(subject: string, seq: number): number {
    const known = this.entries.get(subject) ?? this.find(subject);
    if (!known) return this.create(subject, seq).id;
    if (known.messages === 0) {
      known.firstSeq = seq;
      this.count(1);
    }
    this.gained(known, seq);
    return known.id;
  }

  /** A message is in the file; its subject's row may count it or not. */
  countOn(id: number, seq: number): void {
    const entry = this.entriesById.get(id) ?? this.byId(id);
    if (!entry) throw new StoreCorruptError(`message ${seq} has no subject`);
    if (seq > entry.lastSeq) this.gained(entry, seq);
  }

  /** A message is gone from the messages' table. */
  removed(id: number, seq: number): void {
    const entry = this.entriesById.get(id) ?? this.byId(id);
    if (!entry) return;
    entry.messages -= 1;
    if (entry.messages <= 0) this.count(-1);
    else if (seq === entry.lastSeq) {
      entry.lastSeq = this.statements.value<number | null>(this.sqlLast, entry.id) ?? 0;
    }
    if (entry.messages === 1) entry.firstSeq = entry.lastSeq;
    else if (seq === entry.firstSeq) entry.firstSeq = 0;
    this.touch(entry);
  }

  /** Many of its messages went, or all. */
  recount(entry: SubjectEntry, messages: number): void {
    if (messages === 0 && entry.messages > 0) this.count(-1);
    entry.messages = messages;
    entry.firstSeq = 0;
    if (messages > 0) {
      entry.lastSeq = this.statements.value<number | null>(this.sqlLast, entry.id) ?? 0;
    }
    this.touch(entry);
  }

  /** After all messages below `seq` went, whatever their subject. */
  recountBelow(seq: number): void {
    this.catchUp();
    this.forget();
    this.statements.run(`DELETE FROM ${this.table} WHERE last_seq < ?`, seq);
    this.statements.run(
      `UPDATE ${this.table} SET
         messages = (SELECT count(*) FROM ${this.messages} WHERE subject = ${this.table}.id),
         first_seq = (SELECT min(seq) FROM ${this.messages} WHERE subject = ${this.table}.id)
       WHERE first_seq < ?`,
      seq,
    );
  }

  clear(): void {
    this.forget();
    this.statements.run(`DELETE FROM ${this.table}`);
  }

  firstSeq(entry: SubjectEntry): number {
    if (entry.firstSeq === 0) {
      entry.firstSeq = this.statements.value<number | null>(this.sqlFirst, entry.id) ?? 0;
    }
    return entry.firstSeq;
  }

  get size(): number {
    this.flush();
    return (this.total ??= this.statements.value<number>(`SELECT count(*) FROM ${this.table}`)!);
  }

  /** True when every subject in use matches. Cheap; false may also mean "not known". */
  coversAll(filter: SubjectFilter): boolean {
    if (!filter.exact || filter.literal) return false;
    if (filter.from === '') return true;
    this.flush();
    const range = this.statements.row<[string | null, string | null]>(
      `SELECT (SELECT min(subject) FROM ${this.table}), (SELECT max(subject) FROM ${this.table})`,
    )!;
    return range[0] !== null && range[0] >= filter.from && range[1]! < filter.to!;
  }

  /** Subjects that match, in the order of the alphabet; a page at a time, so that others may write. */
  *matching(filter: string): IterableIterator<SubjectEntry> {
    const parsed = subjectFilter(filter);
    if (parsed.literal) {
      const entry = this.find(filter);
      if (entry) yield entry;
      return;
    }
    const conditions = [
      'subject > ?',
      ...(parsed.to === null ? [] : ['subject < ?']),
      ...(parsed.glob === null ? [] : ['subject GLOB ?']),
    ];
    const sql = `SELECT ${this.columns} FROM ${this.table} WHERE ${conditions.join(' AND ')}
      ORDER BY subject LIMIT ${pageRows}`;
    let after = parsed.from;
    for (;;) {
      this.flush();
      const bounds = [after, parsed.to, parsed.glob].filter((value) => value !== null);
      const rows = this.statements.rows<Row>(sql, ...bounds);
      const { drops } = this;
      for (const row of rows) {
        const cached = this.entries.get(row[1]);
        const entry = cached ?? (drops === this.drops ? toEntry(row) : this.find(row[1]));
        if (entry && entry.messages > 0 && (parsed.exact || parsed.matches(row[1]))) yield entry;
      }
      if (rows.length < pageRows) return;
      after = rows[rows.length - 1]![1];
    }
  }

  toCount(entry: SubjectEntry): SubjectCount {
    const { subject, messages, lastSeq } = entry;
    return { subject, messages, firstSeq: this.firstSeq(entry), lastSeq };
  }

  /** Sequences of the newest message of each subject, ascending. */
  allLast(): number[] {
    this.flush();
    const sql = `SELECT last_seq FROM ${this.table} ORDER BY last_seq`;
    const written = this.statements.values<number>(sql);
    if (this.behind.size === 0) return written;
    const overtaken = new Set(this.behind.values());
    return written
      .filter((seq) => !overtaken.has(seq))
      .concat([...this.behind.keys()].map(({ lastSeq }) => lastSeq))
      .sort((a, b) => a - b);
  }

  /** Writes what changed, but not what lags behind. */
  flush(): void {
    if (this.changed.size === 0) return;
    for (const entry of this.changed) this.write(entry);
    this.changed.clear();
  }

  /** Writes what changed and what lags behind. */
  catchUp(): void {
    this.flush();
    for (const entry of this.behind.keys()) this.write(entry);
  }

  /** Drops what is in memory: the table says how it is. */
  forget(): void {
    this.changed.clear();
    this.behind.clear();
    this.drop();
    this.lastId = null;
    this.total = null;
  }

  private byId(id: number): SubjectEntry | null {
    const row = this.statements.row<Row>(this.sqlById, id);
    return row ? this.remember(toEntry(row)) : null;
  }

  private create(subject: string, seq: number): SubjectEntry {
    this.lastId ??= this.statements.value<number>(`SELECT ifnull(max(id), 0) FROM ${this.table}`)!;
    this.lastId += 1;
    const entry = { id: this.lastId, subject, messages: 1, firstSeq: seq, lastSeq: seq };
    this.count(1);
    return this.touch(this.remember(entry));
  }

  private gained(entry: SubjectEntry, seq: number): void {
    if (!this.behind.has(entry) && !this.changed.has(entry)) this.behind.set(entry, entry.lastSeq);
    entry.messages += 1;
    entry.lastSeq = seq;
  }

  private write(entry: SubjectEntry): void {
    const { id, subject, messages, firstSeq, lastSeq } = entry;
    this.behind.delete(entry);
    if (messages > 0) {
      this.statements.run(this.sqlSave, id, subject, messages, firstSeq, lastSeq);
      return;
    }
    this.statements.run(this.sqlDelete, id);
    this.entries.delete(subject);
    this.entriesById.delete(id);
  }

  private remember(entry: SubjectEntry): SubjectEntry {
    if (this.entries.size >= entriesMax) {
      this.flush();
      this.drop();
    }
    return this.keep(entry);
  }

  private keep(entry: SubjectEntry): SubjectEntry {
    this.entries.set(entry.subject, entry);
    this.entriesById.set(entry.id, entry);
    return entry;
  }

  /** Drops what the table says as well. */
  private drop(): void {
    this.entries.clear();
    this.entriesById.clear();
    for (const entry of this.behind.keys()) this.keep(entry);
    this.drops += 1;
  }

  private touch(entry: SubjectEntry): SubjectEntry {
    this.changed.add(entry);
    // It may come from a page that was read past the memory.
    if (this.entriesById.get(entry.id) !== entry) this.remember(entry);
    return entry;
  }

  private count(change: number): void {
    if (this.total !== null) this.total += change;
  }
}

const toEntry = ([id, subject, messages, firstSeq, lastSeq]: Row): SubjectEntry => ({
  id,
  subject,
  messages,
  firstSeq,
  lastSeq,
});
