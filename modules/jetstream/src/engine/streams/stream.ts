import type { StreamStore } from '../account-store.js';
import { headerText, headerValue } from '../headers.js';
import type { ConsumerSet, StreamHandle } from '../parts.js';
import { StoredStreamConfig, type StreamConfig } from '../stream-config.js';
import { hasWildcards } from '../subject-match.js';
import { nsToMs } from '@rookery/conat/contract';
import { MessageIds } from './message-ids.js';

/** What a file has for a message besides its parts, as a NATS server counts bytes. */
const recordBytes = 30;
const headerLengthBytes = 4;

/** How much a message counts against `max_bytes`. */
export function storedBytes(subject: string, headers: Buffer | null, payload: Buffer): number {
  const headerBytes = headers ? headers.length + headerLengthBytes : 0;
  return recordBytes + subject.length + headerBytes + payload.length;
}

/**
 * One stream: its configuration, its messages, and what is remembered about them. All that takes
 * messages away goes through here, because consumers must hear of it.
 */
export class Stream implements StreamHandle {
  readonly name: string;
  /** What an acknowledgement says before the sequence. */
  readonly ackStart: string;
  config: StreamConfig;
  ids: MessageIds;
  /** Id of the newest message, '' when it has none. */
  lastMsgId = '';
  /** Below it are only messages that never expire: `max_age` need not look there again. */
  ageFromSeq = 0;
  /** When `max_age` next takes a message away; null when nothing can expire. */
  ageDueMs: number | null = null;

  constructor(
    readonly store: StreamStore,
    private readonly consumers: ConsumerSet,
  ) {
    this.name = store.name;
    this.ackStart = `{"stream":${JSON.stringify(store.name)},"seq":`;
    this.config = StoredStreamConfig.parse(JSON.parse(store.config));
    this.ids = new MessageIds(BigInt(this.config.duplicate_window));
  }

  /**
   * Reads what is remembered from the messages.
   * @param before the same stream before a rollback: its ids need not be read again
   */
  load(nowNs: bigint, before?: Stream): void {
    const { state } = this.store;
    const isSame =
      before?.store.createdNs === this.store.createdNs &&
      before.config.duplicate_window === this.config.duplicate_window;
    if (isSame) {
      this.ids = before.ids;
      this.ids.dropAfter(state.lastSeq);
    } else {
      this.ids.load(this.store, nowNs);
    }
    const last = state.lastSeq > 0 ? this.store.get(state.lastSeq) : null;
    this.lastMsgId = headerValue(headerText(last?.headers ?? null), 'Nats-Msg-Id') ?? '';
    this.ageDueMs = this.ageOf(state.firstTimeNs);
  }

  reconfigure(config: StreamConfig): void {
    this.config = config;
    this.store.config = JSON.stringify(config);
    this.ids.setWindow(BigInt(config.duplicate_window));
    this.ageFromSeq = 0;
    this.ageDueMs = this.ageOf(this.store.state.firstTimeNs);
  }

  acknowledged(seq: number): void {
    const { retention } = this.config;
    if (retention === 'limits') return;
    if (retention === 'interest') {
      const message = this.store.get(seq);
      if (!message || this.consumers.needs(this, seq, message.subject)) return;
    }
    this.remove([seq]);
  }

  remove(seqs: readonly number[], erase = false): boolean {
    const gone = seqs.filter((seq) => this.store.remove(seq, erase));
    if (gone.length > 0) this.consumers.removed(this, gone);
    return gone.length > 0;
  }

  purge(range: { filter?: string; beforeSeq?: number; keep?: number }): number {
    const before = this.store.state.firstSeq;
    const count = this.store.purge(range);
    if (count > 0 || this.store.state.firstSeq !== before) this.consumers.removed(this, 'many');
    return count;
  }

  /** Takes away what an update or an append put over the limits. */
  enforceLimits(): void {
    const { max_msgs: messagesMax, max_bytes: bytesMax, discard } = this.config;
    if (discard !== 'old') return;
    const over = (): boolean =>
      (messagesMax > 0 && this.store.state.messages > messagesMax) ||
      (bytesMax > 0 && this.store.state.bytes > bytesMax);
    const gone: number[] = [];
    while (this.store.state.messages > 0 && over()) {
      const { firstSeq } = this.store.state;
      this.store.remove(firstSeq);
      gone.push(firstSeq);
    }
    if (gone.length > 0) this.consumers.removed(this, gone);
  }

  enforceSubjectLimit(filter: string): void {
    const max = this.config.max_msgs_per_subject;
    if (max <= 0) return;
    const over = [...this.store.subjects(filter)].filter(({ messages }) => messages > max);
    for (const { subject, messages, firstSeq } of over) {
      if (messages === max + 1) this.remove([firstSeq]);
      else this.purge({ filter: subject, keep: max });
    }
  }

  /** How many messages a subject has. */
  countOf(subject: string): number {
    for (const { messages } of this.store.subjects(subject)) return messages;
    return 0;
  }

  /** After a message was stored: it is the next to expire when nothing else is. */
  stored(timeNs: bigint): void {
    if (this.ageDueMs === null) this.ageDueMs = this.ageOf(timeNs);
  }

  ageOf(timeNs: bigint): number | null {
    if (this.config.max_age === 0 || this.store.state.messages === 0) return null;
    return nsToMs(timeNs + BigInt(this.config.max_age)) + 1;
  }

  /** Sequence of the newest message that a filter (or a plain subject) has; 0 for none. */
  lastSeqOf(filter: string): number {
    if (!hasWildcards(filter)) return this.store.lastSeqOf(filter);
    return this.store.last(filter)?.seq ?? 0;
  }
}
