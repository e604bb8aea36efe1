import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { isIPv6 } from 'node:net';
import { ProxyErrors } from '../proxy.errors.js';
import { withoutQueryToken } from '../project-path.js';
import { confineSetCookie, withoutOwnCookies } from './cookies.js';

export type HeaderBag = Record<string, string | string[] | undefined>;

/** Carries the access token from hub to host. */
export const tokenHeader = 'rookery-token';
/** A response of the ingress itself, not of a project: holds the error's code. */
export const errorHeader = 'rookery-error';
const ownPrefix = 'rookery-';

const hopByHop = new Set([
  'connection',
  'proxy-connection',
  'keep-alive',
  'te',
  'trailer',
  'upgrade',
  'proxy-authenticate',
  'proxy-authorization',
  'http2-settings',
]);

/** Framing and routing are ours: a `Connection: content-length` must not remove them. */
const notNominable = new Set(['host', 'content-length', 'transfer-encoding', 'cookie']);

const forwarding = /^(?:x-forwarded-|forwarded$|x-real-ip$|x-client-ip$|true-client-ip$)/;

/** Response headers that speak for the whole origin, which the project shares with the hub. */
const originWide = new Set([
  'alt-svc',
  'clear-site-data',
  'nel',
  'origin-agent-cluster',
  'public-key-pins',
  'report-to',
  'reporting-endpoints',
  'service-worker-allowed',
  'strict-transport-security',
]);

/**
 * Refuses what two HTTP parsers may read differently. Node's own parser has refused the rest
 * (Content-Length beside Transfer-Encoding, two lengths, bare line feeds, bad chunks).
 * @throws PROXY_REQUEST_AMBIGUOUS
 */
export function checkFraming(req: IncomingMessage): void {
  const encoding = req.headers['transfer-encoding'];
  if (encoding !== undefined && encoding.toLowerCase() !== 'chunked') {
    throw ProxyErrors.PROXY_REQUEST_AMBIGUOUS({ reason: 'a Transfer-Encoding besides chunked' });
  }
  if (encoding !== undefined && req.headers['content-length'] !== undefined) {
    throw ProxyErrors.PROXY_REQUEST_AMBIGUOUS({ reason: 'two body lengths' });
  }
  let hosts = 0;
  for (let i = 0; i < req.rawHeaders.length; i += 2) {
    const name = req.rawHeaders[i];
    if (name?.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  if (hosts > 1) throw ProxyErrors.PROXY_REQUEST_AMBIGUOUS({ reason: 'two Host headers' });
}

/** True when the request carries a body (or says so). */
export function hasBody(req: IncomingMessage): boolean {
  const length = req.headers['content-length'];
  return req.headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0');
}

/** What of a request's headers goes on: no hop-by-hop, nothing of ours, no forwarding claims. */
export function cleanRequestHeaders(
  headers: IncomingHttpHeaders,
  options: { readonly dropAuthorization: boolean },
): HeaderBag {
  const nominated = nominatedBy(headers.connection);
  const clean: HeaderBag = {};
  for (const name in headers) {
    if (hopByHop.has(name) || name.startsWith(ownPrefix) || forwarding.test(name)) continue;
    // Node has answered `Expect: 100-continue` already.
    if (name === 'expect') continue;
    if (name === 'authorization' && options.dropAuthorization) continue;
    if (nominated?.has(name) === true && !notNominable.has(name)) continue;
    clean[name] = headers[name];
  }
  if (headers.cookie !== undefined) clean.cookie = withoutOwnCookies(headers.cookie);
  if (headers.referer !== undefined) clean.referer = withoutQueryToken(headers.referer);
  return clean;
}

/** How a project's answer goes back: confined to its own path, silent about the shared origin. */
export function cleanResponseHeaders(
  headers: IncomingHttpHeaders,
  confine: { readonly projectId: string; readonly base: string; readonly stripped: boolean },
): HeaderBag {
  const nominated = nominatedBy(headers.connection);
  const clean: HeaderBag = {};
  for (const name in headers) {
    if (hopByHop.has(name) || name === 'transfer-encoding') continue;
    if (name.startsWith(ownPrefix) || originWide.has(name)) continue;
    if (nominated?.has(name) === true && !notNominable.has(name)) continue;
    clean[name] = headers[name];
  }
  const cookies = headers['set-cookie'];
  if (cookies) {
    const kept = cookies.map((cookie) => confineSetCookie(cookie, confine)).filter(isString);
    clean['set-cookie'] = kept.length > 0 ? kept : undefined;
  }
  const location = headers.location;
  // A service behind a stripped prefix does not know it: as nginx's proxy_redirect does by default.
  if (confine.stripped && location !== undefined && /^\/(?![/\\])/.test(location)) {
    if (!location.startsWith(confine.base)) clean.location = confine.base + location.slice(1);
  }
  return clean;
}

/** `X-Forwarded-*` of one hop: the peer is added to what a trusted hop before us has said. */
export function forwardedHeaders(
  req: IncomingMessage,
  options: { readonly trustIncoming: boolean; readonly prefix: string | undefined },
): HeaderBag {
  const peer = addressOf(req);
  const before = (name: string): string | undefined => {
    const value = options.trustIncoming ? req.headers[name] : undefined;
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const chain = before('x-forwarded-for');
  const encrypted = 'encrypted' in req.socket;
  return {
    'x-forwarded-for': chain === undefined ? peer : `${chain}, ${peer}`,
    'x-forwarded-host': before('x-forwarded-host') ?? req.headers.host,
    'x-forwarded-proto': before('x-forwarded-proto') ?? (encrypted ? 'https' : 'http'),
    'x-forwarded-prefix': options.prefix,
  };
}

function addressOf(req: IncomingMessage): string {
  const address = req.socket.remoteAddress ?? 'unknown';
  return isIPv6(address) && address.startsWith('::ffff:') ? address.slice(7) : address;
}

function nominatedBy(connection: string | undefined): Set<string> | undefined {
  // The usual values nominate nothing beyond what is stripped anyway.
  if (connection === undefined || /^(?:keep-alive|close|upgrade)$/i.test(connection)) {
    return undefined;
  }
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()));
}

const isString = (value: string | undefined): value is string => value !== undefined;
