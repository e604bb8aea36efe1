import type { PublishOp } from '../broker/parser.js';

/** What a server says. */
export interface ServerSink {
  info(json: string): void;
  /** @param op lent for the call; @param sid of the subscription that hears it */
  message(sid: string, op: PublishOp): void;
  ping(): void;
  pong(): void;
  error(text: string): void;
  /** The stream cannot be followed any further. */
  violation(line: string): void;
}

/** INFO names every node of a cluster and may be long. */
const lineBytesMax = 1024 * 1024;
const lf = 10;
const cr = 13;

/**
 * The server half of the NATS protocol; input may be cut anywhere. A message becomes what clients
 * publish here, so that its tail (`[reply ]sizes\r\npayload\r\n`) is handed on as it came.
 */
export class ServerParser {
  private carry: Buffer | null = null;
  private carried = 0;
  /** Bytes wanted before it is of any use to look again. */
  private need = 0;
  private stopped = false;
  private readonly op: PublishOp = {
    subject: '',
    shown: '',
    said: '',
    reply: '',
    headerBytes: 0,
    withHeaders: false,
    totalBytes: 0,
    buffer: Buffer.alloc(0),
    tailStart: 0,
    sizesStart: 0,
    tailEnd: 0,
    bodyStart: 0,
  };

  constructor(private readonly sink: ServerSink) {}

  stop(): void {
    this.stopped = true;
    this.carry = null;
    this.carried = 0;
  }

  feed(chunk: Buffer): void {
    if (this.stopped) return;
    let buffer = chunk;
    if (this.carried > 0) {
      this.keep(chunk);
      if (this.carried < this.need) return;
      buffer = this.carry!.subarray(0, this.carried);
      this.carry = null;
      this.carried = 0;
      this.need = 0;
    }
    let at = 0;
    while (at < buffer.length) {
      const next = this.next(buffer, at);
      if (this.stopped) return;
      if (next < 0) break;
      at = next;
    }
    if (at < buffer.length) this.keep(buffer.subarray(at));
  }

  private keep(chunk: Buffer): void {
    const wanted = this.carried + chunk.length;
    if (!this.carry || this.carry.length < wanted) {
      const grown = Buffer.allocUnsafeSlow(Math.max(wanted, Math.min(this.need, wanted * 2)));
      this.carry?.copy(grown, 0, 0, this.carried);
      this.carry = grown;
    }
    chunk.copy(this.carry, this.carried);
    this.carried = wanted;
  }

  /** Handles the op at `at`; gives the start of the next one, or -1 when it is not whole yet. */
  private next(buffer: Buffer, at: number): number {
    const newline = buffer.indexOf(lf, at);
    if (newline < 0) return buffer.length - at > lineBytesMax ? this.fail('a long line') : -1;
    const end = newline > at && buffer[newline - 1] === cr ? newline - 1 : newline;
    const first = buffer[at]!;
    if (first === 0x4d) return this.message(buffer, at, at + 4, end, newline);
    if (first === 0x48) return this.message(buffer, at, at + 5, end, newline);
    const line = buffer.toString('utf8', at, end);
    if (line === 'PING') this.sink.ping();
    else if (line === 'PONG') this.sink.pong();
    else if (line.startsWith('INFO ')) this.sink.info(line.slice(5));
    else if (line.startsWith('-ERR ')) this.sink.error(line.slice(5).replace(/^'|'$/g, ''));
    else if (line !== '+OK') return this.fail(line);
    return newline + 1;
  }

  /** `MSG subject sid [reply] total` or `HMSG subject sid [reply] headers total`. */
  private message(
    buffer: Buffer,
    at: number,
    argsAt: number,
    end: number,
    newline: number,
  ): number {
    const words = buffer.toString('latin1', argsAt, end).split(' ');
    const withHeaders = argsAt - at === 5;
    const sizes = withHeaders ? 2 : 1;
    const total = Number(words[words.length - 1]);
    const headers = withHeaders ? Number(words[words.length - 2]) : 0;
    const hasReply = words.length === 3 + sizes;
    if (!(total >= headers && headers >= 0) || (!hasReply && words.length !== 2 + sizes)) {
      return this.fail(buffer.toString('latin1', at, end));
    }
    const bodyStart = newline + 1;
    const tailEnd = bodyStart + total + 2;
    if (buffer.length < tailEnd) {
      this.need = tailEnd - at;
      return -1;
    }
    const { op } = this;
    op.subject = words[0]!;
    op.shown = op.said = '';
    op.reply = hasReply ? words[2]! : '';
    op.headerBytes = headers;
    op.withHeaders = headers > 0;
    op.totalBytes = total;
    op.buffer = buffer;
    op.tailStart = argsAt + words[0]!.length + words[1]!.length + 2;
    op.sizesStart = op.tailStart + (hasReply ? op.reply.length + 1 : 0);
    op.tailEnd = tailEnd;
    op.bodyStart = bodyStart;
    this.sink.message(words[1]!, op);
    return tailEnd;
  }

  private fail(line: string): number {
    this.stop();
    this.sink.violation(line.slice(0, 80));
    return -1;
  }
}
