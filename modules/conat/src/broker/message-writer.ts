import type { FrameWriter } from './frame-writer.js';
import type { PublishOp } from './parser.js';
import type { Subscription } from './ports.js';

/**
 * Writes one delivery. The tail of the publisher's line (`[reply ]size\r\npayload\r\n`) is copied as
 * it is; the head is remembered with the subscription, since subjects often repeat.
 * @param headers false for a client that does not know headers: they are taken off
 */
export function writeMessage(
  writer: FrameWriter,
  subscription: Subscription,
  op: PublishOp,
  headers: boolean,
): void {
  const stripped = op.withHeaders && !headers;
  if (op.subject === subscription.lastSubject && !stripped) {
    const head = subscription.lastHead;
    if (head && (head[0] === 72) === op.withHeaders) {
      writer.bytes(head, 0, head.length);
      writer.bytes(op.buffer, op.tailStart, op.tailEnd);
      return;
    }
    subscription.lastHead = Buffer.from(headOf(op, subscription.sid, op.withHeaders), 'latin1');
  } else if (!stripped) {
    // Remembered from the second time on: replies have subjects that never come again.
    subscription.lastSubject = op.subject;
    subscription.lastHead = null;
  }
  writer.text(headOf(op, subscription.sid, op.withHeaders && !stripped));
  if (stripped) {
    const size = op.totalBytes - op.headerBytes;
    writer.text(`${op.reply ? `${op.reply} ` : ''}${size}\r\n`);
    writer.bytes(op.buffer, op.bodyStart + op.headerBytes, op.tailEnd);
  } else {
    writer.bytes(op.buffer, op.tailStart, op.tailEnd);
  }
}

/** The message that tells a requester that nobody heard it. */
export function noRespondersMessage(reply: string, sid: string, subject: string): string {
  const header = `NATS/1.0 503\r\nNats-Subject: ${subject}\r\n\r\n`;
  const size = header.length;
  return `HMSG ${reply} ${sid} ${size} ${size}\r\n${header}\r\n`;
}

const headOf = (op: PublishOp, sid: string, withHeaders: boolean): string =>
  `${withHeaders ? 'HMSG' : 'MSG'} ${op.subject} ${sid} `;
