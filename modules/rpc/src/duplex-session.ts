import { Readable, Writable } from 'node:stream';
import type { ServiceLimits } from './service-limits.js';
import { Silence } from './silence.js';

/** Channels of a duplex call. */
export const channels = { stdin: 0, stdout: 1, stderr: 2 } as const;

/** What a frame is. The header is type, channel and sequence (6 bytes), the rest its body. */
export const frames = {
  data: 1,
  end: 2,
  credit: 3,
  control: 4,
  result: 5,
  error: 6,
  cancel: 7,
  keepalive: 8,
  bye: 9,
} as const;

const frameHeaderBytes = 6;

export interface DuplexEvents {
  send(frame: Buffer): void;
  control(body: Uint8Array): void;
  result(body: Uint8Array): void;
  error(body: Uint8Array): void;
  cancel(): void;
  bye(): void;
  /** A message was lost or makes no sense, or nothing came for too long. */
  broken(reason: string, silent: boolean): void;
}

/**
 * One side of a duplex call: bytes in channels, each with a window of credit, over a path that
 * keeps order but may lose its connection. Frames are numbered, so that a gap is noticed; the
 * sender of a channel stops when the window is used up until the reader has read.
 */
export class DuplexSession {
  private readonly outgoing = new Map<number, OutgoingChannel>();
  private readonly incoming = new Map<number, IncomingChannel>();
  private sent = 0;
  private received = 0;
  private readonly silence: Silence;
  private lastFrame: Buffer | null = null;
  private over = false;
  private readonly timer: NodeJS.Timeout;

  constructor(
    private readonly events: DuplexEvents,
    readonly limits: ServiceLimits,
  ) {
    this.silence = new Silence(limits.heartbeatMs);
    this.timer = setInterval(() => this.tick(), limits.heartbeatMs);
    this.timer.unref();
  }

  openOutgoing(channel: number): Writable {
    const stream = new OutgoingChannel(channel, this);
    this.outgoing.set(channel, stream);
    return stream;
  }

  openIncoming(channel: number): Readable {
    const stream = new IncomingChannel(channel, this);
    this.incoming.set(channel, stream);
    return stream;
  }

  send(type: number, channel: number, body: Uint8Array = new Uint8Array()): void {
    if (this.over) return;
    const frame = Buffer.allocUnsafe(frameHeaderBytes + body.length);
    frame[0] = type;
    frame[1] = channel;
    frame.writeUInt32BE(this.sent >>> 0, 2);
    if (type !== frames.keepalive) this.sent += 1;
    frame.set(body, frameHeaderBytes);
    this.lastFrame = type === frames.result || type === frames.error ? frame : null;
    this.events.send(frame);
  }

  receive(frame: Uint8Array): void {
    if (this.over) return;
    this.silence.heard();
    if (frame.length < frameHeaderBytes) {
      this.events.broken('a frame is cut short', false);
      return;
    }
    const view = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
    const type = view[0]!;
    const sequence = view.readUInt32BE(2);
    const expected = this.received >>> 0;
    // A result is said again until it was heard.
    const again = sequence !== expected && sequence === (expected - 1) >>> 0;
    if (again && (type === frames.result || type === frames.error)) return;
    if (sequence !== expected) {
      this.events.broken('messages were lost', false);
      return;
    }
    if (type !== frames.keepalive) this.received += 1;
    this.dispatch(type, view[1]!, view.subarray(frameHeaderBytes));
  }

  /** Stops timers and sends nothing more. What was received can still be read. */
  close(): void {
    this.over = true;
    clearInterval(this.timer);
  }

  /** Ends all streams because the call failed. */
  destroyStreams(error: Error): void {
    for (const stream of this.outgoing.values()) stream.destroy(error);
    for (const stream of this.incoming.values()) stream.destroy(error);
  }

  /** Readers read what came, and then fail: a stream whose end was not said must not look whole. */
  cutIncoming(error: Error): void {
    for (const stream of this.incoming.values()) stream.cut(error);
  }

  private dispatch(type: number, channel: number, body: Buffer): void {
    switch (type) {
      case frames.data:
        if (this.incoming.get(channel)?.accept(body) !== true) {
          this.events.broken('more bytes came than were allowed', false);
        }
        break;
      case frames.end:
        this.incoming.get(channel)?.end();
        break;
      case frames.credit:
        if (
          body.length !== 4 ||
          this.outgoing.get(channel)?.credit(body.readUInt32BE(0)) !== true
        ) {
          this.events.broken('credit that makes no sense', false);
        }
        break;
      case frames.control:
        this.events.control(body);
        break;
      case frames.result:
        this.events.result(body);
        break;
      case frames.error:
        this.events.error(body);
        break;
      case frames.cancel:
        this.events.cancel();
        break;
      case frames.bye:
        this.events.bye();
        break;
      case frames.keepalive:
        break;
      default:
        this.events.broken(`unknown frame type ${type}`, false);
    }
  }

  private tick(): void {
    if (this.silence.beat() >= this.limits.peerSilentMs) {
      this.events.broken('the other side is silent', true);
      return;
    }
    if (this.lastFrame) this.events.send(this.lastFrame);
    else this.send(frames.keepalive, 0);
  }
}

/** What the other side reads: written as its credit allows. */
class OutgoingChannel extends Writable {
  private left: number;
  private waiting: { chunk: Buffer; done: (error?: Error | null) => void } | null = null;

  constructor(
    private readonly channel: number,
    private readonly session: DuplexSession,
  ) {
    super({ highWaterMark: session.limits.chunkBytesMax });
    this.left = session.limits.windowBytes;
    // A call that fails destroys its streams; who does not listen must not die of it.
    this.on('error', () => undefined);
  }

  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: () => void): void {
    this.pump(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk, done);
  }

  /** Small writes that piled up travel together. */
  override _writev(
    chunks: { chunk: Buffer | string; encoding: BufferEncoding }[],
    done: () => void,
  ): void {
    this.pump(
      Buffer.concat(
        chunks.map(({ chunk, encoding }) =>
          typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk,
        ),
      ),
      done,
    );
  }

  override _final(done: () => void): void {
    this.session.send(frames.end, this.channel);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const { waiting } = this;
    this.waiting = null;
    waiting?.done(error);
    done(error);
  }

  credit(bytes: number): boolean {
    this.left += bytes;
    if (this.left > this.session.limits.windowBytes) return false;
    const { waiting } = this;
    this.waiting = null;
    if (waiting) this.pump(waiting.chunk, waiting.done);
    return true;
  }

  private pump(chunk: Buffer, done: (error?: Error | null) => void): void {
    let at = 0;
    try {
      while (at < chunk.length && this.left > 0) {
        const count = Math.min(chunk.length - at, this.left, this.session.limits.chunkBytesMax);
        this.session.send(frames.data, this.channel, chunk.subarray(at, at + count));
        this.left -= count;
        at += count;
      }
    } catch (error) {
      done(error as Error);
      return;
    }
    if (at < chunk.length) this.waiting = { chunk: chunk.subarray(at), done };
    else done();
  }
}

/** What the other side wrote; reading it gives credit back. */
class IncomingChannel extends Readable {
  private readonly queue: Buffer[] = [];
  private queuedBytes = 0;
  private owedBytes = 0;
  private wanted = false;
  private ended = false;
  private toldEnd = false;
  private failure: Error | null = null;

  constructor(
    private readonly channel: number,
    private readonly session: DuplexSession,
  ) {
    super({ highWaterMark: session.limits.chunkBytesMax });
    this.on('error', () => undefined);
  }

  /** @returns false when the sender overran its window */
  accept(body: Buffer): boolean {
    const { windowBytes, chunkBytesMax } = this.session.limits;
    if (body.length > chunkBytesMax || this.queuedBytes + body.length > windowBytes) return false;
    if (this.destroyed || this.ended) {
      this.repay(body.length);
      return true;
    }
    // Copied: the message is a slice of a whole frame, which would stay alive with it.
    this.queue.push(Buffer.from(body));
    this.queuedBytes += body.length;
    this.drain();
    return true;
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.drain();
  }

  /** Without an end: what came before can still be read, and then this error comes. */
  cut(error: Error): void {
    if (this.ended) return;
    this.failure ??= error;
    this.failWhenRead();
  }

  override read(size?: number): Buffer | null {
    const chunk = super.read(size) as Buffer | null;
    this.failWhenRead();
    return chunk;
  }

  override _read(): void {
    this.wanted = true;
    this.drain();
  }

  /** Nobody will read: what comes is dropped, and the writer need not stop for it. */
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const dropped = this.queuedBytes;
    this.queue.length = 0;
    this.queuedBytes = 0;
    if (dropped > 0) this.repay(dropped);
    done(error);
  }

  private drain(): void {
    while (this.wanted && this.queue.length > 0) {
      const chunk = this.queue.shift()!;
      this.queuedBytes -= chunk.length;
      this.wanted = this.push(chunk);
      this.repay(chunk.length);
    }
    if (this.ended && this.queue.length === 0 && !this.destroyed && !this.toldEnd) {
      this.toldEnd = true;
      this.push(null);
    }
  }

  private failWhenRead(): void {
    if (this.failure && this.queue.length === 0 && this.readableLength === 0) {
      this.destroy(this.failure);
    }
  }

  private repay(bytes: number): void {
    this.owedBytes += bytes;
    if (this.owedBytes < this.session.limits.windowBytes / 4) return;
    const body = Buffer.allocUnsafe(4);
    body.writeUInt32BE(this.owedBytes);
    this.owedBytes = 0;
    this.session.send(frames.credit, this.channel, body);
  }
}
