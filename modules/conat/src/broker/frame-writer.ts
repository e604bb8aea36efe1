/** Working buffers that wait for their next tick, shared by all connections. */
const spare: Buffer[] = [];
const spareMax = 64;
const workingBytes = 16 * 1024;
/** Below this a frame is copied out, so that the working buffer can be used again. */
const copyOutBytesMax = 4 * 1024;

/**
 * Collects what one connection is sent within a tick into as few frames as possible. An idle
 * connection holds no buffer.
 */
export class FrameWriter {
  private buffer: Buffer | null = null;
  length = 0;

  constructor(
    private readonly frameBytesMax: number,
    private readonly send: (frame: Buffer) => void,
  ) {}

  /** @param text binary string (one char a byte) */
  text(text: string): void {
    const room = this.room(text.length);
    if (!room) {
      this.bytes(Buffer.from(text, 'latin1'), 0, text.length);
      return;
    }
    this.length += room.write(text, this.length, 'latin1');
  }

  bytes(source: Buffer, start: number, end: number): void {
    const room = this.room(end - start);
    if (room) {
      source.copy(room, this.length, start, end);
      this.length += end - start;
      return;
    }
    // More than a frame holds: protocol lines may be split anywhere.
    let at = start;
    while (at < end) {
      const part = this.room(1)!;
      const count = Math.min(end - at, this.frameBytesMax - this.length);
      const space = count <= part.length - this.length ? part : this.grow(this.length + count);
      source.copy(space, this.length, at, at + count);
      this.length += count;
      at += count;
      if (this.length >= this.frameBytesMax) this.flush();
    }
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
      this.send(buffer.subarray(0, length));
    }
  }

  discard(): void {
    if (this.buffer) recycle(this.buffer);
    this.buffer = null;
    this.length = 0;
  }

  /** A buffer with `bytes` free behind `length`, or null when no frame can hold them. */
  private room(bytes: number): Buffer | null {
    const { buffer } = this;
    if (buffer && buffer.length - this.length >= bytes) return buffer;
    if (bytes > this.frameBytesMax) return null;
    if (this.length + bytes > this.frameBytesMax) this.flush();
    return this.grow(this.length + bytes);
  }

  private grow(wanted: number): Buffer {
    const { buffer } = this;
    if (!buffer) {
      return (this.buffer =
        (wanted <= workingBytes && workingBytes <= this.frameBytesMax ? spare.pop() : undefined) ??
        Buffer.allocUnsafeSlow(Math.min(this.frameBytesMax, Math.max(wanted, workingBytes))));
    }
    if (buffer.length >= wanted) return buffer;
    const grown = Buffer.allocUnsafeSlow(
      Math.min(this.frameBytesMax, Math.max(wanted, buffer.length * 4)),
    );
    buffer.copy(grown, 0, 0, this.length);
    recycle(buffer);
    return (this.buffer = grown);
  }
}

function recycle(buffer: Buffer): void {
  if (buffer.length === workingBytes && spare.length < spareMax) spare.push(buffer);
}
