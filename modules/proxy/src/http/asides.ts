import {
  STATUS_CODES,
  type ClientRequest,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { mayTrail, trailerHeader } from './headers.js';

/** What a response has beside its head and body: hints ahead of it, its reason, its trailers. */

/** A service that never comes to its answer must not fill our memory with hints. */
const hintsMax = 8;

/** Passes `103 Early Hints` on (RFC 8297): links alone, the rest comes with the response. */
export function carryHints(
  proxyReq: ClientRequest,
  req: IncomingMessage,
  res: ServerResponse,
): void {
  let left = req.httpVersion === '1.1' ? hintsMax : 0;
  proxyReq.on('information', ({ statusCode, headers }) => {
    const { link } = headers;
    if (statusCode !== 103 || typeof link !== 'string' || left === 0 || res.headersSent) return;
    left -= 1;
    try {
      res.writeEarlyHints({ link: link.split(/,\s*(?=<)/) });
    } catch {
      // A link that Node does not take for one: hints may be left out.
    }
  });
}

/** The service's own words, unless they would break our header block. */
export function reasonOf({ statusCode = 502, statusMessage }: IncomingMessage): string {
  const isClean = statusMessage !== undefined && /^[\t\x20-\x7e\x80-\xff]*$/.test(statusMessage);
  return isClean ? statusMessage : (STATUS_CODES[statusCode] ?? '');
}

/** The trailers that may go on, as `addTrailers` takes them. */
export function trailersOf({ rawTrailers }: IncomingMessage): [string, string][] {
  const kept: [string, string][] = [];
  for (let i = 0; i + 1 < rawTrailers.length; i += 2) {
    const [name = '', value = ''] = rawTrailers.slice(i, i + 2);
    if (mayTrail(name)) kept.push([name, value]);
  }
  return kept;
}

/** Adds a request's trailers before its body's end goes on. */
export function carryRequestTrailers(req: IncomingMessage, proxyReq: ClientRequest): void {
  req.prependOnceListener('end', () => {
    const trailers = trailersOf(req);
    if (trailers.length > 0 && !proxyReq.destroyed) proxyReq.addTrailers(trailers);
  });
}

/** The `Trailer` header that announces them, when this response can have any. */
export function announcedTrailers(
  response: IncomingMessage,
  req: IncomingMessage,
): { trailer?: string } {
  const { headers, statusCode } = response;
  const chunked = headers['transfer-encoding'] !== undefined && req.httpVersion === '1.1';
  const hasContent = req.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
  return chunked && hasContent ? trailerHeader(headers.trailer) : {};
}
