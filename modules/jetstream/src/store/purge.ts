import type { PurgeRange } from '../engine/account-store.js';
import type { MessageReader } from './message-reader.js';
import type { Statements } from './statements.js';
import type { StreamCounters } from './stream-counters.js';
import type { SubjectEntry, SubjectTable } from './subject-table.js';

/** A stream as far as purging goes. */
interface Purged {
  readonly table: string;
  readonly counters: StreamCounters;
  readonly subjectTable: SubjectTable;
  readonly reader: MessageReader;
  remove(seq: number): boolean;
}

/** Up to so many messages go one by one; more by statements over the whole range. */
const oneByOneMax = 512;

type Gone = [count: number, bytes: number | null, first: number | null];

/** Removes messages of one stream and keeps its counters. @returns how many went */
export function purgeMessages(stream: Purged, statements: Statements, range: PurgeRange): number {
  return range.filter === undefined || range.filter === '>'
    ? purgeRange(stream, statements, range)
    : purgeSubjects(stream, statements, range.filter, range);
}

function purgeRange(stream: Purged, statements: Statements, range: PurgeRange): number {
  const { counters, table } = stream;
  const before = Math.min(range.beforeSeq ?? Infinity, keepFrom(stream, statements, range.keep));
  if (before > counters.lastSeq) return purgeAll(stream, statements, range.beforeSeq);
  if (before <= counters.firstSeq) return 0;
  if (before - counters.firstSeq <= oneByOneMax) {
    let count = 0;
    for (let seq = counters.firstSeq; seq < before; seq = counters.firstSeq) {
      if (stream.remove(seq)) count += 1;
      else break;
    }
    return count;
  }
  const [count, bytes] = statements.row<Gone>(
    `SELECT count(*), sum(length(data)), min(seq) FROM ${table} WHERE seq < ?`,
    before,
  )!;
  const first = counters.firstSeq;
  statements.run(`DELETE FROM ${table} WHERE seq < ?`, before);
  stream.subjectTable.recountBelow(before);
  counters.removed(count, bytes ?? 0, first, () => stream.reader.firstSeqFrom(before));
  return count;
}

function purgeAll(stream: Purged, statements: Statements, beforeSeq = 0): number {
  const { counters } = stream;
  const count = counters.messages;
  statements.run(`DELETE FROM ${stream.table}`);
  stream.subjectTable.clear();
  counters.messages = 0;
  counters.bytes = 0;
  counters.lastSeq = Math.max(counters.lastSeq, beforeSeq - 1);
  counters.firstSeq = counters.lastSeq + 1;
  counters.changed = true;
  return count;
}

/** The first sequence of the newest `keep`; infinite when none has to stay. */
function keepFrom(stream: Purged, statements: Statements, keep = 0): number {
  if (keep <= 0) return Infinity;
  if (keep >= stream.counters.messages) return 0;
  return statements.value<number>(
    `SELECT seq FROM ${stream.table} ORDER BY seq DESC LIMIT 1 OFFSET ?`,
    keep - 1,
  )!;
}

function purgeSubjects(
  stream: Purged,
  statements: Statements,
  filter: string,
  { beforeSeq = Infinity, keep = 0 }: PurgeRange,
): number {
  const { counters, table, subjectTable } = stream;
  const entries = [...subjectTable.matching(filter)];
  const before = Math.min(
    beforeSeq,
    keep > 0 ? keepMatching(table, statements, entries, keep) : Infinity,
  );
  const upTo = Math.min(before - 1, counters.lastSeq);
  let total = 0;
  for (const entry of entries) {
    if (subjectTable.firstSeq(entry) > upTo) continue;
    const [count, bytes, first] = statements.row<Gone>(
      `SELECT count(*), sum(length(data)), min(seq) FROM ${table} WHERE subject = ? AND seq <= ?`,
      entry.id,
      upTo,
    )!;
    if (count === 0) continue;
    statements.run(`DELETE FROM ${table} WHERE subject = ? AND seq <= ?`, entry.id, upTo);
    subjectTable.recount(entry, entry.messages - count);
    const wasFirst = counters.firstSeq;
    counters.removed(count, bytes ?? 0, first!, () => stream.reader.firstSeqFrom(wasFirst));
    total += count;
  }
  return total;
}

/** The first sequence of the newest `keep` on these subjects; 0 when there are not more. */
function keepMatching(
  table: string,
  statements: Statements,
  entries: readonly SubjectEntry[],
  keep: number,
): number {
  const seqs = entries
    .flatMap((entry) =>
      statements.values<number>(
        `SELECT seq FROM ${table} WHERE subject = ? ORDER BY seq DESC LIMIT ?`,
        entry.id,
        keep,
      ),
    )
    .sort((a, b) => b - a);
  const total = entries.reduce((sum, entry) => sum + entry.messages, 0);
  return total <= keep ? 0 : seqs[keep - 1]!;
}
