import type { IncomingMessage } from 'node:http';
import { SystemClock, type AccessTokenVerifier, type Clock } from '@rookery/core';
import type { AccessClaims } from '@rookery/core/contract';
import { cookiesNamed } from '../http/cookies.js';
import { tokenHeader } from '../http/headers.js';
import { queryTokenName, type ProjectPath } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';

const verdictsMax = 20_000;

interface TokenGateOptions {
  readonly clock?: Clock | undefined;
  /** From the cookie of a browser, too, which any page at this origin makes it send. */
  readonly takesCookies?: boolean;
}

/** Opens the host's port to requests that carry a token of the hub for this project and host. */
export class TokenGate {
  private verdicts = new Map<string, AccessClaims>();
  private readonly clock: Clock;
  private readonly takesCookies: boolean;

  constructor(
    private readonly hostId: string,
    private readonly verifier: Pick<AccessTokenVerifier, 'verify'>,
    options: TokenGateOptions = {},
  ) {
    this.clock = options.clock ?? new SystemClock();
    this.takesCookies = options.takesCookies ?? false;
  }

  /**
   * Checks the token of a request. A verdict is kept until the token expires, and given at once.
   * @throws PROXY_TOKEN_REQUIRED, PROXY_TOKEN_REFUSED
   */
  claimsOf(req: IncomingMessage, path: ProjectPath): AccessClaims | Promise<AccessClaims> {
    const header = req.headers[tokenHeader];
    const token =
      (typeof header === 'string' ? header : undefined) ??
      path.queryToken ??
      (this.takesCookies ? cookieToken(req) : undefined);
    if (token === undefined || token === '') throw ProxyErrors.PROXY_TOKEN_REQUIRED();
    const known = this.verdicts.get(token);
    if (known && known.exp > this.clock.now() / 1000) return checked(known, path);
    return this.verify(token, path);
  }

  /** Forgets verdicts: keys were rotated or access was revoked. */
  forget(): void {
    // What is being verified with the old keys just now lands in the old map.
    this.verdicts = new Map();
  }

  private async verify(token: string, path: ProjectPath): Promise<AccessClaims> {
    const { verdicts } = this;
    verdicts.delete(token);
    let claims: AccessClaims;
    try {
      claims = await this.verifier.verify(token, `host:${this.hostId}`);
    } catch (error) {
      throw ProxyErrors.PROXY_TOKEN_REFUSED({ reason: 'invalid or expired' }, { cause: error });
    }
    verdicts.set(token, claims);
    for (const oldest of verdicts.keys()) {
      if (verdicts.size <= verdictsMax) break;
      verdicts.delete(oldest);
    }
    return checked(claims, path);
  }
}

/** The most specific path comes first. */
const cookieToken = (req: IncomingMessage): string | undefined =>
  cookiesNamed(req.headers.cookie, queryTokenName)[0];

function checked(claims: AccessClaims, path: ProjectPath): AccessClaims {
  if (claims.project !== path.projectId) throw refused('it is for another project');
  if (claims.role === undefined) throw refused('it names no role');
  if (claims.role === 'anonymous' && claims.port !== path.port) {
    throw refused('it is for another port');
  }
  return claims;
}

const refused = (reason: string) => ProxyErrors.PROXY_TOKEN_REFUSED({ reason });
