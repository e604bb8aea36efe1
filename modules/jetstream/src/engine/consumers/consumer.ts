import type { Clock } from '@rookery/core';
import { audienceOf, msToNs, parseTime } from '@rookery/conat/contract';
import type { JetStreamAccount } from '../../account.js';
import type { StoredMessage } from '../account-store.js';
import type { Outbox } from '../engine-io.js';
import { withHeaders } from '../headers.js';
import type { StreamHandle } from '../parts.js';
import { AckTracker } from './ack-tracker.js';
import type { Advisories } from '../advisories.js';
import { filtersOf, isPush, type ConsumerConfig } from './consumer-config.js';
import { FilterSet } from './filters.js';
import { MessageReader } from './message-reader.js';
import { Positions } from './positions.js';
import { PullQueue } from './pull-queue.js';
import { idleHeartbeat, PushFlow } from './push-flow.js';
import { startOf } from './start.js';

const nsPerMs = 1_000_000;
/** Positions are written this long after they changed. */
const saveAfterMs = 200;
/** Messages that one consumer sends before others have their turn. */
const turnMessagesMax = 1_024;

export interface ConsumerDependencies {
  readonly account: JetStreamAccount;
  readonly stream: StreamHandle;
  readonly outbox: Outbox;
  readonly advisories: Advisories;
  readonly name: string;
  readonly createdNs: bigint;
  readonly config: ConsumerConfig;
  /** For push consumers: the deliver subject on the broker. */
  readonly deliverTo: string;
  /** Null for a new consumer. */
  readonly positions: Positions | null;
  readonly clock: Clock;
}

/** One consumer: where it is, who waits at it, and the delivery of messages. */
export class Consumer {
  readonly name: string;
  readonly createdNs: bigint;
  config: ConsumerConfig;
  readonly stream: StreamHandle;
  readonly positions: Positions;
  readonly acks: AckTracker;
  readonly pull: PullQueue | null;
  push: PushFlow | null;
  /** Matching messages that were not delivered yet; null while it must be counted again. */
  private unseen: number | null = null;
  private filters: FilterSet;
  private reader: MessageReader;
  private dirty = true;
  private saveAtMs = Infinity;
  /** Rate limit or original pace: nothing goes out before. */
  private readyAtMs = 0;
  /** Original pace: the time of the message before, until the consumer has caught up. */
  private replayUntilSeq = 0;
  private replayLastNs = 0n;
  private sentAtMs = 0;
  private inactiveSinceMs: number;
  /** Not to be given up before, since acknowledgements may still come. */
  private keepUntilMs = 0;
  /** The end of a pause that held something back. */
  private resumeAtMs = Infinity;
  private readonly jitterMs = 100 + Math.random() * 900;

  constructor(private readonly parts: ConsumerDependencies) {
    const { config, stream, clock } = parts;
    const nowMs = clock.now();
    this.name = parts.name;
    this.createdNs = parts.createdNs;
    this.config = config;
    this.stream = stream;
    this.filters = this.compileFilters();
    this.reader = new MessageReader(stream.store, this.filters);
    this.positions = parts.positions ?? new Positions();
    this.acks = new AckTracker(this.positions, () => this.config, stream, parts.advisories, this);
    this.pull = isPush(config) ? null : new PullQueue(parts.outbox, nowMs);
    this.push = isPush(config) ? this.newPush(parts.deliverTo) : null;
    this.inactiveSinceMs = nowMs;
    if (parts.positions) this.acks.forgetGone();
    else this.start();
    if (config.replay_policy === 'original') this.replayUntilSeq = stream.store.state.lastSeq;
  }

  get deliverTo(): string {
    return this.push?.deliverTo ?? '';
  }

  /** How much longer it pauses; 0 when it does not. */
  pauseLeftNs(nowNs: bigint): number {
    const until = this.config.pause_until;
    return until === undefined ? 0 : Math.max(0, Number((parseTime(until) ?? 0n) - nowNs));
  }

  /** Matching messages that were not delivered yet. */
  numPending(): number {
    if (this.unseen === null) {
      const { store } = this.stream;
      const from = this.positions.nextStream;
      this.unseen = this.reader.skipping
        ? this.reader.skipCount + store.count(this.reader.resumesAt, this.filters.forStore)
        : from > store.state.lastSeq
          ? 0
          : store.count(from, this.filters.forStore);
    }
    return this.unseen;
  }

  matches(subject: string): boolean {
    return this.filters.matches(subject);
  }

  collides(subjects: readonly string[]): boolean {
    return this.filters.collides(subjects);
  }

  appended(seq: number, subject: string): void {
    if (!this.filters.matches(subject)) return;
    if (seq < this.positions.nextStream) return;
    if (this.unseen !== null) this.unseen += 1;
    this.dirty = true;
  }

  removed(seqs: readonly number[] | 'many'): void {
    if (seqs === 'many') {
      this.reader.invalidate();
      this.unseen = null;
      const { firstSeq } = this.stream.store.state;
      this.positions.nextStream = Math.max(this.positions.nextStream, firstSeq);
      this.acks.forgetGone();
      return;
    }
    for (const seq of seqs) {
      if (seq >= this.positions.nextStream || this.reader.skipping) this.unseenRemoved();
      else if (this.positions.pending.has(seq)) this.acks.gone(seq);
    }
  }

  update(config: ConsumerConfig, deliverTo: string): void {
    const filtersBefore = filtersOf(this.config).join(' ');
    this.config = config;
    if (filtersOf(config).join(' ') !== filtersBefore) this.refilter();
    if (this.push && audienceOf(deliverTo, config.deliver_group) !== this.push.audience) {
      this.parts.outbox.unwatch(this.push.audience);
      this.push = this.newPush(deliverTo);
    }
    this.dirty = true;
  }

  /** The stream takes other subjects now. */
  refilter(): void {
    this.filters = this.compileFilters();
    this.reader = new MessageReader(this.stream.store, this.filters);
    this.unseen = null;
    this.dirty = true;
  }

  /** Something may be possible that was not. */
  nudge(): void {
    this.dirty = true;
  }

  /** Its positions are not those that were saved. */
  changed(): void {
    if (this.saveAtMs === Infinity) this.saveAtMs = 0;
  }

  setInterest(present: boolean, nowMs: number): void {
    if (!this.push || this.push.active === present) return;
    this.push.setActive(present, nowMs);
    this.inactiveSinceMs = nowMs;
    if (present) this.dirty = true;
  }

  /** @returns true when it has been unused for as long as it may be */
  wake(nowMs: number): boolean {
    this.acks.expire(nowMs);
    if (nowMs >= this.resumeAtMs) this.dirty = true;
    const next = this.positions.nextConsumer;
    if (this.dirty) this.deliverAll(nowMs);
    // Once for all: a clock so fine costs as much as a part of a delivery.
    if (this.positions.nextConsumer !== next) {
      this.positions.lastNs.delivered = this.parts.clock.nowNs();
    }
    this.tend(nowMs);
    const { delivered } = this.positions;
    this.push?.beatIfDue(nowMs, delivered.consumer, this.positions.nextStream - 1);
    if (this.saveAtMs === 0) this.saveAtMs = nowMs + saveAfterMs;
    if (nowMs >= this.saveAtMs) this.save();
    return this.isAbandoned(nowMs);
  }

  nextWakeMs(): number {
    return Math.min(
      this.dirty ? this.readyAtMs : Infinity,
      this.pull?.nextWakeMs() ?? Infinity,
      this.push?.active ? this.push.nextHeartbeatMs : Infinity,
      this.acks.nextWakeMs(),
      this.saveAtMs,
      this.deleteAtMs(),
      this.resumeAtMs,
    );
  }

  /** Nobody waits at it, and nothing is soon to come. */
  get idle(): boolean {
    return (
      !this.dirty &&
      this.saveAtMs === Infinity &&
      !this.push?.active &&
      (this.pull?.size ?? 0) === 0
    );
  }

  /** Ends what has expired among those who wait. */
  tend(nowMs: number): void {
    this.pull?.tend(nowMs, false, () => this.heartbeat());
  }

  saveIfChanged(): void {
    if (this.saveAtMs !== Infinity) this.save();
  }

  save(): void {
    this.saveAtMs = Infinity;
    this.stream.store.saveConsumerState(this.name, this.positions.encode());
  }

  /** It goes; those who wait are told. */
  end(): void {
    this.pull?.endAll(409, 'Consumer Deleted');
    if (this.push) this.parts.outbox.unwatch(this.push.audience);
  }

  heartbeat(): Buffer {
    return idleHeartbeat(this.positions.nextConsumer - 1, this.positions.nextStream - 1);
  }

  private unseenRemoved(): void {
    this.reader.invalidate();
    const exact = this.unseen !== null && this.filters.forStore === null && !this.reader.skipping;
    this.unseen = exact ? this.unseen! - 1 : null;
  }

  private newPush(deliverTo: string): PushFlow {
    const { account, outbox, config } = this.parts;
    // Of a group its members count alone: whoever else listens takes no messages.
    const audience = audienceOf(deliverTo, this.config.deliver_group);
    outbox.watch(audience);
    return new PushFlow(outbox, {
      audience,
      name: `${this.stream.name}.${this.name}`,
      deliverTo,
      flowControlPrefix: account.flowControlPrefix,
      flowControl: config.flow_control,
      heartbeatMs: config.idle_heartbeat / nsPerMs,
    });
  }

  private start(): void {
    const { stream } = this;
    const { seq, skipList, resumeAt } = startOf(this.config, stream, this.filters);
    this.positions.startAt(seq);
    if (skipList.length > 0) this.reader.startWith(skipList, resumeAt);
    this.changed();
  }

  private compileFilters(): FilterSet {
    const subjects = filtersOf(this.config);
    const { store, config } = this.stream;
    const { firstSeq, messages } = store.state;
    const none = new FilterSet(subjects, false);
    if (subjects.length === 0 || !none.coversAll(config.subjects)) return none;
    // What was stored under subjects that the stream had before may not pass.
    return new FilterSet(subjects, store.count(firstSeq, subjects) === messages);
  }

  private deliverAll(nowMs: number): void {
    this.dirty = false;
    const pauseLeftMs = this.pauseLeftNs(msToNs(nowMs)) / nsPerMs;
    this.resumeAtMs = pauseLeftMs > 0 ? nowMs + pauseLeftMs : Infinity;
    if (pauseLeftMs > 0) {
      // Who does not wait for messages does not wait for the end of a pause.
      this.pull?.tend(nowMs, true, () => this.heartbeat());
      this.pull?.watchAll();
      return;
    }
    let atEnd = false;
    for (let sent = 0; ; sent += 1) {
      if (this.push ? !this.push.open : this.pull!.size === 0) return;
      if (sent >= turnMessagesMax || nowMs < this.readyAtMs) {
        this.dirty = true;
        break;
      }
      const outcome = this.deliverNext(nowMs);
      if (outcome === 'delivered') continue;
      atEnd = outcome === 'end';
      break;
    }
    if (!this.pull) return;
    this.pull.tend(nowMs, atEnd, () => this.heartbeat());
    this.pull.watchAll();
  }

  private deliverNext(nowMs: number): 'delivered' | 'end' | 'full' | 'nobody' {
    const again = this.acks.nextRedelivery();
    if (again) {
      return this.deliver(again.message, again.deliveries, nowMs)
        ? 'delivered'
        : this.putBack(again.message.seq);
    }
    if (this.acks.full) return 'full';
    const { positions, reader } = this;
    const skipped = reader.skipping;
    const unseen = this.numPending();
    const next = reader.next(positions.nextStream, this.pull?.hint ?? turnMessagesMax);
    if (!next) {
      positions.nextStream = Math.max(positions.nextStream, this.stream.store.state.lastSeq + 1);
      this.unseen = 0;
      return 'end';
    }
    if (!this.paced(next.message, nowMs)) return 'nobody';
    this.unseen = unseen - 1;
    if (!this.deliver(next.message, 1, nowMs)) {
      this.unseen = unseen;
      if (skipped) reader.putBack(next.message.seq);
      return 'nobody';
    }
    if (!skipped) reader.taken();
    positions.nextStream = next.nextSeq;
    return 'delivered';
  }

  private putBack(seq: number): 'nobody' {
    this.acks.redeliverLater(seq);
    return 'nobody';
  }

  /** @returns false when nobody takes it */
  private deliver(message: StoredMessage, deliveries: number, nowMs: number): boolean {
    const { positions, parts, config } = this;
    const { seq } = message;
    const reply = `${parts.account.ackPrefix}${this.stream.name}.${this.name}.${deliveries}.${seq}.${positions.nextConsumer}.${message.timeNs}.${Math.max(0, this.numPending())}`;
    const headers = config.headers_only
      ? withHeaders(message.headers, { 'Nats-Msg-Size': String(message.payload.length) })
      : message.headers;
    const payload = config.headers_only ? Buffer.alloc(0) : message.payload;
    const bytes = message.subject.length + reply.length + (headers?.length ?? 0) + payload.length;
    const request = this.pull?.take(bytes, nowMs) ?? null;
    if (this.pull && !request) return false;
    parts.outbox.send({
      to: request?.reply ?? this.push!.deliverTo,
      shown: message.subject,
      reply,
      headers,
      payload,
    });
    this.acks.delivered(seq, nowMs);
    this.sentAtMs = nowMs;
    this.changed();
    if (request) this.pull!.served(request, bytes, nowMs);
    this.push?.sent(bytes, nowMs);
    if (config.rate_limit_bps > 0) {
      const tookMs = (bytes * 8 * 1000) / config.rate_limit_bps;
      this.readyAtMs = Math.max(this.readyAtMs, nowMs) + tookMs;
    }
    return true;
  }

  /** Original pace: false until as much time has passed as between the messages. */
  private paced(message: StoredMessage, nowMs: number): boolean {
    if (message.seq > this.replayUntilSeq) return true;
    const gapMs = Number(message.timeNs - this.replayLastNs) / nsPerMs;
    if (this.replayLastNs !== 0n && gapMs > 1 && this.sentAtMs + gapMs > nowMs) {
      this.readyAtMs = this.sentAtMs + gapMs;
      this.dirty = true;
      return false;
    }
    this.replayLastNs = message.timeNs;
    return true;
  }

  private deleteAtMs(): number {
    const { inactive_threshold: thresholdNs } = this.config;
    if (thresholdNs === 0) return Infinity;
    const thresholdMs = thresholdNs / nsPerMs;
    if (this.push) return this.push.active ? Infinity : this.inactiveSinceMs + thresholdMs;
    if (this.pull!.size > 0) return Infinity;
    return Math.max(this.keepUntilMs, this.pull!.lastActiveMs + thresholdMs + this.jitterMs);
  }

  /** Unused for as long as it may be, and nobody can still be at work on a message of it. */
  private isAbandoned(nowMs: number): boolean {
    if (nowMs < this.deleteAtMs()) return false;
    if (this.push) return true;
    this.keepUntilMs = this.acks.lastDeadlineMs() + this.config.inactive_threshold / nsPerMs;
    return nowMs >= this.keepUntilMs;
  }
}
