import type { IncomingMessage } from 'node:http';
import { SystemClock, type AccessTokenVerifier, type Clock } from '@rookery/core';
import type { AccessClaims } from '@rookery/core/contract';
import { readCookie } from '../http/cookies.js';
import { tokenHeader } from '../http/headers.js';
import { queryTokenName, type ProjectPath } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';

const verdictsMax = 20_000;

/** Opens the host's port to requests that carry a token of the hub for this project and host. */
export class TokenGate {
  private readonly verdicts = new Map<string, AccessClaims>();

  constructor(
    private readonly hostId: string,
    private readonly verifier: Pick<AccessTokenVerifier, 'verify'>,
    private readonly clock: Clock = new SystemClock(),
  ) {}

  /**
   * Checks the token of a request. A verdict is kept until the token expires.
   * @throws PROXY_TOKEN_REQUIRED, PROXY_TOKEN_REFUSED
   */
  async claimsOf(req: IncomingMessage, path: ProjectPath): Promise<AccessClaims> {
    const header = req.headers[tokenHeader];
    const token =
      (typeof header === 'string' ? header : undefined) ??
      path.queryToken ??
      readCookie(req.headers.cookie, queryTokenName);
    if (token === undefined || token === '') throw ProxyErrors.PROXY_TOKEN_REQUIRED();
    const claims = await this.verify(token);
    if (claims.project !== path.projectId) throw refused('it is for another project');
    if (claims.role === undefined) throw refused('it names no role');
    if (claims.role === 'anonymous' && claims.port !== path.port) {
      throw refused('it is for another port');
    }
    return claims;
  }

  /** Forgets verdicts: keys were rotated or access was revoked. */
  forget(): void {
    this.verdicts.clear();
  }

  private async verify(token: string): Promise<AccessClaims> {
    const now = this.clock.now() / 1000;
    const known = this.verdicts.get(token);
    if (known && known.exp > now) return known;
    this.verdicts.delete(token);
    let claims: AccessClaims;
    try {
      claims = await this.verifier.verify(token, `host:${this.hostId}`);
    } catch (error) {
      throw ProxyErrors.PROXY_TOKEN_REFUSED({ reason: 'invalid or expired' }, { cause: error });
    }
    this.verdicts.set(token, claims);
    for (const oldest of this.verdicts.keys()) {
      if (this.verdicts.size <= verdictsMax) break;
      this.verdicts.delete(oldest);
    }
    return claims;
  }
}

const refused = (reason: string) => ProxyErrors.PROXY_TOKEN_REFUSED({ reason });
