import type { StreamStore } from '../account-store.js';
import { headerText, headerValue } from '../headers.js';
import { messageIdBytesMax, messageIdsMax } from '../limits.js';
import { nsToMs } from '@rookery/conat/contract';

interface Seen {
  readonly id: string;
  readonly seq: number;
  readonly timeNs: bigint;
}

/**
 * The ids (`Nats-Msg-Id`) of messages within the duplicate window. They lie in the messages'
 * headers, so nothing else is stored: after a restart they are read from there.
 */
export class MessageIds {
  private readonly byId = new Map<string, Seen>();
  /** In the order of their times; entries before `head` are forgotten. */
  private seen: Seen[] = [];
  private head = 0;
  private bytes = 0;

  constructor(private windowNs: bigint) {}

  /** @returns the sequence that the id was first stored at, or 0 */
  find(id: string, nowNs: bigint): number {
    this.forget(nowNs);
    return this.byId.get(id)?.seq ?? 0;
  }

  add(id: string, seq: number, timeNs: bigint): void {
    if (this.windowNs <= 0n) return;
    // A part of a longer string would keep the whole: all the headers.
    const entry = { id: Buffer.from(id, 'latin1').toString('latin1'), seq, timeNs };
    this.byId.set(entry.id, entry);
    this.seen.push(entry);
    this.bytes += id.length;
    while (this.seen.length - this.head > messageIdsMax || this.bytes > messageIdBytesMax) {
      this.forgetFirst();
    }
  }

  /** A rollback: what came after the last message that is stored was never there. */
  dropAfter(lastSeq: number): void {
    for (let last = this.seen.at(-1); last && last.seq > lastSeq; last = this.seen.at(-1)) {
      if (this.seen.length === this.head) break;
      if (this.byId.get(last.id) === last) this.byId.delete(last.id);
      this.bytes -= last.id.length;
      this.seen.pop();
    }
  }

  setWindow(windowNs: bigint): void {
    this.windowNs = windowNs;
  }

  load(store: StreamStore, nowNs: bigint): void {
    const { messages, lastTimeNs } = store.state;
    if (messages === 0 || lastTimeNs <= nowNs - this.windowNs) return;
    for (const message of store.read(store.seqAtTime(nowNs - this.windowNs), null)) {
      const id = message.headers && headerValue(headerText(message.headers), 'Nats-Msg-Id');
      if (id) this.add(id, message.seq, message.timeNs);
    }
  }

  /** When the last id leaves the window; null when there is none. */
  endMs(nowNs: bigint): number | null {
    this.forget(nowNs);
    const last = this.seen[this.seen.length - 1];
    return last && this.byId.size > 0 ? nsToMs(last.timeNs + this.windowNs) + 1 : null;
  }

  private forget(nowNs: bigint): void {
    while (this.head < this.seen.length) {
      if (nowNs - this.seen[this.head]!.timeNs < this.windowNs) break;
      this.forgetFirst();
    }
    if (this.head * 2 <= this.seen.length) return;
    this.seen = this.seen.slice(this.head);
    this.head = 0;
  }

  private forgetFirst(): void {
    const first = this.seen[this.head]!;
    if (this.byId.get(first.id) === first) this.byId.delete(first.id);
    this.bytes -= first.id.length;
    this.head += 1;
  }
}
