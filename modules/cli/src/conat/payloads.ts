import { headers, type MsgHdrs } from '@nats-io/nats-core';
import { InvalidArgumentError } from 'commander';
import { usageError } from '../cli.errors.js';
import type { CliIo } from '../io.js';

/** More than any broker takes in one message. */
const stdinBytesMax = 64 * 1024 * 1024;

/** Bytes as JSON can hold them: text where it is text, else base64. */
export interface DataView {
  readonly data: string;
  readonly encoding?: 'base64';
}

export function dataView(bytes: Uint8Array): DataView {
  try {
    return { data: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { data: Buffer.from(bytes).toString('base64'), encoding: 'base64' };
  }
}

/** A terminal gets text alone: no control characters of others, except line breaks and tabs. */
export function dataText(bytes: Uint8Array, isTerminal: boolean): string {
  const text = Buffer.from(bytes).toString('utf8');
  return isTerminal ? text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '?') : text;
}

export function headersView(given: MsgHdrs | undefined): Record<string, string[]> | undefined {
  const keys = given?.keys() ?? [];
  if (!given || keys.length === 0) return undefined;
  return Object.fromEntries(keys.map((key) => [key, given.values(key)]));
}

/** A repeatable `Name: value`. */
export function header(
  text: string,
  before: readonly (readonly [string, string])[] = [],
): readonly (readonly [string, string])[] {
  const match = /^([!-9;-~]+):\s*([^\r\n]*)$/.exec(text);
  if (!match) throw new InvalidArgumentError('write "Name: value"');
  return [...before, [match[1]!, match[2]!]];
}

export function headersOf(given: readonly (readonly [string, string])[] = []): MsgHdrs | undefined {
  if (given.length === 0) return undefined;
  const made = headers();
  for (const [name, value] of given) made.append(name, value);
  return made;
}

/** What was typed; `-` is all of stdin. */
export async function payloadOf(given: string | undefined, io: CliIo): Promise<Uint8Array> {
  if (given !== '-') return Buffer.from(given ?? '');
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of io.stdin as AsyncIterable<Buffer | string>) {
    const one = Buffer.from(chunk as string);
    bytes += one.length;
    if (bytes > stdinBytesMax) throw usageError(`stdin has more than ${stdinBytesMax} bytes`);
    chunks.push(one);
  }
  return Buffer.concat(chunks);
}
