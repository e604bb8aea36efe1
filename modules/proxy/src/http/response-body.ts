import type { IncomingMessage, ServerResponse } from 'node:http';
import { trailersOf } from './asides.js';

/** Node writes text up to 16 KiB, headers included, without a buffer of its own. */
const textBytesMax = 8 * 1024;

/**
 * As `pipe` does, with fewer listeners: httpxy itself ties the ends and errors of both together.
 * A short body that comes in one piece leaves in one write with its headers. As Latin-1 text, which
 * keeps every byte: a buffer beside the text of the headers would make it a gathering write, at
 * several times the price.
 * @param length the response's Content-Length
 */
export function carryBody(
  response: IncomingMessage,
  res: ServerResponse,
  length: number | undefined,
): void {
  let begun = false;
  response.on('data', (chunk: Buffer) => {
    begun = true;
    if (chunk.length === length && length <= textBytesMax) {
      res.write(chunk.toString('latin1'), 'latin1');
      // Nothing follows: out before the end, which comes first otherwise and makes two pieces of it.
      res.socket?.uncork();
    } else if (!res.write(chunk)) {
      response.pause();
      res.once('drain', () => response.resume());
    }
  });
  response.once('end', () => {
    if (response.rawTrailers.length > 0) res.addTrailers(trailersOf(response));
    res.end();
  });
  if (length !== undefined) return;
  // Events must not wait for their first byte; one that came with the headers leaves with them.
  process.nextTick(() => {
    if (!begun && !res.writableEnded && !res.destroyed) res.flushHeaders();
  });
}
