import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';

/** A message that was added to a stream. */
export interface WriteAheadRecord {
  readonly streamId: number;
  /** Tells it from another that had its number before. */
  readonly streamCreatedNs: bigint;
  /** The message as its stream's table has it. */
  readonly record: Buffer;
}

/**
 * btrfs keeps a file up to this size within its metadata, which takes a quarter off an fsync: no
 * block of data has to be written before.
 */
const inlineBytes = 2_048;
/** What is larger gains nothing here: it is written once, to where it stays. */
export const tailBatchBytesMax = 16 * 1024;
const filesMax = 16;
/** u32 length of the whole, u32 CRC of what follows, u48 serial number, u32 and u64 the stream. */
const headBytes = 4 + 4 + 6 + 4 + 8;

interface OpenFile {
  readonly fd: number;
  /** How far it is written. */
  at: number;
}

/**
 * Messages on disk that the account's file does not have yet. To commit one message to a database
 * takes several pages; here it is written as it is, and the transaction that adds it to the
 * database stays open for more. Once that is committed, the tail is cleared. What a dead process
 * leaves is added anew when the file is opened; what the database has already is passed over.
 *
 * It consists of a few small files in a folder. Writing it is synchronous, as is all of the store.
 */
export class WriteAheadLog {
  private current: OpenFile | null = null;
  /** The next file to be used: from here on all are empty. */
  private next = 0;
  /** The folder is there. */
  private made: boolean;
  private serial = 0;

  /** To be made by who holds the lock of the account's file alone: it looks at what is left. */
  constructor(
    private readonly folder: string,
    private readonly synchronous: boolean,
  ) {
    this.made = existsSync(folder);
    // Behind what was left: it stays until it is committed.
    if (this.made) this.next = this.used();
  }

  /** True when there may be something to {@link read}. */
  get isLeft(): boolean {
    return this.next > 0;
  }

  /** All that was appended and not cleared, oldest first. */
  read(): WriteAheadRecord[] {
    const found: (WriteAheadRecord & { serial: number })[] = [];
    for (let index = 0; index < this.next; index += 1) {
      if (this.sizeOf(index) > 0) found.push(...records(readFileSync(this.path(index))));
    }
    found.sort((a, b) => a.serial - b.serial);
    this.serial = Math.max(this.serial, found.at(-1)?.serial ?? 0);
    return found;
  }

  /**
   * When it returns true, the batch is on disk.
   * @returns false when it has no room, or cannot be written
   */
  append(batch: readonly WriteAheadRecord[]): boolean {
    const bytes = batch.reduce((sum, { record }) => sum + headBytes + record.length, 0);
    if (bytes === 0 || bytes > tailBatchBytesMax) return false;
    const file = this.fileFor(bytes);
    if (!file) return false;
    try {
      const written = writeSync(file.fd, this.encode(batch, bytes), 0, bytes, file.at);
      if (written < bytes) throw new Error('the disk is full');
      if (this.synchronous) fdatasyncSync(file.fd);
      file.at += bytes;
      return true;
    } catch {
      // It is refused, or committed to the file instead: it must not be found here as well.
      quietly(() => ftruncateSync(file.fd, file.at));
      return false;
    }
  }

  /** Everything is in the account's file. What cannot be cleared is passed over when it is read. */
  clear(): void {
    this.close();
    for (let index = 0; index < this.next; index += 1) {
      quietly(() => truncateSync(this.path(index), 0));
    }
    this.next = 0;
  }

  /** For an account that is closed with everything in its file. */
  remove(): void {
    this.clear();
    quietly(() => rmSync(this.folder, { recursive: true, force: true }));
    this.made = existsSync(this.folder);
  }

  close(): void {
    const { current } = this;
    // Closed once, also when that fails: the number may be another file's by then.
    this.current = null;
    if (current) closeSync(current.fd);
  }

  /** @returns the file to go on in; null when all are full, or no more can be made */
  private fileFor(bytes: number): OpenFile | null {
    if (this.current && this.current.at + bytes <= inlineBytes) return this.current;
    if (this.next >= filesMax) return null;
    this.close();
    return quietly(() => this.turnOver()) ?? null;
  }

  private turnOver(): OpenFile {
    if (!this.made) this.makeFolder();
    const path = this.path(this.next);
    // A file whose name may not last is not gone on with: its messages would not be found.
    if (!existsSync(path)) {
      closeSync(openSync(path, 'w', 0o600));
      this.persistNames(this.folder);
    }
    this.current = { fd: openSync(path, 'r+'), at: 0 };
    this.next += 1;
    return this.current;
  }

  private makeFolder(): void {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    this.persistNames(dirname(this.folder));
    this.made = true;
  }

  private persistNames(folder: string): void {
    if (!this.synchronous) return;
    const fd = openSync(folder, 'r');
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  private encode(batch: readonly WriteAheadRecord[], bytes: number): Buffer {
    const buffer = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const { streamId, streamCreatedNs, record } of batch) {
      const end = at + headBytes + record.length;
      this.serial += 1;
      buffer.writeUInt32LE(end - at, at);
      buffer.writeUIntLE(this.serial, at + 8, 6);
      buffer.writeUInt32LE(streamId, at + 14);
      buffer.writeBigUInt64LE(streamCreatedNs, at + 18);
      record.copy(buffer, at + headBytes);
      buffer.writeUInt32LE(crc32(buffer.subarray(at + 8, end)), at + 4);
      at = end;
    }
    return buffer;
  }

  /** Some may be missing: a process that ended while it removed them leaves others. */
  private used(): number {
    let used = filesMax;
    while (used > 0 && this.sizeOf(used - 1) === 0) used -= 1;
    return used;
  }

  private sizeOf(index: number): number {
    return statSync(this.path(index), { throwIfNoEntry: false })?.size ?? 0;
  }

  private path(index: number): string {
    return join(this.folder, String(index));
  }
}

/** Up to the first that is not whole: the process ended while it was written. */
function* records(file: Buffer): Generator<WriteAheadRecord & { serial: number }> {
  let at = 0;
  while (at + headBytes <= file.length) {
    const end = at + file.readUInt32LE(at);
    if (end < at + headBytes || end > file.length) return;
    if (crc32(file.subarray(at + 8, end)) !== file.readUInt32LE(at + 4)) return;
    yield {
      serial: file.readUIntLE(at + 8, 6),
      streamId: file.readUInt32LE(at + 14),
      streamCreatedNs: file.readBigUInt64LE(at + 18),
      record: file.subarray(at + headBytes, end),
    };
    at = end;
  }
}

/** For what need not succeed. */
function quietly<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
