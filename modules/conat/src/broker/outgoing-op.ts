import type { PublishOp } from './parser.js';

/** What a client inside the process sends, without where to. */
export interface OutgoingBody {
  /** The subject that receivers see; absent or '': the one that they listen on. */
  readonly shown?: string;
  readonly reply?: string;
  /** A whole header block (`NATS/1.0…\r\n\r\n`). */
  readonly headers?: Buffer | null;
  readonly payload?: Buffer;
}

const scratchBytes = 64 * 1024;
let scratch: Buffer | null = Buffer.allocUnsafeSlow(scratchBytes);
const nothing = Buffer.alloc(0);

/**
 * Gives `use` the message in the form that publications of connections have. The buffer is lent
 * for the call: connections copy it into their frames.
 */
export function encodeOp<T>(to: string, body: OutgoingBody, use: (op: PublishOp) => T): T {
  const { reply = '', headers, payload = nothing } = body;
  const headerBytes = headers?.length ?? 0;
  const totalBytes = headerBytes + payload.length;
  const sizes = headerBytes > 0 ? `${headerBytes} ${totalBytes}\r\n` : `${totalBytes}\r\n`;
  const start = reply === '' ? 0 : reply.length + 1;
  const length = start + sizes.length + totalBytes + 2;
  // A handler that publishes in turn finds the scratch taken.
  const lent = length <= scratchBytes ? scratch : null;
  const buffer = lent ?? Buffer.allocUnsafe(length);
  if (lent) scratch = null;
  if (start > 0) {
    buffer.write(reply, 0, 'latin1');
    buffer[start - 1] = 32;
  }
  const bodyStart = start + buffer.write(sizes, start, 'latin1');
  headers?.copy(buffer, bodyStart);
  payload.copy(buffer, bodyStart + headerBytes);
  buffer[length - 2] = 13;
  buffer[length - 1] = 10;
  try {
    return use({
      subject: to,
      shown: body.shown ?? '',
      said: '',
      reply,
      headerBytes,
      withHeaders: headerBytes > 0,
      totalBytes,
      buffer,
      tailStart: 0,
      sizesStart: start,
      tailEnd: length,
      bodyStart,
    });
  } finally {
    if (lent) scratch = lent;
  }
}
