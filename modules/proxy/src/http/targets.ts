/** Where an upstream listens, read from a base URL. */
export interface Target {
  readonly protocol: string;
  /** Name or address and, unless it is the protocol's own, port. */
  readonly host: string;
  /** Name or address, an IPv6 address without its brackets. */
  readonly hostname: string;
  readonly port: string;
  readonly pathname: string;
}

const targetsMax = 10_000;
const targets = new Map<string, Target>();

/**
 * Reads a base URL. Parsing it, and asking a URL for its parts, costs as much as checking a
 * request; the same ones come again and again.
 */
export function targetOf(baseUrl: string): Target {
  let target = targets.get(baseUrl);
  if (!target) {
    if (targets.size >= targetsMax) targets.clear();
    const { protocol, host, hostname, port, pathname } = new URL(baseUrl);
    const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
    target = { protocol, host, hostname: bare, port, pathname };
    targets.set(baseUrl, target);
  }
  return target;
}
