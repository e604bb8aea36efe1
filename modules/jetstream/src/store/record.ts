import type { AppendMessage, StoredMessage } from '../engine/account-store.js';
import { StoreCorruptError } from './store-errors.js';

/**
 * A message as it lies in the `data` column. It says everything about itself, so that many are
 * read by one query that glues them together: reading value by value is what costs time.
 *
 * ```
 * u32 length of the whole, top bit: has headers   u64 sequence   u64 nanoseconds
 * u16 length of the subject   subject   [u32 length of the headers   headers]
 * payload   u64 milliseconds at which it expires, 0: never
 * ```
 *
 * A nats-server's file store has a checksum where this has the expiry, so a message weighs here
 * exactly what it weighs there, and streams report equal `bytes`.
 */
const fixedBytes = 4 + 8 + 8 + 2;
const tailBytes = 8;
const withHeadersBit = 0x8000_0000;
export const timeOffset = 12;

export function encodeRecord(seq: number, message: AppendMessage): Buffer {
  const { subject, headers, payload } = message;
  const headerBytes = headers ? 4 + headers.length : 0;
  const length = fixedBytes + subject.length + headerBytes + payload.length + tailBytes;
  const record = Buffer.allocUnsafe(length);
  record.writeUInt32LE(headers ? (length | withHeadersBit) >>> 0 : length, 0);
  writeUInt53(record, seq, 4);
  record.writeBigUInt64LE(message.timeNs, timeOffset);
  record.writeUInt16LE(subject.length, 20);
  let at = fixedBytes + record.write(subject, fixedBytes, 'latin1');
  if (headers) {
    record.writeUInt32LE(headers.length, at);
    at += 4 + headers.copy(record, at + 4);
  }
  at += payload.copy(record, at);
  writeUInt53(record, message.expiresAtMs ?? 0, at);
  return record;
}

/** The message whose record starts at `at`. Its buffers are parts of `source`. */
export function decodeRecord(source: Buffer, at: number): StoredMessage {
  const end = at + recordLength(source, at);
  const subjectEnd = at + fixedBytes + source.readUInt16LE(at + 20);
  let bodyStart = subjectEnd;
  let headers: Buffer | null = null;
  if (source[at + 3]! & 0x80) {
    bodyStart = subjectEnd + 4 + source.readUInt32LE(subjectEnd);
    headers = source.subarray(subjectEnd + 4, bodyStart);
  }
  if (bodyStart > end - tailBytes) throw new StoreCorruptError('a message is cut off');
  return {
    seq: readUInt53(source, at + 4),
    subject: source.toString('latin1', at + fixedBytes, subjectEnd),
    timeNs: source.readBigUInt64LE(at + timeOffset),
    headers,
    payload: source.subarray(bodyStart, end - tailBytes),
  };
}

/** A record's message with all that adding it needs. */
export function decodeWhole(record: Buffer): StoredMessage & AppendMessage {
  const message = decodeRecord(record, 0);
  const expiresAtMs = readUInt53(record, record.length - tailBytes);
  return expiresAtMs === 0 ? message : { ...message, expiresAtMs };
}

export function recordLength(source: Buffer, at: number): number {
  if (at + fixedBytes + tailBytes > source.length) {
    throw new StoreCorruptError('a message is cut off');
  }
  const length = (source.readUInt32LE(at) & ~withHeadersBit) >>> 0;
  if (length < fixedBytes + tailBytes || at + length > source.length) {
    throw new StoreCorruptError('a message has an impossible length');
  }
  return length;
}

function writeUInt53(target: Buffer, value: number, at: number): void {
  target.writeUInt32LE(value % 0x1_0000_0000, at);
  target.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
}

const readUInt53 = (source: Buffer, at: number): number =>
  source.readUInt32LE(at + 4) * 0x1_0000_0000 + source.readUInt32LE(at);
