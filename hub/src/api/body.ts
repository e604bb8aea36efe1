import type { IncomingMessage } from 'node:http';
import { KiB, MiB } from '@rookery/core';
import { HubErrors } from '../hub.errors.js';

/** Bodies of the API are small: files go over other roads. */
const bodyBytesMax = MiB;
export const formBytesMax = 16 * KiB;
/** How long a client that sent too much may take to read the refusal. */
const lingerMs = 2000;

/**
 * Reads a body of at most `bytesMax`.
 * What lies beyond is not read: the connection is left open long enough for the answer, then cut.
 * @throws PAYLOAD_TOO_LARGE
 */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const announced = Number(request.headers['content-length'] ?? 0);
  if (announced > bytesMax) throw tooLarge(request, bytesMax);
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > bytesMax) reject(tooLarge(request, bytesMax));
      else chunks.push(chunk);
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', reject);
  });
}

/** @throws PAYLOAD_TOO_LARGE, INVALID_JSON */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const body = await readBody(request, bodyBytesMax);
  if (body.length === 0) return {};
  try {
    return JSON.parse(body.toString('utf8')) as unknown;
  } catch (error) {
    throw HubErrors.INVALID_JSON({ reason: (error as Error).message });
  }
}

function tooLarge(request: IncomingMessage, bytesMax: number): Error {
  request.removeAllListeners('data');
  // A listener keeps Node from draining what was not asked for; paused, nothing more is read.
  request.on('data', () => request.pause());
  request.pause();
  setTimeout(() => request.socket.destroy(), lingerMs).unref();
  return HubErrors.PAYLOAD_TOO_LARGE({ bytesMax });
}
