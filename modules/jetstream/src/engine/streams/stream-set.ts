import type { AccountStore } from '../account-store.js';
import type { Outbox } from '../engine-io.js';
import type { Advisories } from '../advisories.js';
import type { ConsumerSet, StreamHandle, StreamLookup } from '../parts.js';
import type { StreamConfig } from '../stream-config.js';
import { subjectsCollide, SubjectSet } from '../subject-match.js';
import { Stream } from './stream.js';

/** The streams of an account, always as the store has them. */
export class StreamSet implements StreamLookup {
  private readonly byName = new Map<string, Stream>();
  private consumers!: ConsumerSet;

  constructor(
    private readonly store: AccountStore,
    private readonly outbox: Outbox,
    private readonly nowNs: () => bigint,
    private readonly advisories: Advisories,
  ) {}

  /** Reads all streams and their consumers; those that are gone are listened to no more. */
  load(consumers: ConsumerSet): void {
    this.consumers = consumers;
    const before = new Map(this.byName);
    this.byName.clear();
    for (const streamStore of this.store.streams()) {
      const stream = new Stream(streamStore, consumers);
      stream.load(this.nowNs(), before.get(stream.name));
      this.byName.set(stream.name, stream);
      this.outbox.listen(stream.name, stream.config.subjects);
      consumers.load(stream);
    }
    for (const name of before.keys()) if (!this.byName.has(name)) this.outbox.listen(name, []);
  }

  get(name: string): Stream | undefined {
    return this.byName.get(name);
  }

  find(name: string): StreamHandle | null {
    return this.byName.get(name) ?? null;
  }

  all(): IterableIterator<Stream> {
    return this.byName.values();
  }

  /** Sorted by name; with a filter those that take a subject that it stands for. */
  sorted(filter = ''): Stream[] {
    const streams = [...this.byName.values()].filter(
      ({ config }) =>
        filter === '' || config.subjects.some((subject) => subjectsCollide(filter, subject)),
    );
    return streams.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  get size(): number {
    return this.byName.size;
  }

  overlaps(subjects: readonly string[], except?: Stream): boolean {
    const wanted = new SubjectSet(subjects);
    for (const stream of this.byName.values()) {
      if (stream === except) continue;
      if (stream.config.subjects.some((subject) => wanted.collides(subject))) return true;
    }
    return false;
  }

  create(config: StreamConfig): Stream {
    const store = this.store.createStream(config.name, JSON.stringify(config), this.nowNs());
    if (config.first_seq > 1) store.purge({ beforeSeq: config.first_seq });
    const stream = new Stream(store, this.consumers);
    this.byName.set(stream.name, stream);
    this.outbox.listen(stream.name, config.subjects);
    this.consumers.load(stream);
    this.advisories.stream('create', stream.name);
    return stream;
  }

  update(stream: Stream, config: StreamConfig): void {
    const old = stream.config;
    stream.reconfigure(config);
    if (old.subjects.join(' ') !== config.subjects.join(' ')) {
      this.outbox.listen(stream.name, config.subjects);
    }
    const perSubject = config.max_msgs_per_subject;
    const wasLess = old.max_msgs_per_subject > 0 && old.max_msgs_per_subject <= perSubject;
    // In this order, as a server does: the other would keep more.
    stream.enforceLimits();
    if (perSubject > 0 && !wasLess) stream.enforceSubjectLimit('>');
    this.consumers.updated(stream);
    if (config.retention === 'interest' && old.retention !== 'interest') this.dropUnwanted(stream);
    this.advisories.stream('modify', stream.name);
  }

  delete(stream: Stream): void {
    this.consumers.deleted(stream);
    this.byName.delete(stream.name);
    this.store.deleteStream(stream.name);
    this.outbox.listen(stream.name, []);
    this.advisories.stream('delete', stream.name);
  }

  private dropUnwanted(stream: Stream): void {
    if (this.consumers.count(stream) === 0) {
      stream.purge({});
      return;
    }
    const unwanted: number[] = [];
    for (const { seq, subject } of stream.store.read(0, null)) {
      if (!this.consumers.needs(stream, seq, subject)) unwanted.push(seq);
    }
    stream.remove(unwanted);
  }
}
