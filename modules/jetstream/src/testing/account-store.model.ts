import type {
  AppendMessage,
  Filters,
  PurgeRange,
  StoredMessage,
  SubjectCount,
} from '../engine/account-store.js';

type ModelMessage = StoredMessage & { readonly expiresAtMs: number | null };

const matches = (filter: string, subject: string): boolean => {
  const wanted = filter.split('.');
  const tokens = subject.split('.');
  const at = wanted.indexOf('>');
  if (at < 0 ? wanted.length !== tokens.length : tokens.length <= at) return false;
  return wanted.every((token, i) => token === '>' || token === '*' || token === tokens[i]);
};

/** A stream as one would write it without any thought of speed. */
export class ModelStream {
  firstSeq = 1;
  lastSeq = 0;
  lastTimeNs = 0n;
  messages: ModelMessage[] = [];

  clone(): ModelStream {
    return Object.assign(new ModelStream(), this, { messages: [...this.messages] });
  }

  append({ subject, timeNs, headers, payload, expiresAtMs }: AppendMessage): number {
    this.lastSeq += 1;
    this.lastTimeNs = timeNs;
    const seq = this.lastSeq;
    this.messages.push({
      seq,
      subject,
      timeNs,
      headers,
      payload,
      expiresAtMs: expiresAtMs ?? null,
    });
    this.moveFirst();
    return seq;
  }

  remove(seq: number): boolean {
    const before = this.messages.length;
    this.messages = this.messages.filter((message) => message.seq !== seq);
    this.moveFirst();
    return this.messages.length < before;
  }

  purge({ filter = '>', beforeSeq, keep = 0 }: PurgeRange): number {
    const matching = this.messages.filter(({ subject }) => matches(filter, subject));
    const stay = new Set(keep > 0 ? matching.slice(-keep) : []);
    const gone = new Set(
      matching.filter((message) => !stay.has(message) && message.seq < (beforeSeq ?? Infinity)),
    );
    this.messages = this.messages.filter((message) => !gone.has(message));
    if (this.messages.length === 0 && filter === '>') {
      this.lastSeq = Math.max(this.lastSeq, (beforeSeq ?? 0) - 1);
    }
    this.moveFirst();
    return gone.size;
  }

  read(fromSeq: number, filters: Filters): ModelMessage[] {
    return this.messages.filter(
      ({ seq, subject }) =>
        seq >= fromSeq && (!filters || filters.some((filter) => matches(filter, subject))),
    );
  }

  at(seq: number): ModelMessage[] {
    return this.messages.filter((message) => message.seq === seq);
  }

  subjects(filter: string): SubjectCount[] {
    const counts = new Map<string, { messages: number; firstSeq: number; lastSeq: number }>();
    for (const { subject, seq } of this.read(0, [filter])) {
      const count = counts.get(subject) ?? { messages: 0, firstSeq: seq, lastSeq: seq };
      counts.set(subject, { ...count, messages: count.messages + 1, lastSeq: seq });
    }
    return [...counts]
      .map(([subject, count]) => ({ subject, ...count }))
      .sort((a, b) => (a.subject < b.subject ? -1 : 1));
  }

  lastPerSubject(filters: readonly string[]): number[] {
    const seqs = new Set(
      filters.flatMap((filter) => this.subjects(filter).map(({ lastSeq }) => lastSeq)),
    );
    return [...seqs].sort((a, b) => a - b);
  }

  deletedSeqs(): number[] {
    if (this.messages.length === 0) return [];
    const there = new Set(this.messages.map(({ seq }) => seq));
    const deleted: number[] = [];
    for (let seq = this.firstSeq; seq <= this.lastSeq; seq += 1) {
      if (!there.has(seq)) deleted.push(seq);
    }
    return deleted;
  }

  nextExpiryMs(): number | null {
    const times = this.messages.flatMap(({ expiresAtMs }) => expiresAtMs ?? []);
    return times.length > 0 ? Math.min(...times) : null;
  }

  state(): unknown[] {
    const bytes = this.messages.reduce(
      (sum, { subject, headers, payload }) =>
        sum + 30 + subject.length + payload.length + (headers ? headers.length + 4 : 0),
      0,
    );
    return [
      this.firstSeq,
      this.lastSeq,
      this.messages.length,
      bytes,
      this.messages[0]?.timeNs ?? 0n,
      this.lastTimeNs,
    ];
  }

  private moveFirst(): void {
    this.firstSeq = this.messages[0]?.seq ?? this.lastSeq + 1;
  }
}

export class AccountStoreModel {
  streams = new Map<string, ModelStream>();
  private committed = new Map<string, ModelStream>();

  create(name: string): void {
    this.streams.set(name, new ModelStream());
  }

  delete(name: string): void {
    this.streams.delete(name);
  }

  commit(): void {
    this.committed = copy(this.streams);
  }

  rollback(): void {
    this.streams = copy(this.committed);
  }
}

const copy = (streams: ReadonlyMap<string, ModelStream>): Map<string, ModelStream> =>
  new Map([...streams].map(([name, stream]) => [name, stream.clone()]));
