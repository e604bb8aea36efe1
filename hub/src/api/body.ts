import type { IncomingMessage } from 'node:http';
import { KiB, MiB } from '@rookery/core';
import { HubErrors } from '../hub.errors.js';

/** Bodies of the API are small: files go over other roads. */
export const bodyBytesMax = MiB;
export const formBytesMax = 16 * KiB;

/**
 * Reads a body of at most `bytesMax`. What lies beyond is left to `answerBeforeBodyEnds`.
 * @throws PAYLOAD_TOO_LARGE
 */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > bytesMax)
    throw HubErrors.PAYLOAD_TOO_LARGE({ bytesMax });
  const chunks: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= bytesMax) {
        chunks.push(chunk);
        return;
      }
      chunks.length = 0;
      request.removeAllListeners('data').pause();
      reject(HubErrors.PAYLOAD_TOO_LARGE({ bytesMax }));
    });
    request.once('end', () => resolve(Buffer.concat(chunks)));
    request.once('error', reject);
  });
}

/** What the client says that it sends; endless for a body in chunks. */
export function announcedBytes({ headers }: IncomingMessage): number {
  if (headers['transfer-encoding'] !== undefined) return Infinity;
  return Number(headers['content-length'] ?? 0);
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
