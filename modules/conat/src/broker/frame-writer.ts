/** Working buffers that wait for their next tick, shared by all connections, by their size. */
const spare = new Map<number, Buffer[]>();
const spareMax = 64;
/** What most connections need in a tick, and what a busy one fills before it goes on. */
const smallBytes = 16 * 1024;
const largeBytes = 64 * 1024;
/** Below this a frame is copied out, so that the working buffer can be used again at once. */
const copyOutBytesMax = 4 * 1024;
/** Up to this it is quicker to copy by hand. */
const byHandBytesMax = 32;

/**
 * Sends a frame. `taken` is called when nobody looks at its bytes any more; who cannot tell never
 * calls it.
 */
export type SendFrame = (frame: Buffer, taken?: () => void) => void;

/**
 * Collects what one connection is sent within a tick into as few frames as possible. An idle
 * connection holds no buffer.
 */
export class FrameWriter {
  private buffer: Buffer | null = null;
  private readonly smallBytes: number;
  private readonly largeBytes: number;
  length = 0;

  constructor(
    frameBytesMax: number,
    private readonly send: SendFrame,
  ) {
    this.smallBytes = Math.min(smallBytes, frameBytesMax);
    this.largeBytes = Math.min(largeBytes, frameBytesMax);
  }

  /** @param text binary string (one char a byte) */
  text(text: string): void {
    if (text.length > this.largeBytes) {
      this.bytes(Buffer.from(text, 'latin1'), 0, text.length);
      return;
    }
    const room = this.room(text.length);
    this.length += room.write(text, this.length, 'latin1');
  }

  bytes(source: Buffer, start: number, end: number): void {
    const count = end - start;
    if (count > this.largeBytes) {
      this.parts(source, start, end);
      return;
    }
    const room = this.room(count);
    let to = this.length;
    if (count <= byHandBytesMax) for (let i = start; i < end; i += 1) room[to++] = source[i]!;
    else source.copy(room, to, start, end);
    this.length += count;
  }

  /** Hands over the frame, if there is one. */
  flush(): void {
    const { buffer, length } = this;
    if (!buffer || length === 0) return;
    this.buffer = null;
    this.length = 0;
    if (length <= copyOutBytesMax) {
      const frame = Buffer.from(buffer.subarray(0, length));
      recycle(buffer);
      this.send(frame);
    } else {
      this.send(buffer.subarray(0, length), () => recycle(buffer));
    }
  }

  discard(): void {
    if (this.buffer) recycle(this.buffer);
    this.buffer = null;
    this.length = 0;
  }

  /** More than a frame holds: protocol lines may be split anywhere. */
  private parts(source: Buffer, start: number, end: number): void {
    for (let at = start; at < end;) {
      const room = this.room(1);
      const count = Math.min(end - at, room.length - this.length);
      source.copy(room, this.length, at, at + count);
      this.length += count;
      at += count;
    }
  }

  /** A buffer with `bytes` free behind `length`; what is full goes out first. */
  private room(bytes: number): Buffer {
    const { buffer, length } = this;
    if (buffer && buffer.length - length >= bytes) return buffer;
    if (length + bytes > this.largeBytes) this.flush();
    const wanted = this.length + bytes <= this.smallBytes ? this.smallBytes : this.largeBytes;
    const larger = spare.get(wanted)?.pop() ?? Buffer.allocUnsafeSlow(wanted);
    if (this.buffer) {
      this.buffer.copy(larger, 0, 0, this.length);
      recycle(this.buffer);
    }
    return (this.buffer = larger);
  }
}

function recycle(buffer: Buffer): void {
  const same = spare.get(buffer.length);
  if (!same) spare.set(buffer.length, [buffer]);
  else if (same.length < spareMax) same.push(buffer);
}
