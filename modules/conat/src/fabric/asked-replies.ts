import type { PublishOp } from '../broker/parser.js';
import type { Speaker, UnheardOp } from '../broker/ports.js';

interface Asked extends UnheardOp {
  readonly from: Speaker;
}

/** Entries of one generation; more make it end early. */
const askedMax = 65_536;

/**
 * Who asked, by reply subject, for as long as the cluster may say that nobody heard it: it says so
 * on any subscription of our connection that hears the reply, and of our clients only the one that
 * asked may be told. Two generations, so that forgetting costs nothing.
 */
export class AskedReplies {
  private young = new Map<string, Asked>();
  private old = new Map<string, Asked>();
  private since = 0;

  constructor(private readonly keptMs: number) {}

  add(from: Speaker, { subject, said, reply }: PublishOp, nowMs: number): void {
    if (nowMs - this.since > this.keptMs || this.young.size >= askedMax) {
      this.old = this.young;
      this.young = new Map();
      this.since = nowMs;
    }
    this.young.set(reply, { from, subject, said, reply });
  }

  take(reply: string): Asked | undefined {
    const asked = this.young.get(reply) ?? this.old.get(reply);
    if (asked && !this.young.delete(reply)) this.old.delete(reply);
    return asked;
  }
}

const status = Buffer.from('NATS/1.0 503\r\n');

/** Has this message the form in which a server says that nobody heard a request? */
export const isNoResponders = (op: PublishOp): boolean =>
  op.withHeaders &&
  op.headerBytes === op.totalBytes &&
  op.headerBytes >= status.length &&
  status.compare(op.buffer, op.bodyStart, op.bodyStart + status.length) === 0;
