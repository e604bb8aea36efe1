import { ProxyErrors } from './proxy.errors.js';

/** A request's address, checked. */
export interface ProjectPath {
  readonly kind: 'path';
  readonly projectId: string;
  /**
   * `port` keeps the whole path for the project; `server` strips the prefix; `origin`: there is none,
   * the project has the whole origin.
   */
  readonly mode: 'port' | 'server' | 'origin';
  readonly port: number;
  /** `/<project>/<mode>/<port>/`, or `/`: what cookies are confined to. */
  readonly base: string;
  /** Path and query as the project sees them, without our own token parameter. */
  readonly upstreamUrl: string;
  /** Path and query on the way to a host: in full, without our own token parameter. */
  readonly fullUrl: string;
  /** Value of `rookery_token` in the query. */
  readonly queryToken: string | undefined;
}

/** The address lacks its trailing slash: relative links of the page would break. */
export interface ProjectPathRedirect {
  readonly kind: 'redirect';
  readonly location: string;
}

export const queryTokenName = 'rookery_token';

/** The form of core's `ProjectId`, in any case; a schema would cost more than all the rest here. */
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/i;
const urlCharsMax = 16 * 1024;
const claimed =
  /^\/+(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-z])|(?:[^/?#]+\/)?(?:port|server)\/[+-]?\d)/i;

/** True when a request is for a project, well-formed or not: nothing else should answer it. */
export function isProjectUrl(url: string | undefined): boolean {
  return url !== undefined && claimed.test(url);
}

/**
 * Reads a request target. The whole path is checked before anything is cut from it, and it is never
 * decoded: what is checked is what is sent on, so no two parsers can disagree about it. What follows
 * the port is the project's own: empty segments and escaped slashes mean something to some services.
 * @throws PROXY_PATH_INVALID, PROXY_PORT_INVALID
 */
export function parseProjectPath(url: string): ProjectPath | ProjectPathRedirect {
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = mark < 0 ? '' : url.slice(mark);
  checkWhole(url, path);
  const [, id = '', mode = '', portText = '', ...rest] = path.split('/');
  if (!uuid.test(id)) throw invalid('it names no project');
  if (mode !== 'port' && mode !== 'server') throw invalid('after the project comes port or server');
  const port = parsePort(portText);
  const projectId = id.toLowerCase();
  const base = `/${projectId}/${mode}/${port}/`;
  if (rest.length === 0) return { kind: 'redirect', location: base + query };
  const tail = rest.join('/');
  const { kept, token } = takeToken(query);
  const fullUrl = `${base}${tail}${kept}`;
  return {
    kind: 'path',
    projectId,
    mode,
    port,
    base,
    upstreamUrl: mode === 'port' ? fullUrl : `/${tail}${kept}`,
    fullUrl,
    queryToken: token,
  };
}

/**
 * Reads a request target at a project's own origin. On the way to the host it is the same as with a
 * prefix that is stripped.
 * @throws PROXY_PATH_INVALID
 */
export function parseOriginPath(projectId: string, port: number, url: string): ProjectPath {
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  checkWhole(url, path);
  const { kept, token } = takeToken(mark < 0 ? '' : url.slice(mark));
  return {
    kind: 'path',
    projectId,
    mode: 'origin',
    port,
    base: '/',
    upstreamUrl: `${path}${kept}`,
    fullUrl: `/${projectId}/server/${port}${path}${kept}`,
    queryToken: token,
  };
}

function checkWhole(url: string, path: string): void {
  if (url.length > urlCharsMax) throw invalid(`it is longer than ${urlCharsMax} characters`);
  if (!path.startsWith('/')) throw invalid('it must start with /');
  // Beyond printable ASCII nothing belongs in a request target; a fragment is never sent.
  if (!/^[\x21-\x7e]*$/.test(url) || url.includes('#')) throw invalid('it holds odd characters');
  if (path.includes('\\')) throw invalid('it holds a backslash');
  if (path.includes('%')) checkEscapes(path);
  else if (!path.includes('/.')) return;
  // A service may take an escaped slash for one: nothing may lead out of its path by that.
  for (const segment of path.split(/\/|%2f/i)) {
    const plain = segment.replace(/%2e/gi, '.');
    if (plain === '.' || plain === '..') throw invalid('it holds . or ..');
  }
}

function checkEscapes(path: string): void {
  if (/%(?![0-9a-f]{2})/i.test(path)) throw invalid('it holds a broken % escape');
  if (/%5c/i.test(path)) throw invalid('it holds an encoded backslash');
  if (/%(?:[01][0-9a-f]|7f)/i.test(path)) throw invalid('it holds an encoded control character');
}

function parsePort(text: string): number {
  const port = /^[1-9]\d{0,4}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw ProxyErrors.PROXY_PORT_INVALID({ port: text.slice(0, 20) });
  return port;
}

/**
 * The token opens the way in; it is none of the project's business. The only reader of it: what is
 * taken for a token is what is cut out. The first of several counts, none goes on.
 */
function takeToken(query: string): { kept: string; token: string | undefined } {
  // An escaped name is the same name to whoever decodes the query.
  if (!query.includes(queryTokenName) && !query.includes('%')) {
    return { kept: query, token: undefined };
  }
  let token: string | undefined;
  const kept = query
    .slice(1)
    .split('&')
    .filter((pair) => {
      if (!isTokenPair(pair)) return true;
      token ??= pair.slice(pair.indexOf('=') + 1 || pair.length);
      return false;
    })
    .join('&');
  return { kept: kept === '' ? '' : `?${kept}`, token: token || undefined };
}

function isTokenPair(pair: string): boolean {
  const name = pair.split('=', 1)[0] ?? '';
  if (name === queryTokenName) return true;
  try {
    return decodeURIComponent(name) === queryTokenName;
  } catch {
    return false;
  }
}

const invalid = (reason: string) => ProxyErrors.PROXY_PATH_INVALID({ reason });

/** Cuts our token from a Referer before the project sees it. */
export function withoutQueryToken(url: string): string {
  if (!url.includes(queryTokenName)) return url;
  const mark = url.indexOf('?');
  return mark < 0 ? url : url.slice(0, mark) + takeToken(url.slice(mark)).kept;
}
