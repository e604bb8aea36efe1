import type { SubjectMapping } from '../edge/subject-space.js';
import type { FrameWriter } from './frame-writer.js';
import type { PublishOp } from './parser.js';
import type { Subscription } from './ports.js';

/**
 * Writes one delivery. The tail of the publisher's line (`[reply ]size\r\npayload\r\n`) is copied as
 * it is, unless this client sees the reply subject otherwise; the head is remembered with the
 * subscription, since subjects often repeat.
 * @param headers false for a client that does not know headers: they are taken off
 */
export function writeMessage(
  writer: FrameWriter,
  subscription: Subscription,
  op: PublishOp,
  headers: boolean,
  space: SubjectMapping | null,
  nowMs: number,
): void {
  const stripped = op.withHeaders && !headers;
  const { sid } = subscription;
  const subject = op.shown || (space ? space.toClient(op.subject) : op.subject);
  const head = stripped ? null : headFor(subscription, subject, op.withHeaders);
  if (head) writer.bytes(head, 0, head.length);
  else writer.text(headOf(subject, sid, op.withHeaders && !stripped));
  const reply = space ? space.replyToClient(op.reply, nowMs) : op.reply;
  const inTail = reply === op.reply && op.tailStart !== op.sizesStart;
  if (stripped) {
    const bytes = op.totalBytes - op.headerBytes;
    writer.text(reply === '' ? `${bytes}\r\n` : `${reply} ${bytes}\r\n`);
    writer.bytes(op.buffer, op.bodyStart + op.headerBytes, op.tailEnd);
  } else if (inTail || reply === '') {
    writer.bytes(op.buffer, op.tailStart, op.tailEnd);
  } else {
    writer.text(`${reply} `);
    writer.bytes(op.buffer, op.sizesStart, op.tailEnd);
  }
}

/** The message that tells a requester that nobody heard it. */
export function noRespondersMessage(reply: string, sid: string, subject: string): string {
  const header = `NATS/1.0 503\r\nNats-Subject: ${subject}\r\n\r\n`;
  const size = header.length;
  return `HMSG ${reply} ${sid} ${size} ${size}\r\n${header}\r\n`;
}

/** The remembered head, if the last message had the same; remembers it from the second time on. */
function headFor(subscription: Subscription, subject: string, withHeaders: boolean): Buffer | null {
  if (subject !== subscription.lastSubject) {
    // Replies have subjects that never come again.
    subscription.lastSubject = subject;
    subscription.lastHead = null;
    return null;
  }
  const { lastHead } = subscription;
  if (lastHead && (lastHead[0] === 72) === withHeaders) return lastHead;
  return (subscription.lastHead = Buffer.from(
    headOf(subject, subscription.sid, withHeaders),
    'latin1',
  ));
}

const headOf = (subject: string, sid: string, withHeaders: boolean): string =>
  `${withHeaders ? 'HMSG' : 'MSG'} ${subject} ${sid} `;
