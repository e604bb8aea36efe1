/** What was delivered and is not acknowledged. */
export interface Pending {
  /** The consumer's sequence of the first delivery. */
  readonly consumerSeq: number;
  /** Since when its acknowledgement is awaited; milliseconds since the epoch. */
  sinceMs: number;
}

export interface SequencePair {
  consumer: number;
  stream: number;
}

/** Where a consumer is. The part of it that survives a restart. */
export class Positions {
  /** Stream sequence to look at next. */
  nextStream = 1;
  /** Consumer sequence of the next delivery. */
  nextConsumer = 1;
  /** What was delivered last, as it is shown. */
  delivered: SequencePair = { consumer: 0, stream: 0 };
  /** Up to here everything is acknowledged. */
  floor: SequencePair = { consumer: 0, stream: 0 };
  /** When the last delivery was, and the last acknowledgement; nanoseconds, 0 before the first. */
  readonly lastNs = { delivered: 0n, acked: 0n };
  /** By stream sequence. */
  readonly pending = new Map<number, Pending>();
  /** Redeliveries so far, by stream sequence. */
  readonly redelivered = new Map<number, number>();
  /** Waits for its next delivery, in this order. */
  readonly queue: number[] = [];
  private readonly queued = new Set<number>();

  startAt(streamSeq: number): void {
    this.nextStream = streamSeq;
    this.delivered = { consumer: 0, stream: streamSeq - 1 };
    this.floor = { consumer: 0, stream: streamSeq - 1 };
  }

  isQueued(seq: number): boolean {
    return this.queued.has(seq);
  }

  enqueue(seq: number): void {
    if (this.queued.has(seq)) return;
    this.queued.add(seq);
    this.queue.push(seq);
  }

  enqueueFirst(seq: number): void {
    if (this.queued.has(seq)) return;
    this.queued.add(seq);
    this.queue.unshift(seq);
  }

  dequeue(): number | undefined {
    const seq = this.queue.shift();
    if (seq !== undefined) this.queued.delete(seq);
    return seq;
  }

  unqueue(seq: number): void {
    if (!this.queued.delete(seq)) return;
    this.queue.splice(this.queue.indexOf(seq), 1);
  }

  /** Forgets a message: acknowledged, given up, or gone. */
  drop(seq: number): Pending | undefined {
    const pending = this.pending.get(seq);
    this.pending.delete(seq);
    this.redelivered.delete(seq);
    this.unqueue(seq);
    if (pending) this.moveFloor(pending.consumerSeq, seq);
    return pending;
  }

  /** Everything up to a message is acknowledged. @returns what was pending of it */
  dropUpTo(consumerSeq: number, streamSeq: number): number[] {
    const dropped: number[] = [];
    for (const seq of this.pending.keys()) {
      if (seq > streamSeq) continue;
      dropped.push(seq);
      this.pending.delete(seq);
      this.redelivered.delete(seq);
      this.unqueue(seq);
    }
    this.floor = { consumer: consumerSeq, stream: streamSeq };
    return dropped;
  }

  /** After a message was taken out of `pending`. */
  moveFloor(consumerSeq: number, streamSeq: number): void {
    if (this.pending.size === 0) {
      this.floor = { ...this.delivered };
      return;
    }
    if (consumerSeq !== this.floor.consumer + 1) return;
    this.floor = { consumer: consumerSeq, stream: streamSeq };
    let first: [number, Pending] | undefined;
    for (const entry of this.pending) {
      if (entry[0] > streamSeq && (!first || entry[0] < first[0])) first = entry;
      // Deliveries are in order, so the map nearly is: its first entry usually is the one.
      if (first && entry[1].consumerSeq === consumerSeq + 1) break;
    }
    if (first) this.floor = { consumer: first[1].consumerSeq - 1, stream: first[0] - 1 };
  }

  encode(): Buffer {
    return Buffer.from(
      JSON.stringify({
        v: 1,
        next: [this.nextConsumer, this.nextStream],
        delivered: [this.delivered.consumer, this.delivered.stream],
        floor: [this.floor.consumer, this.floor.stream],
        lastNs: [String(this.lastNs.delivered), String(this.lastNs.acked)],
        pending: [...this.pending].map(([seq, { consumerSeq, sinceMs }]) => [
          seq,
          consumerSeq,
          Math.round(sinceMs),
        ]),
        redelivered: [...this.redelivered],
      }),
    );
  }

  static decode(state: Buffer): Positions {
    const stored = JSON.parse(state.toString()) as {
      next: [number, number];
      delivered: [number, number];
      floor: [number, number];
      lastNs?: [string, string];
      pending: [number, number, number][];
      redelivered: [number, number][];
    };
    const positions = new Positions();
    [positions.nextConsumer, positions.nextStream] = stored.next;
    positions.delivered = { consumer: stored.delivered[0], stream: stored.delivered[1] };
    positions.floor = { consumer: stored.floor[0], stream: stored.floor[1] };
    const [delivered, acked] = stored.lastNs ?? ['0', '0'];
    Object.assign(positions.lastNs, { delivered: BigInt(delivered), acked: BigInt(acked) });
    for (const [seq, consumerSeq, sinceMs] of stored.pending) {
      positions.pending.set(seq, { consumerSeq, sinceMs });
    }
    for (const [seq, times] of stored.redelivered) positions.redelivered.set(seq, times);
    return positions;
  }
}
