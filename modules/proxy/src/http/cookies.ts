const ownCookie = /^(?:__host-|__secure-)?rookery_/i;

/** The values of all cookies of a name: one of another path or domain may stand beside ours. */
export function cookiesNamed(header: string | undefined, name: string): string[] {
  const found: string[] = [];
  for (const pair of header?.split(';') ?? []) {
    const at = pair.indexOf('=');
    if (at > 0 && pair.slice(0, at).trim() === name) found.push(pair.slice(at + 1).trim());
  }
  return found;
}

/** The Cookie header without the hub's and the host's own cookies; undefined when none is left. */
export function withoutOwnCookies(header: string): string | undefined {
  if (!/rookery_/i.test(header)) return header;
  const kept = header
    .split(';')
    .map((pair) => pair.trim())
    // A nameless cookie `=rookery_x=1` is read as rookery_x by some parsers.
    .filter((pair) => pair !== '' && !ownCookie.test(pair.replace(/^[=\s]+/, '')));
  return kept.length > 0 ? kept.join('; ') : undefined;
}

/**
 * Confines a project's cookie to the project: Domain dropped, Path within its base unless the origin
 * is its own, no cookie of ours and none without a name (browsers store `=rookery_session=x` as if
 * it were named).
 * @returns undefined when the cookie is dropped
 */
export function confineSetCookie(
  cookie: string,
  confine: { readonly projectId: string; readonly base: string; readonly ownOrigin: boolean },
): string | undefined {
  const [pair = '', ...attributes] = cookie.split(';');
  const at = pair.indexOf('=');
  const name = at < 0 ? '' : pair.slice(0, at).trim();
  if (name === '' || ownCookie.test(name)) return undefined;
  let path: string | undefined;
  const kept: string[] = [];
  for (const attribute of attributes) {
    const [key = '', ...value] = attribute.split('=');
    const lower = key.trim().toLowerCase();
    if (lower === 'path') path = value.join('=').trim();
    else if (lower !== 'domain' && lower !== '') kept.push(attribute.trim());
  }
  if (confine.ownOrigin) {
    return [pair.trim(), ...(path === undefined ? [] : [`Path=${path}`]), ...kept].join('; ');
  }
  // Without a Path a browser takes the folder of the request, which may lie above the port's base.
  return [pair.trim(), `Path=${confinePath(path, confine)}`, ...kept].join('; ');
}

function confinePath(
  path: string | undefined,
  confine: { readonly projectId: string; readonly base: string },
): string {
  if (path === undefined || !path.startsWith('/')) return confine.base;
  const own = `/${confine.projectId}`;
  if (path === own || path.startsWith(`${own}/`)) return path;
  return confine.base + path.slice(1);
}
