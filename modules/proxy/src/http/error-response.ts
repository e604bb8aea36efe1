import { STATUS_CODES, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { toCodedError, type CodedError } from '@rookery/core';
import { errorHeader } from './headers.js';
import { answersLast } from './last-answer.js';

/** Seconds in Retry-After of answers that are worth repeating. */
const retryAfterSeconds = 2;
const lingerMs = 2_000;

/**
 * Answers with a coded error: a page to a browser that navigates, problem+json (RFC 9457) to all
 * others. The connection ends when the request's body was not read to its end, so what remains of
 * it cannot be taken for a next request.
 */
export function respondWithError(req: IncomingMessage, res: ServerResponse, thrown: unknown): void {
  const error = toCodedError(thrown);
  if (res.headersSent || res.destroyed) {
    res.destroy();
    return;
  }
  const { headers, body } = errorResponse(req, error);
  if (!req.complete) {
    headers.connection = 'close';
    answersLast(req);
  }
  res.writeHead(error.status, headers);
  res.end(req.method === 'HEAD' ? undefined : body);
}

/** The same on the raw socket of an upgrade that is not to be. */
export function refuseUpgrade(req: IncomingMessage, socket: Duplex, thrown: unknown): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const error = toCodedError(thrown);
  const { headers, body } = errorResponse(req, error);
  headers.connection = 'close';
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const reason = STATUS_CODES[error.status] ?? 'Error';
  socket.on('error', () => socket.destroy());
  socket.end(`HTTP/1.1 ${error.status} ${reason}\r\n${lines.join('')}\r\n${body}`);
  linger(socket);
}

/**
 * Lets a client read our last answer: destroying at once would reset the connection and lose it.
 * A client that never closes its half is not waited for.
 */
export function linger(socket: Duplex): void {
  socket.resume();
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once('close', () => clearTimeout(timer));
}

function errorResponse(
  req: IncomingMessage,
  error: CodedError,
): { headers: Record<string, string>; body: string } {
  const page = wantsPage(req);
  const body = page ? errorPage(error) : JSON.stringify(problem(error));
  const headers: Record<string, string> = {
    'content-type': page ? 'text/html; charset=utf-8' : 'application/problem+json',
    'content-length': String(Buffer.byteLength(body)),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    vary: 'Accept, Sec-Fetch-Mode',
    [errorHeader]: error.code,
  };
  if (page) {
    headers['content-security-policy'] =
      "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'";
  }
  if (error.retryable) headers['retry-after'] = String(retryAfterSeconds);
  if (error.status === 401) headers['www-authenticate'] = 'Bearer realm="rookery"';
  const moved = error.details.newUrl;
  if (
    error.status === 421 &&
    typeof moved === 'string' &&
    /^https?:\/\/[\x21-\x7e]+$/.test(moved)
  ) {
    headers.location = moved;
  }
  return { headers, body };
}

function problem(error: CodedError): Record<string, unknown> {
  return {
    // As the hub's API writes them.
    type: `urn:rookery:error:${error.code.toLowerCase()}`,
    title: error.code.toLowerCase().replaceAll('_', ' '),
    status: error.status,
    code: error.code,
    detail: error.message,
    retryable: error.retryable,
    details: error.details,
  };
}

function wantsPage(req: IncomingMessage): boolean {
  const mode = req.headers['sec-fetch-mode'];
  if (mode !== undefined && mode !== 'navigate') return false;
  return /\btext\/html\b/.test(req.headers.accept ?? '');
}

const escapes: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};
const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => escapes[c] ?? c);

function errorPage(error: CodedError): string {
  const title = escapeHtml(STATUS_CODES[error.status] ?? 'Error');
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1"><title>${title}</title>
<style>
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{margin:0;min-height:100vh;display:grid;place-items:center}
main{max-width:34rem;padding:2rem}
h1{font-size:1.4rem;margin:0 0 .5rem}
small{opacity:.65}
</style></head>
<body><main><h1>${title}</h1>
<p>${escapeHtml(error.message)}</p>
<small>${escapeHtml(error.code)} · ${error.status}</small>
</main></body></html>
`;
}
