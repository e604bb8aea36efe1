import type { StoredMessage } from '../account-store.js';
import type { StreamHandle } from '../parts.js';
import type { Advisories } from '../advisories.js';
import { nsToMs } from '@rookery/conat/contract';
import type { AckMessage, AckPlace } from './ack-message.js';
import type { ConsumerConfig } from './consumer-config.js';
import type { Positions } from './positions.js';

const nsPerMs = 1_000_000;

/** What the tracker tells its consumer. */
interface Owner {
  readonly name: string;
  /** Something can go out that could not before. */
  nudge(): void;
  changed(): void;
}

/** Acknowledgements of one consumer: what is awaited, what is late, what is delivered again. */
export class AckTracker {
  /** When the earliest acknowledgement is late, or earlier; checked then. */
  private checkAtMs = Infinity;

  constructor(
    private readonly positions: Positions,
    private readonly config: () => ConsumerConfig,
    private readonly stream: StreamHandle,
    private readonly advisories: Advisories,
    private readonly owner: Owner,
  ) {
    if (positions.pending.size > 0) this.checkAtMs = 0;
  }

  /** As many messages are unacknowledged as may be. */
  get full(): boolean {
    const { max_ack_pending: max, ack_policy: policy } = this.config();
    return policy !== 'none' && max > 0 && this.positions.pending.size >= max;
  }

  nextWakeMs(): number {
    return this.checkAtMs;
  }

  /** Until when an acknowledgement may still come; 0 when none is awaited. */
  lastDeadlineMs(): number {
    let last = 0;
    for (const [seq, { sinceMs }] of this.positions.pending) {
      last = Math.max(last, sinceMs + this.waitMs(seq));
    }
    return last;
  }

  /** A message went out: the consumer's sequence moves on. */
  delivered(seq: number, nowMs: number): void {
    const { positions } = this;
    const consumerSeq = positions.nextConsumer;
    positions.nextConsumer += 1;
    positions.delivered.consumer = consumerSeq;
    positions.delivered.stream = Math.max(positions.delivered.stream, seq);
    if (this.config().ack_policy === 'none') {
      positions.floor = { consumer: consumerSeq, stream: positions.delivered.stream };
      this.stream.acknowledged(seq);
      return;
    }
    const pending = positions.pending.get(seq);
    if (pending) pending.sinceMs = nowMs;
    else positions.pending.set(seq, { consumerSeq, sinceMs: nowMs });
    this.checkAtMs = Math.min(this.checkAtMs, nowMs + this.waitMs(seq));
  }

  /** The next message that has to be delivered again. */
  nextRedelivery(): { message: StoredMessage; deliveries: number } | null {
    for (;;) {
      const seq = this.positions.dequeue();
      if (seq === undefined) return null;
      if (!this.positions.pending.has(seq)) continue;
      if (this.exceeded(seq)) continue;
      const message = this.stream.store.get(seq);
      if (!message) {
        this.gone(seq);
        continue;
      }
      const times = (this.positions.redelivered.get(seq) ?? 0) + 1;
      this.positions.redelivered.set(seq, times);
      return { message, deliveries: times + 1 };
    }
  }

  /** Nobody took it. */
  redeliverLater(seq: number): void {
    const times = this.positions.redelivered.get(seq) ?? 0;
    if (times > 1) this.positions.redelivered.set(seq, times - 1);
    else this.positions.redelivered.delete(seq);
    this.positions.enqueueFirst(seq);
  }

  handle(place: AckPlace, ack: AckMessage, nowNs: bigint): void {
    const nowMs = nsToMs(nowNs);
    switch (ack.kind) {
      case 'ack':
      case 'next':
        this.acknowledge(place, nowNs);
        return;
      case 'term':
        this.acknowledge(place, nowNs);
        this.advisories.terminated(this.stream.name, this.owner.name, place, ack.reason);
        return;
      case 'progress': {
        const pending = this.positions.pending.get(place.streamSeq);
        if (pending) pending.sinceMs = nowMs;
        this.owner.changed();
        return;
      }
      case 'nak':
        this.refuse(place, ack.delayMs, nowMs);
        return;
      case 'unknown':
        return;
    }
  }

  /** A message is not in the stream any more. */
  gone(seq: number): void {
    this.positions.drop(seq);
    this.owner.changed();
    this.owner.nudge();
  }

  /** Looks which of the awaited messages the stream still has. */
  forgetGone(): void {
    const { firstSeq } = this.stream.store.state;
    for (const seq of [...this.positions.pending.keys()]) {
      if (seq < firstSeq || !this.stream.store.get(seq)) this.positions.drop(seq);
    }
    this.owner.changed();
    this.owner.nudge();
  }

  /** Queues what was not acknowledged in time. */
  expire(nowMs: number): void {
    if (nowMs < this.checkAtMs) return;
    this.checkAtMs = Infinity;
    const late: number[] = [];
    for (const [seq, pending] of this.positions.pending) {
      if (this.positions.isQueued(seq)) continue;
      const deadlineMs = pending.sinceMs + this.waitMs(seq);
      if (deadlineMs <= nowMs) late.push(seq);
      else this.checkAtMs = Math.min(this.checkAtMs, deadlineMs);
    }
    for (const seq of late.sort((a, b) => a - b)) {
      if (!this.exceeded(seq)) this.positions.enqueue(seq);
    }
    if (late.length > 0) this.owner.nudge();
  }

  /** Is this message still to be acknowledged here? */
  needs(seq: number): boolean {
    const { positions } = this;
    if (positions.redelivered.has(seq)) return true;
    if (seq <= positions.floor.stream) return false;
    if (this.config().ack_policy !== 'explicit') return true;
    return seq >= positions.nextStream || positions.pending.has(seq);
  }

  private waitMs(seq: number): number {
    const { backoff, ack_wait: ackWaitNs } = this.config();
    if (backoff.length === 0) return ackWaitNs / nsPerMs;
    const times = this.positions.redelivered.get(seq) ?? 0;
    return backoff[Math.min(times, backoff.length - 1)]! / nsPerMs;
  }

  /** It was delivered as often as it may be: it stays in the stream, and is not awaited. */
  private exceeded(seq: number): boolean {
    const { max_deliver: max } = this.config();
    const deliveries = (this.positions.redelivered.get(seq) ?? 0) + 1;
    if (max <= 0 || deliveries < max) return false;
    // It was not acknowledged: the floor stays below it until what comes later moves it.
    this.positions.pending.delete(seq);
    this.positions.unqueue(seq);
    this.positions.redelivered.set(seq, deliveries);
    this.advisories.exceeded(this.stream.name, this.owner.name, seq, deliveries);
    this.owner.changed();
    this.owner.nudge();
    return true;
  }

  private acknowledge({ streamSeq, consumerSeq }: AckPlace, nowNs: bigint): void {
    const { positions } = this;
    if (streamSeq >= positions.nextStream && !positions.pending.has(streamSeq)) return;
    const wasFull = this.full;
    switch (this.config().ack_policy) {
      case 'none':
        return;
      case 'explicit': {
        if (!positions.drop(streamSeq)) return;
        this.stream.acknowledged(streamSeq);
        break;
      }
      case 'all': {
        if (consumerSeq <= positions.floor.consumer || streamSeq <= positions.floor.stream) return;
        for (const seq of positions.dropUpTo(consumerSeq, streamSeq)) this.stream.acknowledged(seq);
        break;
      }
    }
    positions.lastNs.acked = nowNs;
    this.owner.changed();
    if (wasFull) this.owner.nudge();
  }

  private refuse(place: AckPlace, delayMs: number, nowMs: number): void {
    const { streamSeq, consumerSeq } = place;
    const pending = this.positions.pending.get(streamSeq);
    if (!pending || consumerSeq > this.positions.delivered.consumer) return;
    this.advisories.refused(this.stream.name, this.owner.name, place);
    this.owner.changed();
    if (delayMs < 0) {
      this.positions.enqueue(streamSeq);
      this.owner.nudge();
      return;
    }
    this.positions.unqueue(streamSeq);
    // Late exactly when the delay is over.
    pending.sinceMs = nowMs + delayMs - this.waitMs(streamSeq);
    this.checkAtMs = Math.min(this.checkAtMs, nowMs + delayMs);
  }
}
