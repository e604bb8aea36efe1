/** What fills less than this part of the buffer is copied. */
const copiedShare = 4;

/** u32 how far it is written, u32 credit: bytes from the other side that were dealt with. */
const headBytes = 8;

/** Writes numbers, texts and bytes behind each other into one buffer that grows. */
export class WireWriter {
  private buffer: Buffer;
  private at = headBytes;

  constructor(private readonly startBytes = 64 * 1024) {
    this.buffer = Buffer.allocUnsafeSlow(startBytes);
  }

  /** Bytes that were written. */
  get length(): number {
    return this.at - headBytes;
  }

  byte(value: number): void {
    this.room(1);
    this.buffer[this.at] = value;
    this.at += 1;
  }

  number(value: number): void {
    this.room(4);
    this.at = this.buffer.writeUInt32LE(value, this.at);
  }

  /** A binary string: one char a byte. */
  text(value: string): void {
    this.room(4 + value.length);
    this.at = this.buffer.writeUInt32LE(value.length, this.at);
    this.at += this.buffer.write(value, this.at, 'latin1');
  }

  /** Null is kept apart from empty. */
  bytes(value: Buffer | null): void {
    const length = value?.length ?? 0;
    this.room(4 + length);
    this.at = this.buffer.writeUInt32LE(value ? length + 1 : 0, this.at);
    if (value) this.at += value.copy(this.buffer, this.at);
  }

  /**
   * What was written, as the arguments of `postMessage`; the writer starts anew. Little is copied: a
   * fresh large buffer for each message makes V8 collect all of the heap again and again.
   */
  take(credit: number): [message: ArrayBuffer, transfer?: ArrayBuffer[]] {
    const length = this.at;
    this.buffer.writeUInt32LE(length, 0);
    this.buffer.writeUInt32LE(credit, 4);
    this.at = headBytes;
    const whole = this.buffer.buffer as ArrayBuffer;
    if (length * copiedShare <= whole.byteLength) return [whole.slice(0, length)];
    this.buffer = Buffer.allocUnsafeSlow(this.startBytes);
    return [whole, [whole]];
  }

  private room(bytes: number): void {
    if (this.at + bytes <= this.buffer.length) return;
    const grown = Buffer.allocUnsafeSlow(Math.max(this.buffer.length * 2, this.at + bytes));
    this.buffer.copy(grown, 0, 0, this.at);
    this.buffer = grown;
  }
}

/** Reads what {@link WireWriter} wrote. Bytes are parts of the buffer. */
export class WireReader {
  /** See {@link WireWriter.take}. */
  readonly credit: number;
  private readonly buffer: Buffer;
  private readonly end: number;
  private at = 0;

  constructor(buffer: ArrayBuffer) {
    this.buffer = Buffer.from(buffer);
    this.end = this.number();
    this.credit = this.number();
  }

  /** Bytes that were written. */
  get length(): number {
    return this.end - headBytes;
  }

  get ended(): boolean {
    return this.at >= this.end;
  }

  byte(): number {
    const value = this.buffer[this.at]!;
    this.at += 1;
    return value;
  }

  number(): number {
    const value = this.buffer.readUInt32LE(this.at);
    this.at += 4;
    return value;
  }

  text(): string {
    const length = this.number();
    const value = this.buffer.toString('latin1', this.at, this.at + length);
    this.at += length;
    return value;
  }

  bytes(): Buffer | null {
    const length = this.number();
    if (length === 0) return null;
    const value = this.buffer.subarray(this.at, this.at + length - 1);
    this.at += length - 1;
    return value;
  }
}
