import { Transform, type TransformCallback } from 'node:stream';
import { StorageErrors } from '../storage.errors.js';

/**
 * Reads along a send stream (linux/fs/btrfs/send.h) and ends it with STREAM_INVALID unless it is
 * exactly one subvolume with a plain name and its end marker. `btrfs receive` takes the end of input
 * between two commands for the end of the stream, so that one cut there would pass as whole; and it
 * takes several subvolumes and any name.
 *
 * header: "btrfs-stream\0", version u32; command: length u32, kind u16, crc u32, then attributes:
 * kind u16, length u16, bytes.
 */
const magic = Buffer.from('btrfs-stream\0', 'latin1');
const streamHeaderBytes = magic.length + 4;
const commandHeaderBytes = 10;
const COMMAND_SUBVOL = 1;
const COMMAND_SNAPSHOT = 2;
const COMMAND_END = 21;
const ATTRIBUTE_PATH = 15;
const protocolMax = 2;
/** A first command is a name and two UUIDs; more is no send stream. */
const firstCommandBytesMax = 8 * 1024;
/** What can be in front of a name in a landing area is not in it. */
const streamName = /^[A-Za-z0-9][A-Za-z0-9._:+-]{0,149}$/;

export class SendStreamGuard extends Transform {
  /** Name of the subvolume as the sender gave it; set once its first command passed. */
  name: string | undefined;
  private pending = Buffer.alloc(0);
  private skip = 0;
  private headerRead = false;
  private ended = false;

  constructor(readonly item: string) {
    super();
  }

  /** True once the end marker passed and nothing after it. */
  get isWhole(): boolean {
    return this.ended;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    try {
      this.follow(chunk);
    } catch (error) {
      done(error as Error);
      return;
    }
    done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    done(this.ended ? null : this.invalid('it ends before its end marker'));
  }

  private follow(chunk: Buffer): void {
    // Most of a stream is file content: skipped without copying.
    const skipped = Math.min(this.skip, chunk.length);
    this.skip -= skipped;
    let rest = chunk.subarray(skipped);
    if (rest.length === 0) return;
    if (this.pending.length > 0) rest = Buffer.concat([this.pending, rest]);
    this.pending = Buffer.alloc(0);
    while (rest.length > 0) {
      const used = this.headerRead ? this.readCommand(rest) : this.readHeader(rest);
      if (used === 0) {
        this.pending = Buffer.from(rest);
        return;
      }
      this.skip = Math.max(0, used - rest.length);
      rest = rest.subarray(Math.min(used, rest.length));
    }
  }

  private readHeader(at: Buffer): number {
    if (at.length < streamHeaderBytes) return 0;
    if (!at.subarray(0, magic.length).equals(magic)) throw this.invalid('it is no send stream');
    const version = at.readUInt32LE(magic.length);
    if (version < 1 || version > protocolMax) throw this.invalid(`its version is ${version}`);
    this.headerRead = true;
    return streamHeaderBytes;
  }

  private readCommand(at: Buffer): number {
    if (this.ended) throw this.invalid('something follows its end marker');
    if (at.length < commandHeaderBytes) return 0;
    const length = at.readUInt32LE(0);
    const kind = at.readUInt16LE(4);
    if (kind === COMMAND_SUBVOL || kind === COMMAND_SNAPSHOT) {
      if (this.name !== undefined) throw this.invalid('it holds more than one subvolume');
      if (length > firstCommandBytesMax) throw this.invalid('its first command is too long');
      if (at.length < commandHeaderBytes + length) return 0;
      this.name = this.nameIn(at.subarray(commandHeaderBytes, commandHeaderBytes + length));
    } else if (this.name === undefined) {
      throw this.invalid('it does not begin with a subvolume');
    }
    if (kind === COMMAND_END) this.ended = true;
    return commandHeaderBytes + length;
  }

  private nameIn(attributes: Buffer): string {
    let at = 0;
    while (at + 4 <= attributes.length) {
      const kind = attributes.readUInt16LE(at);
      const length = attributes.readUInt16LE(at + 2);
      if (kind === ATTRIBUTE_PATH) {
        const name = attributes.subarray(at + 4, at + 4 + length).toString('utf8');
        if (streamName.test(name)) return name;
        throw this.invalid('the name of its subvolume is not plain');
      }
      at += 4 + length;
    }
    throw this.invalid('its subvolume has no name');
  }

  private invalid(reason: string): Error {
    return StorageErrors.STREAM_INVALID({ item: this.item, reason });
  }
}
