import type { StoredMessage, StreamStore } from '../account-store.js';
import type { FilterSet } from './filters.js';

const aheadMessagesMax = 256;
const aheadBytesMax = 1024 * 1024;

/** Gives a stream's messages to one consumer in order, reading some ahead. */
export class MessageReader {
  private ahead: StoredMessage[] = [];
  private at = 0;
  /** For `last_per_subject`: the newest message of each subject at the start, then `resumeAt`. */
  private skipList: number[] = [];
  private resumeAt = 0;

  constructor(
    private readonly store: StreamStore,
    private readonly filters: FilterSet,
  ) {}

  /** Reads only these first, then goes on at `resumeAt`. */
  startWith(seqs: number[], resumeAt: number): void {
    this.skipList = seqs;
    this.resumeAt = resumeAt;
  }

  get skipping(): boolean {
    return this.skipList.length > 0;
  }

  /** Of the skip list, how many are left. */
  get skipCount(): number {
    return this.skipList.length;
  }

  /** Where it goes on behind the skip list. */
  get resumesAt(): number {
    return this.resumeAt;
  }

  /**
   * The next message at or after `fromSeq`; null at the end.
   * @param hint how many the caller will probably want
   */
  next(fromSeq: number, hint: number): { message: StoredMessage; nextSeq: number } | null {
    while (this.skipList.length > 0) {
      const seq = this.skipList.shift()!;
      const message = this.store.get(seq);
      const nextSeq = this.skipList.length > 0 ? seq + 1 : this.resumeAt;
      if (message) return { message, nextSeq };
    }
    const from = Math.max(fromSeq, this.resumeAt);
    if (from > this.store.state.lastSeq) return null;
    while (this.at < this.ahead.length && this.ahead[this.at]!.seq < from) this.at += 1;
    if (this.at >= this.ahead.length) this.refill(from, hint);
    const message = this.ahead[this.at];
    return message ? { message, nextSeq: message.seq + 1 } : null;
  }

  /** Behind the last message that was given out, `next` goes on. */
  taken(): void {
    this.at += 1;
  }

  /** Something that was read ahead may not be there any more. */
  invalidate(): void {
    this.ahead = [];
    this.at = 0;
  }

  /** A message that was taken from the skip list comes again. */
  putBack(seq: number): void {
    this.skipList.unshift(seq);
  }

  private refill(fromSeq: number, hint: number): void {
    this.ahead = [];
    this.at = 0;
    const max = Math.min(Math.max(hint, 1), aheadMessagesMax);
    let bytes = 0;
    for (const message of this.store.read(fromSeq, this.filters.forStore)) {
      this.ahead.push(message);
      bytes += message.payload.length + (message.headers?.length ?? 0);
      if (this.ahead.length >= max || bytes >= aheadBytesMax) break;
    }
  }
}
