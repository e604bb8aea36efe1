import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CliErrors } from '../cli.errors.js';

/** With `--json` a command's output is one document: bounded. */
const capturedBytesMax = 16 * 1024 * 1024;

const readerGone: ReadonlySet<string> = new Set(['EPIPE', 'ERR_STREAM_DESTROYED']);

/**
 * Copies with backpressure; leaves the target open.
 * @returns false when the target's reader went away
 */
export async function pipeOut(from: Readable, to: Writable): Promise<boolean> {
  try {
    await pipeline(from, to, { end: false });
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== undefined && readerGone.has(code)) return false;
    if (code === 'ERR_STREAM_PREMATURE_CLOSE' && to.destroyed) return false;
    throw error;
  }
}

/** @throws OUTPUT_TOO_LARGE */
export async function collectText(from: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of from as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > capturedBytesMax) throw CliErrors.OUTPUT_TOO_LARGE({ bytesMax: capturedBytesMax });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
