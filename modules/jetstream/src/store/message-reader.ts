import type { Filters, StoredMessage } from '../engine/account-store.js';
import { decodeRecord, recordLength, timeOffset } from './record.js';
import type { Statements } from './statements.js';
import type { StreamCounters } from './stream-counters.js';
import { subjectFilter } from './subject-filter.js';
import type { SubjectEntry, SubjectTable } from './subject-table.js';

/** Messages that one query brings: few at first, since many readers stop early. */
const firstRows = 8;
const rowsMax = 128;
/** As many messages of average size as fit in here. */
const chunkBytes = 512 * 1024;
/** Up to so many subjects are read by their index; more are picked out of all messages. */
const indexedSubjectsMax = 16;
/** Up to so many messages are counted one by one. */
const countRowsMax = 4_096;

/** Reads one stream's messages. Never holds a query open, so that its caller may write meanwhile. */
export class MessageReader {
  private readonly sqlGet: string;
  private readonly sqlChunk: string;
  private readonly sqlSubjectChunk: string;
  private readonly sqlTime: string;

  constructor(
    private readonly statements: Statements,
    private readonly table: string,
    private readonly counters: StreamCounters,
    private readonly subjects: SubjectTable,
  ) {
    // The records are glued into one value: a value of its own for each takes four times as long.
    const glued = (where: string): string =>
      `SELECT CAST(group_concat(data, '') AS BLOB) FROM
         (SELECT data FROM ${table} WHERE ${where} ORDER BY seq LIMIT ?)`;
    this.sqlGet = `SELECT data FROM ${table} WHERE seq = ?`;
    this.sqlChunk = glued('seq >= ?');
    this.sqlSubjectChunk = glued('subject = ? AND seq >= ?');
    this.sqlTime = `SELECT seq, substr(data, ${timeOffset + 1}, 8) FROM ${table}
      WHERE seq >= ? ORDER BY seq LIMIT 1`;
  }

  get(seq: number): StoredMessage | null {
    if (seq < this.counters.firstSeq || seq > this.counters.lastSeq) return null;
    const record = this.statements.value<Buffer>(this.sqlGet, seq);
    return record ? decodeRecord(record, 0) : null;
  }

  read(fromSeq: number, filters: Filters): IterableIterator<StoredMessage> {
    const wanted = this.narrow(filters);
    if (!wanted) return this.readChunks(this.sqlChunk, [], fromSeq);
    const entries = this.entriesUpTo(wanted, indexedSubjectsMax);
    if (!entries) return this.readMatching(fromSeq, wanted);
    const readers = entries.map(({ id }) => this.readChunks(this.sqlSubjectChunk, [id], fromSeq));
    return readers.length === 1 ? readers[0]! : merged(readers);
  }

  /** Sequence of the newest match, 0 for none. */
  lastSeq(filter: string, upToSeq = Infinity): number {
    const parsed = subjectFilter(filter);
    if (this.subjects.coversAll(parsed)) return this.lastSeqUpTo(upToSeq);
    let newest = 0;
    for (const entry of this.subjects.matching(filter)) {
      if (entry.lastSeq <= newest) continue;
      const seq =
        entry.lastSeq <= upToSeq
          ? entry.lastSeq
          : (this.statements.value<number | null>(
              `SELECT max(seq) FROM ${this.table} WHERE subject = ? AND seq <= ?`,
              entry.id,
              upToSeq,
            ) ?? 0);
      newest = Math.max(newest, seq);
    }
    return newest;
  }

  lastPerSubject(filters: Filters): number[] {
    const wanted = this.narrow(filters);
    if (!wanted) return this.subjects.allLast();
    const seqs = new Set<number>();
    for (const filter of wanted) {
      for (const entry of this.subjects.matching(filter)) seqs.add(entry.lastSeq);
    }
    return [...seqs].sort((a, b) => a - b);
  }

  count(fromSeq: number, filters: Filters): number {
    const { counters } = this;
    if (fromSeq > counters.lastSeq) return 0;
    const wanted = this.narrow(filters);
    if (!wanted) return this.countAll(fromSeq);
    const counted = new Set<number>();
    let count = 0;
    for (const filter of wanted) {
      for (const entry of this.subjects.matching(filter)) {
        if (entry.lastSeq < fromSeq || counted.has(entry.id)) continue;
        if (wanted.length > 1) counted.add(entry.id);
        count += this.countOf(entry, fromSeq);
      }
    }
    return count;
  }

  /** First sequence at or behind `seq`, null for none. */
  firstSeqFrom(seq: number): number | null {
    return this.statements.value<number | null>(
      `SELECT min(seq) FROM ${this.table} WHERE seq >= ?`,
      seq,
    )!;
  }

  /** First message at or behind `seq` with its time. */
  timeAt(seq: number): { seq: number; timeNs: bigint } | null {
    const row = this.statements.row<[number, Buffer]>(this.sqlTime, seq);
    return row ? { seq: row[0], timeNs: row[1].readBigUInt64LE(0) } : null;
  }

  /** Times ascend with the sequences, so halving finds it. */
  seqAtTime(timeNs: bigint): number {
    let low = this.counters.firstSeq;
    let high = this.counters.lastSeq + 1;
    while (low < high) {
      const middle = low + Math.floor((high - low) / 2);
      const found = this.timeAt(middle);
      if (!found || found.timeNs >= timeNs) high = middle;
      else low = found.seq + 1;
    }
    return this.firstSeqFrom(low) ?? this.counters.lastSeq + 1;
  }

  deletedSeqs(): number[] {
    const { counters } = this;
    if (counters.messages === 0 || counters.gapless) return [];
    const deleted: number[] = [];
    // A last message that was removed leaves a gap that no later message closes.
    const gaps = this.statements.rows<[number, number]>(
      `SELECT previous, seq FROM
         (SELECT seq, lag(seq) OVER (ORDER BY seq) AS previous FROM ${this.table})
       WHERE seq > previous + 1
       UNION ALL SELECT max(seq), ? FROM ${this.table}`,
      counters.lastSeq + 1,
    );
    for (const [previous, next] of gaps) {
      for (let seq = previous + 1; seq < next; seq += 1) deleted.push(seq);
    }
    return deleted;
  }

  /** Null when the filters let everything through. */
  private narrow(filters: Filters): readonly string[] | null {
    if (!filters || filters.length === 0) return null;
    return filters.some((filter) => this.subjects.coversAll(subjectFilter(filter)))
      ? null
      : filters;
  }

  /** The subjects that match, or null when there are more than `max`. */
  private entriesUpTo(filters: readonly string[], max: number): SubjectEntry[] | null {
    const entries = new Map<number, SubjectEntry>();
    for (const filter of filters) {
      for (const entry of this.subjects.matching(filter)) {
        if (entries.size >= max) return null;
        entries.set(entry.id, entry);
      }
    }
    return [...entries.values()];
  }

  private *readMatching(
    fromSeq: number,
    filters: readonly string[],
  ): IterableIterator<StoredMessage> {
    if (fromSeq > this.counters.lastSeq) return;
    const parsed = filters.map(subjectFilter);
    for (const message of this.readChunks(this.sqlChunk, [], fromSeq)) {
      if (parsed.some((filter) => filter.matches(message.subject))) yield message;
    }
  }

  private *readChunks(
    sql: string,
    values: readonly number[],
    fromSeq: number,
  ): IterableIterator<StoredMessage> {
    const { counters } = this;
    let next = Math.max(fromSeq, counters.firstSeq);
    let rows = firstRows;
    while (next <= counters.lastSeq) {
      const average = counters.bytes / Math.max(1, counters.messages);
      const limit = Math.max(1, Math.min(rows, Math.floor(chunkBytes / average)));
      const chunk = this.statements.value<Buffer | null>(sql, ...values, next, limit);
      if (!chunk) return;
      for (let at = 0; at < chunk.length; at += recordLength(chunk, at)) {
        const message = decodeRecord(chunk, at);
        next = message.seq + 1;
        yield message;
      }
      rows = Math.min(rowsMax, rows * 4);
    }
  }

  private lastSeqUpTo(upToSeq: number): number {
    const { messages, lastSeq } = this.counters;
    if (messages === 0) return 0;
    return (
      this.statements.value<number | null>(
        `SELECT max(seq) FROM ${this.table} WHERE seq <= ?`,
        Math.min(upToSeq, lastSeq),
      ) ?? 0
    );
  }

  private countAll(fromSeq: number): number {
    const { counters } = this;
    if (fromSeq <= counters.firstSeq) return counters.messages;
    if (counters.gapless) return counters.lastSeq - fromSeq + 1;
    const before = fromSeq - counters.firstSeq;
    if (before <= countRowsMax) {
      return counters.messages - this.countRows('seq < ?', fromSeq);
    }
    if (counters.lastSeq - fromSeq <= countRowsMax) return this.countRows('seq >= ?', fromSeq);
    // The unary plus keeps SQLite off the messages: the index on subjects is a tenth of their size.
    return this.statements.value<number>(
      `SELECT count(*) FROM ${this.table} INDEXED BY ${this.table}_subject WHERE +seq >= ?`,
      fromSeq,
    )!;
  }

  private countRows(where: string, seq: number): number {
    return this.statements.value<number>(`SELECT count(*) FROM ${this.table} WHERE ${where}`, seq)!;
  }

  private countOf(entry: SubjectEntry, fromSeq: number): number {
    if (entry.messages === 1 || this.subjects.firstSeq(entry) >= fromSeq) return entry.messages;
    return this.statements.value<number>(
      `SELECT count(*) FROM ${this.table} WHERE subject = ? AND seq >= ?`,
      entry.id,
      fromSeq,
    )!;
  }
}

/** What several readers bring, in the order of their sequences. */
function* merged(
  readers: readonly IterableIterator<StoredMessage>[],
): IterableIterator<StoredMessage> {
  const heads = readers.map((reader) => ({ reader, head: reader.next() }));
  for (;;) {
    let first: (typeof heads)[number] | null = null;
    for (const candidate of heads) {
      if (candidate.head.done) continue;
      if (!first || candidate.head.value.seq < (first.head.value as StoredMessage).seq) {
        first = candidate;
      }
    }
    if (!first) return;
    yield first.head.value as StoredMessage;
    first.head = first.reader.next();
  }
}
