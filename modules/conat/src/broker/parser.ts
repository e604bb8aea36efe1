/** A publish as it lies in the read buffer; one object is reused, so take what must outlive the call. */
export interface PublishOp {
  /** On the broker: decides who hears it. */
  subject: string;
  /** The subject that receivers see; '' for `subject` as their connection shows it. */
  shown: string;
  /** The subject in the publisher's own words, where that differs from `subject`; else ''. */
  said: string;
  /** On the broker. */
  reply: string;
  /** Bytes of the header block, 0 without. */
  headerBytes: number;
  /** True when it came as HPUB. */
  withHeaders: boolean;
  /** Header block and payload together. */
  totalBytes: number;
  buffer: Buffer;
  /** `[reply ][hdr ]total\r\n…payload…\r\n`: what MSG and HMSG carry verbatim behind the sid. */
  tailStart: number;
  /** Where the sizes in the tail start; equal to `tailStart` when `reply` is not in the buffer. */
  sizesStart: number;
  tailEnd: number;
  /** Start of header block and payload. */
  bodyStart: number;
}

export interface ParserSink {
  connect(json: string): void;
  /** False refuses HPUB (the client did not say that it knows headers). */
  headersAllowed(): boolean;
  publish(op: PublishOp): void;
  subscribe(subject: string, queue: string, sid: string): void;
  /** @param max deliveries after which the subscription ends; 0: now */
  unsubscribe(sid: string, max: number): void;
  ping(): void;
  pong(): void;
  /** The stream cannot be followed any further. `silent`: nats-server closes without a word. */
  violation(kind: 'unknown' | 'silent' | 'payload' | 'control line'): void;
}

/** Longer subjects are not compared with the one before. */
const rememberedSubjectBytes = 128;
/** `CONNECT`; what goes on behind it is none. */
const verbBytesMax = 7;
/** Between a verb and its words: they are kept as long as the line is not whole. */
const spacesBytesMax = 64;
const space = 32;
const tab = 9;
const cr = 13;
const lf = 10;

/**
 * The client half of the NATS protocol. Input may be cut anywhere: what is incomplete is kept in
 * one buffer that grows with the bytes that arrived, never with the size that was announced.
 */
export class Parser {
  private carry: Buffer | null = null;
  private carried = 0;
  /** Bytes that `carry` must hold before the op in it is whole; 0 while its line is not. */
  private need = 0;
  private stopped = false;
  private paused = false;
  private readonly starts: number[] = [];
  private readonly ends: number[] = [];
  private lastSubject = '';
  private lastLength = -1;
  private readonly lastBytes = Buffer.alloc(rememberedSubjectBytes);
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

  constructor(
    private readonly sink: ParserSink,
    private readonly controlLineBytesMax: number,
    /** Larger messages are a violation. */
    public payloadBytesMax: number,
  ) {}

  get carriedBytes(): number {
    return this.carried;
  }

  /** Keeps what follows until {@link resume}; for the time that authentication takes. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.feed(Buffer.alloc(0));
  }

  stop(): void {
    this.stopped = true;
    this.carry = null;
    this.carried = 0;
  }

  feed(chunk: Buffer): void {
    if (this.stopped) return;
    if (this.paused) {
      this.keep(chunk);
      return;
    }
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
      if (this.paused) break;
    }
    if (at < buffer.length) this.keep(buffer.subarray(at));
  }

  private keep(chunk: Buffer): void {
    if (chunk.length === 0) return;
    const wanted = this.carried + chunk.length;
    if (!this.carry || this.carry.length < wanted) {
      const grown = Buffer.allocUnsafeSlow(Math.max(wanted, Math.min(this.need, wanted * 2)));
      this.carry?.copy(grown, 0, 0, this.carried);
      this.carry = grown;
    }
    chunk.copy(this.carry, this.carried);
    this.carried = wanted;
  }

  private fail(kind: Parameters<ParserSink['violation']>[0]): number {
    this.stop();
    this.sink.violation(kind);
    return -1;
  }

  /** Handles the op at `at`; gives the start of the next one, or -1 when it is not whole yet. */
  private next(buffer: Buffer, at: number): number {
    const newline = buffer.indexOf(lf, at);
    const lineEnd = newline < 0 ? buffer.length : newline;
    if (lineEnd - at > this.controlLineBytesMax && this.isTooLong(buffer, at, lineEnd)) {
      return this.fail('control line');
    }
    if (newline < 0) return -1;
    const end = newline > at && buffer[newline - 1] === cr ? newline - 1 : newline;
    // Verbs are told apart by their letters with the case bit off.
    const first = buffer[at]! & 0xdf;
    const second = (buffer[at + 1] ?? 0) & 0xdf;
    if (first === 0x50 && second === 0x55) return this.publish(buffer, at, at + 3, end, newline);
    if (first === 0x48) return this.publish(buffer, at, at + 4, end, newline);
    return this.rest(buffer, at, end, newline + 1);
  }

  /** As nats-server, which counts what stands behind the verb, without the line's end. */
  private isTooLong(buffer: Buffer, at: number, lineEnd: number): boolean {
    const end = buffer[lineEnd - 1] === cr ? lineEnd - 1 : lineEnd;
    let start = at;
    while (start < end && start < at + verbBytesMax && !isSpace(buffer[start]!)) start += 1;
    while (start < end && isSpace(buffer[start]!)) start += 1;
    return end - start > this.controlLineBytesMax || start - at > verbBytesMax + spacesBytesMax;
  }

  private rest(buffer: Buffer, at: number, end: number, next: number): number {
    const line = buffer.toString('latin1', at, end);
    const upper = line.slice(0, 7).toUpperCase();
    if (upper.startsWith('PING')) this.sink.ping();
    else if (upper.startsWith('PONG')) this.sink.pong();
    else if (upper.startsWith('SUB') && /^[ \t]/.test(line.slice(3))) {
      const args = words(line.slice(3));
      if (args.length === 2) this.sink.subscribe(args[0]!, '', args[1]!);
      else if (args.length === 3) this.sink.subscribe(args[0]!, args[1]!, args[2]!);
      else return this.fail('silent');
    } else if (upper.startsWith('UNSUB') && /^[ \t]/.test(line.slice(5))) {
      const args = words(line.slice(5));
      if (args.length < 1 || args.length > 2) return this.fail('silent');
      const max = args.length === 2 && /^\d{1,15}$/.test(args[1]!) ? Number(args[1]) : 0;
      this.sink.unsubscribe(args[0]!, max);
    } else if (upper === 'CONNECT') {
      this.sink.connect(buffer.toString('utf8', at + 7, end).trim());
    } else if (!upper.startsWith('+OK') && !upper.startsWith('INFO')) {
      return this.fail(upper.startsWith('-ERR ') ? 'silent' : 'unknown');
    }
    return next;
  }

  private publish(
    buffer: Buffer,
    at: number,
    argsAt: number,
    end: number,
    newline: number,
  ): number {
    const withHeaders = argsAt - at === 4;
    if ((buffer[argsAt - 1]! & 0xdf) !== 0x42 || (withHeaders && !isHpub(buffer, at))) {
      return this.fail('unknown');
    }
    if (argsAt < end && buffer[argsAt] !== space && buffer[argsAt] !== tab) {
      return this.fail('unknown');
    }
    const count = this.split(buffer, argsAt, end);
    if (withHeaders && !this.sink.headersAllowed()) return this.fail('silent');
    const sizes = withHeaders ? 2 : 1;
    if (count === 0) return this.fail('unknown');
    if (count !== 1 + sizes && count !== 2 + sizes) return this.fail('silent');
    const { starts, ends, op } = this;
    const total = digits(buffer, starts[count - 1]!, ends[count - 1]!);
    const header = withHeaders ? digits(buffer, starts[count - 2]!, ends[count - 2]!) : 0;
    if (total < 0 || header < 0 || header > total) return this.fail('silent');
    if (total > this.payloadBytesMax) return this.fail('payload');
    const bodyStart = newline + 1;
    const bodyEnd = bodyStart + total;
    if (buffer.length < bodyEnd + 2) {
      // The terminator is looked at as soon as it is there: a stream that lost its place is told so.
      if (buffer.length === bodyEnd + 1 && buffer[bodyEnd] !== cr) return this.fail('unknown');
      this.need = bodyEnd + 2 - at;
      return -1;
    }
    if (buffer[bodyEnd] !== cr || buffer[bodyEnd + 1] !== lf) return this.fail('unknown');
    op.subject = this.subjectAt(buffer, starts[0]!, ends[0]!);
    op.said = '';
    op.reply = count === 2 + sizes ? buffer.toString('latin1', starts[1], ends[1]) : '';
    op.headerBytes = header;
    op.withHeaders = withHeaders && header > 0;
    op.totalBytes = total;
    op.buffer = buffer;
    op.tailStart = starts[1]!;
    op.sizesStart = starts[count - sizes]!;
    op.tailEnd = bodyEnd + 2;
    op.bodyStart = bodyStart;
    if (!this.isCanonical(count, end, newline) || op.withHeaders !== withHeaders) canonicalize(op);
    this.sink.publish(op);
    return bodyEnd + 2;
  }

  /** Publishers repeat themselves: the same bytes are the same string, which others then know, too. */
  private subjectAt(buffer: Buffer, start: number, end: number): string {
    const { lastBytes } = this;
    const length = end - start;
    if (length === this.lastLength) {
      let same = 0;
      while (same < length && buffer[start + same] === lastBytes[same]) same += 1;
      if (same === length) return this.lastSubject;
    }
    const subject = buffer.toString('latin1', start, end);
    // The bytes and the string that stands for them: both change, or neither does.
    if (length <= lastBytes.length) {
      buffer.copy(lastBytes, 0, start, end);
      this.lastLength = length;
      this.lastSubject = subject;
    }
    return subject;
  }

  /** Finds the words between `from` and `to`; more than five are of no use to anyone. */
  private split(buffer: Buffer, from: number, to: number): number {
    let count = 0;
    let i = from;
    while (i < to && count < 6) {
      while (i < to && (buffer[i] === space || buffer[i] === tab)) i += 1;
      if (i >= to) break;
      this.starts[count] = i;
      while (i < to && buffer[i] !== space && buffer[i] !== tab) i += 1;
      this.ends[count] = i;
      count += 1;
    }
    return count;
  }

  /** One space between words and CRLF behind them: then the tail can be handed on as it is. */
  private isCanonical(count: number, end: number, newline: number): boolean {
    if (newline !== end + 1 || this.ends[count - 1] !== end) return false;
    for (let i = 2; i < count; i += 1) {
      if (this.starts[i] !== this.ends[i - 1]! + 1) return false;
    }
    return true;
  }
}

function canonicalize(op: PublishOp): void {
  const sizes = op.withHeaders ? `${op.headerBytes} ${op.totalBytes}` : `${op.totalBytes}`;
  const head = Buffer.from(`${op.reply ? `${op.reply} ` : ''}${sizes}\r\n`, 'latin1');
  op.buffer = Buffer.concat([head, op.buffer.subarray(op.bodyStart, op.tailEnd)]);
  op.tailStart = 0;
  op.sizesStart = op.reply ? op.reply.length + 1 : 0;
  op.tailEnd = op.buffer.length;
  op.bodyStart = head.length;
}

const isSpace = (byte: number): boolean => byte === space || byte === tab;

const words = (text: string): string[] => text.split(/[ \t]+/).filter((word) => word !== '');

const isHpub = (buffer: Buffer, at: number): boolean =>
  (buffer[at + 1]! & 0xdf) === 0x50 && (buffer[at + 2]! & 0xdf) === 0x55;

function digits(buffer: Buffer, start: number, end: number): number {
  if (end - start > 10 || end === start) return -1;
  let value = 0;
  for (let i = start; i < end; i += 1) {
    const digit = buffer[i]! - 48;
    if (digit < 0 || digit > 9) return -1;
    value = value * 10 + digit;
  }
  return value;
}
