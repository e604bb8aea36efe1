import type { IncomingMessage } from 'node:http';
import { ProxyErrors } from '../proxy.errors.js';

/** Scheme and authority of a target in absolute form (RFC 9112, 3.2.2). */
const absolute = /^https?:\/\/([^/?#]*)/i;

/** The request target as path and query, also when the client sent the whole address. */
export function originForm(url = ''): string {
  if (url.startsWith('/')) return url;
  const [prefix] = absolute.exec(url) ?? [];
  if (prefix === undefined) return url;
  const rest = url.slice(prefix.length);
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/** Only these are carried as upgrades; all others are ignored, as RFC 9110, 7.8 lets us. */
export const wantsWebSocket = (req: IncomingMessage): boolean =>
  req.headers.upgrade?.toLowerCase() === 'websocket' && oddLine(req) === undefined;

/**
 * Refuses request lines that Node's parser takes and another one may read differently.
 * @throws PROXY_REQUEST_AMBIGUOUS
 */
export function checkRequestLine(req: IncomingMessage): void {
  const reason = oddLine(req);
  if (reason !== undefined) throw ProxyErrors.PROXY_REQUEST_AMBIGUOUS({ reason });
  const [, authority] = absolute.exec(req.url ?? '') ?? [];
  // RFC 9112, 3.2.2 would have the target's host count. Where both say the same, nobody can differ.
  if (authority !== undefined && authority.toLowerCase() !== req.headers.host?.toLowerCase()) {
    throw ProxyErrors.PROXY_REQUEST_AMBIGUOUS({
      reason: 'another host in its target than in Host',
    });
  }
}

/** What is odd about the line, if anything. */
function oddLine(req: IncomingMessage): string | undefined {
  const { httpVersion, method = '', url = '' } = req;
  if (httpVersion !== '1.1' && httpVersion !== '1.0') return `HTTP/${httpVersion}`;
  const bytes = parsedBytes(req);
  const line = `${method} ${url} HTTP/${httpVersion}\r\n`;
  if (bytes === undefined || bytes.includes(line, 0, 'latin1')) return undefined;
  // What remains is a line that came in pieces, which is rare, or one that is written otherwise.
  const [, name] =
    new RegExp(`^${escaped(method)} +${escaped(url)} +(\\w+)/`, 'm').exec(
      bytes.toString('latin1'),
    ) ?? [];
  if (name === undefined) return undefined;
  return name === 'HTTP' ? 'a request line with spaces too many' : `${name} in place of HTTP`;
}

const escaped = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

interface Parsed {
  readonly parser?: { getCurrentBuffer?: () => Buffer | undefined } | null;
}

/**
 * What Node's parser is reading at this moment, which is inside the event of the request. Node does
 * not document this; without it such lines pass, and go on as we write them.
 */
const parsedBytes = (req: IncomingMessage): Buffer | undefined =>
  (req.socket as Parsed).parser?.getCurrentBuffer?.();
