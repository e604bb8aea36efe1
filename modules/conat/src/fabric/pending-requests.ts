import type { PublishOp } from '../broker/parser.js';
import type { Publisher, UnheardOp } from '../broker/ports.js';

interface Asked extends UnheardOp {
  readonly from: Publisher;
}

/** Reply subjects of one generation; more make it end early. */
const repliesMax = 65_536;
/** Requests that wait at one reply subject; older ones are forgotten. */
const askedPerReplyMax = 64;

type Generation = Map<string, Asked[]>;

/**
 * Who asked, by reply subject, for as long as the cluster may say that nobody heard it: it says so
 * on any subscription of our connection that hears the reply, and of our clients only the one that
 * asked may be told. Two generations, so that forgetting costs nothing.
 */
export class PendingRequests {
  private young: Generation = new Map();
  private old: Generation = new Map();
  private since = 0;

  constructor(private readonly keptMs: number) {}

  add(from: Publisher, { subject, said, reply }: PublishOp, nowMs: number): void {
    if (nowMs - this.since > this.keptMs || this.young.size >= repliesMax) {
      this.old = this.young;
      this.young = new Map();
      this.since = nowMs;
    }
    const asked = { from, subject, said, reply };
    const others = this.young.get(reply);
    if (!others) this.young.set(reply, [asked]);
    else if (others.push(asked) > askedPerReplyMax) others.shift();
  }

  /** @param op says that nobody heard a request */
  take(op: PublishOp): Asked | undefined {
    const subject = subjectOf(op);
    return takeFrom(this.young, op.subject, subject) ?? takeFrom(this.old, op.subject, subject);
  }
}

function takeFrom(asked: Generation, reply: string, subject: string | null): Asked | undefined {
  const waiting = asked.get(reply);
  if (!waiting) return undefined;
  // A node that does not say which it was answers in order.
  const at = subject === null ? 0 : waiting.findIndex((one) => one.subject === subject);
  const [found] = at < 0 ? [] : waiting.splice(at, 1);
  if (waiting.length === 0) asked.delete(reply);
  return found;
}

const status = Buffer.from('NATS/1.0 503\r\n');

/** What was asked; nodes before NATS 2.12 do not say. */
function subjectOf({ buffer, bodyStart, headerBytes }: PublishOp): string | null {
  const headers = buffer.toString('latin1', bodyStart, bodyStart + headerBytes);
  return /\r\nNats-Subject: (.*)\r\n/.exec(headers)?.[1] ?? null;
}

/** Has this message the form in which a server says that nobody heard a request? */
export const isNoResponders = (op: PublishOp): boolean =>
  op.withHeaders &&
  op.headerBytes === op.totalBytes &&
  op.headerBytes >= status.length &&
  status.compare(op.buffer, op.bodyStart, op.bodyStart + status.length) === 0;
