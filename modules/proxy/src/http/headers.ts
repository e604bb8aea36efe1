import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { ProxyErrors } from '../proxy.errors.js';
import { withoutQueryToken } from '../project-path.js';
import { confineSetCookie, withoutOwnCookies } from './cookies.js';
import { checkRequestLine } from './request-line.js';
import { peerAddress, type ClientOrigin } from './trusted-proxies.js';

export type HeaderBag = Record<string, string | string[]>;

/** Carries the access token from hub to host. */
export const tokenHeader = 'rookery-token';
/** A response of the ingress itself, not of a project: holds the error's code. */
export const errorHeader = 'rookery-error';
/** `origin` from the hub to a host: the browser sees the project at an origin of its own. */
export const formHeader = 'rookery-form';
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

const forwardedPrefix = 'x-forwarded-';

/** Names that a request loses, besides those with our prefixes. */
const requestDropped = new Set([
  ...hopByHop,
  'forwarded',
  'x-real-ip',
  'x-client-ip',
  'true-client-ip',
  // Node has answered `Expect: 100-continue` already.
  'expect',
]);

/** Response headers that speak for the whole origin, which the project may share with the hub. */
const originWide = new Set(['origin-agent-cluster', 'report-to', 'reporting-endpoints']);
originWide.add('service-worker-allowed');

/** Those that speak for the whole site, or for the server that terminates connections. */
const siteWide = new Set([
  'alt-svc',
  'clear-site-data',
  'nel',
  'public-key-pins',
  'strict-transport-security',
]);

/** Names that a response loses, besides those with our prefix. */
const responseDropped = new Set([...hopByHop, ...siteWide, 'transfer-encoding']);

/** Fields that decide about a message or whom it is from: never behind its body (RFC 9110, 6.5.1). */
const neverTrailing = new Set([
  ...requestDropped,
  ...responseDropped,
  ...originWide,
  ...notNominable,
  'authorization',
  'cache-control',
  'content-encoding',
  'content-range',
  'content-security-policy',
  'content-type',
  'location',
  'set-cookie',
  'vary',
  'www-authenticate',
]);

/** Whether a field may go on as a trailer. */
export function mayTrail(name: string): boolean {
  const lower = name.toLowerCase();
  if (lower.startsWith(ownPrefix) || lower.startsWith(forwardedPrefix)) return false;
  return !neverTrailing.has(lower);
}

/**
 * Refuses what two HTTP parsers may read differently. Node's own parser has refused the rest
 * (Content-Length beside Transfer-Encoding, two lengths, bare line feeds, bad chunks).
 * @throws PROXY_REQUEST_AMBIGUOUS
 */
export function checkFraming(req: IncomingMessage): void {
  checkRequestLine(req);
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

const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE']);

/** True for a method that asks for no change (RFC 9110, 9.2.1): to send it twice does no harm. */
export const isSafe = ({ method = '' }: IncomingMessage): boolean => safeMethods.has(method);

/** What of a request's headers goes on: no hop-by-hop, nothing of ours, no forwarding claims. */
export function cleanRequestHeaders(
  headers: IncomingHttpHeaders,
  options: { readonly dropAuthorization: boolean },
): HeaderBag {
  const nominated = nominatedBy(headers.connection);
  const clean: HeaderBag = {};
  for (const name in headers) {
    if (requestDropped.has(name) || name.startsWith(ownPrefix)) continue;
    if (name.startsWith(forwardedPrefix)) continue;
    if (name === 'authorization' && options.dropAuthorization) continue;
    if (nominated?.has(name) === true && !notNominable.has(name)) continue;
    let value = headers[name];
    if (name === 'cookie' && headers.cookie !== undefined) {
      value = withoutOwnCookies(headers.cookie);
    } else if (name === 'referer' && headers.referer !== undefined) {
      value = withoutQueryToken(headers.referer);
    }
    if (value !== undefined) clean[name] = value;
  }
  if (clean['transfer-encoding'] !== undefined) {
    // As everybody writes it: whoever is behind us may not know `CHUNKED` for the same.
    clean['transfer-encoding'] = 'chunked';
    Object.assign(clean, trailerHeader(headers.trailer));
  }
  return clean;
}

/** Of the names that a `Trailer` header announces, those that we let through. */
export function trailerHeader(announced: string | undefined): { trailer?: string } {
  const names = announced?.split(',').map((name) => name.trim()) ?? [];
  const kept = names.filter((name) => name !== '' && mayTrail(name));
  return kept.length > 0 ? { trailer: kept.join(', ') } : {};
}

/** How far a project's answer may reach. */
export interface Confinement {
  readonly projectId: string;
  readonly base: string;
  /** The project does not know the prefix; this is the request as it saw it. */
  readonly stripped: false | { readonly host: string | undefined; readonly url: string };
  /** The project has the origin for itself. */
  readonly ownOrigin: boolean;
  /** The origin is ours, or somebody else's, too: a browser must not run what is in the answer. */
  readonly sandboxed: boolean;
}

/** How a project's answer goes back: confined to its own path, silent about a shared origin. */
export function cleanResponseHeaders(
  headers: IncomingHttpHeaders,
  confine: Confinement,
): HeaderBag {
  const nominated = nominatedBy(headers.connection);
  const clean: HeaderBag = {};
  for (const name in headers) {
    if (responseDropped.has(name) || name.startsWith(ownPrefix)) continue;
    if (originWide.has(name) && !confine.ownOrigin) continue;
    if (nominated?.has(name) === true && !notNominable.has(name)) continue;
    const value = name === 'set-cookie' ? confined(headers[name], confine) : headers[name];
    if (value !== undefined) clean[name] = value;
  }
  const { location } = headers;
  if (confine.stripped !== false && location !== undefined) {
    clean.location = locationBelow(confine.base, confine.stripped, location);
  }
  // Besides what the project says itself: of several policies each holds.
  if (confine.sandboxed) {
    clean['content-security-policy'] = [clean['content-security-policy'] ?? [], 'sandbox'].flat();
  }
  return clean;
}

/**
 * A service behind a stripped prefix does not know it: what leads to its own root, by path, by `..`
 * or by the whole address, leads below the prefix. Other hosts' addresses stay as they are.
 */
function locationBelow(
  base: string,
  seen: { readonly host: string | undefined; readonly url: string },
  location: string,
): string {
  const root = `http://${seen.host ?? 'host.invalid'}`;
  const outer = `${root}${base}${seen.url.slice(1)}`;
  if (!URL.canParse(location, outer)) return location;
  const followed = new URL(location, outer);
  if (followed.host !== new URL(root).host || followed.pathname.startsWith(base)) return location;
  const { pathname, search, hash } = new URL(location, `${root}${seen.url}`);
  return `${base}${pathname.slice(1)}${search}${hash}`;
}

function confined(
  cookies: readonly string[] | undefined,
  confine: Parameters<typeof confineSetCookie>[1],
): string[] | undefined {
  const kept = cookies?.map((cookie) => confineSetCookie(cookie, confine)).filter(isString);
  return kept && kept.length > 0 ? kept : undefined;
}

/**
 * Writes the `X-Forwarded-*` of one hop into `headers`: who the client is, then the hops that it
 * came through, the peer last. What the client itself claimed is not among them.
 */
export function addForwarded(
  headers: HeaderBag,
  req: IncomingMessage,
  options: { readonly client: ClientOrigin; readonly prefix: string | undefined },
): void {
  const { client, prefix } = options;
  headers['x-forwarded-for'] = [...client.chain, peerAddress(req)].join(', ');
  if (client.host !== undefined) headers['x-forwarded-host'] = client.host;
  headers['x-forwarded-proto'] = client.scheme;
  if (prefix !== undefined) headers['x-forwarded-prefix'] = prefix;
}

/** What the hub has found out about the client, for the host behind it. */
export function clientToldByHub(req: IncomingMessage): ClientOrigin {
  const told = (name: string): string | undefined => {
    const value = req.headers[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const chain = told('x-forwarded-for')?.split(', ') ?? [];
  return {
    address: chain[0] ?? peerAddress(req),
    scheme: told('x-forwarded-proto') === 'https' ? 'https' : 'http',
    host: told('x-forwarded-host') ?? req.headers.host,
    chain,
  };
}

function nominatedBy(connection: string | undefined): Set<string> | undefined {
  // The usual values nominate nothing beyond what is stripped anyway.
  if (connection === undefined || connection === 'keep-alive') return undefined;
  if (/^(?:keep-alive|close|upgrade)$/i.test(connection)) {
    return undefined;
  }
  return new Set(connection.split(',').map((name) => name.trim().toLowerCase()));
}

const isString = (value: string | undefined): value is string => value !== undefined;
