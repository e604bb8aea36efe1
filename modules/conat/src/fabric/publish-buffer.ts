import type { PublishOp } from '../broker/parser.js';
import type { Publisher, UnheardOp } from '../broker/ports.js';

interface Held {
  readonly from: Publisher;
  readonly op: UnheardOp;
  readonly line: string;
  /** What follows the line's head, up to the end of the message. */
  readonly tail: Buffer;
}

/** Publications that wait for a cluster that is away, in order, bounded in bytes. */
export class PublishBuffer {
  private held: Held[] = [];
  bytes = 0;

  constructor(private readonly bytesMax: number) {}

  /** @returns false when there is no room */
  add(from: Publisher, op: PublishOp, line: string, start: number): boolean {
    const bytes = line.length + op.tailEnd - start;
    if (this.bytes + bytes > this.bytesMax) return false;
    const { subject, said, reply } = op;
    const tail = Buffer.from(op.buffer.subarray(start, op.tailEnd));
    this.held.push({ from, op: { subject, said, reply }, line, tail });
    this.bytes += bytes;
    return true;
  }

  /** All that wait, which wait no longer. */
  take(): readonly Held[] {
    const { held } = this;
    this.held = [];
    this.bytes = 0;
    return held;
  }
}
