import type { StreamState } from '../engine/account-store.js';

/**
 * The state of one stream, in memory. Its row is written with each commit that changed more than
 * messages were added; it may lag behind those, which are counted on when the file is opened.
 */
export class StreamCounters implements StreamState {
  firstSeq = 1;
  lastSeq = 0;
  messages = 0;
  bytes = 0;
  lastTimeNs = 0n;
  /** The row has to be written with the transaction. */
  changed = false;
  /** The newest message that the row counts. */
  private writtenSeq = 0;
  /** Of the message that `firstSeq` names; asked for when it is needed. */
  private firstTime: { seq: number; timeNs: bigint } | null = null;

  constructor(private readonly timeOf: (seq: number) => bigint) {}

  get firstTimeNs(): bigint {
    if (this.messages === 0) return 0n;
    if (this.firstTime?.seq !== this.firstSeq) {
      this.firstTime = { seq: this.firstSeq, timeNs: this.timeOf(this.firstSeq) };
    }
    return this.firstTime.timeNs;
  }

  /** True when no sequence is missing between first and last. */
  get gapless(): boolean {
    return this.lastSeq - this.firstSeq + 1 === this.messages;
  }

  /** Messages that the row does not count. */
  get behind(): number {
    return this.lastSeq - this.writtenSeq;
  }

  written(): void {
    this.writtenSeq = this.lastSeq;
    this.changed = false;
  }

  load(row: readonly [bigint, bigint, bigint, bigint, bigint] | undefined): void {
    const [first, last, messages, bytes, timeNs] = row ?? [1n, 0n, 0n, 0n, 0n];
    this.firstSeq = Number(first);
    this.lastSeq = Number(last);
    this.messages = Number(messages);
    this.bytes = Number(bytes);
    this.lastTimeNs = timeNs;
    this.firstTime = null;
    this.written();
  }

  appended(bytes: number, timeNs: bigint): void {
    this.lastSeq += 1;
    if (this.messages === 0) this.firstSeq = this.lastSeq;
    this.messages += 1;
    this.bytes += bytes;
    this.lastTimeNs = timeNs;
  }

  /** @param nextSeq finds the first message behind a sequence */
  removed(count: number, bytes: number, firstGone: number, nextSeq: () => number | null): void {
    this.messages -= count;
    this.bytes -= bytes;
    this.changed = true;
    if (this.messages === 0) this.firstSeq = this.lastSeq + 1;
    else if (firstGone === this.firstSeq) {
      const next = firstGone + 1;
      const gapless = count === 1 && this.lastSeq - next + 1 === this.messages;
      this.firstSeq = gapless ? next : (nextSeq() ?? this.lastSeq + 1);
    }
  }
}
