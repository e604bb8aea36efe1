import { SystemClock, type AccessTokenMinter, type Clock } from '@rookery/core';
import { accessTokenSecondsMax } from '@rookery/core/contract';
import { TokenSource, type TokenRequest } from './hub-proxy.ports.js';

const cachedTokensMax = 20_000;
/** A token is used until this much of its life is left: it must live to the host, clocks differ. */
const remainingSecondsMin = 60;

interface CachedToken {
  readonly projectId: string;
  /** The token itself once it is there: no request should wait for what is known. */
  token: Promise<string> | string;
  readonly useUntil: number;
}

/** Mints tokens with the hub's key and uses each for most of its life. */
export class CachingTokenSource extends TokenSource {
  private readonly cached = new Map<string, CachedToken>();

  constructor(
    private readonly minter: Pick<AccessTokenMinter, 'mint'>,
    private readonly clock: Clock = new SystemClock(),
  ) {
    super();
  }

  tokenFor(request: TokenRequest): Promise<string> | string {
    const { hostId, projectId, subject, role, port } = request;
    const key = `${hostId} ${projectId} ${subject} ${role} ${port ?? ''}`;
    const now = this.clock.now();
    const hit = this.cached.get(key);
    if (hit && hit.useUntil > now) return hit.token;
    const minted = this.minter.mint({
      aud: `host:${hostId}`,
      sub: subject,
      project: projectId,
      role,
      via: 'hub',
      ...(port !== undefined && { port }),
    });
    const useUntil = now + (accessTokenSecondsMax - remainingSecondsMin) * 1000;
    this.cached.delete(key);
    const entry: CachedToken = { projectId, token: minted, useUntil };
    this.cached.set(key, entry);
    minted.then(
      (token) => (entry.token = token),
      () => this.cached.get(key) === entry && this.cached.delete(key),
    );
    // Oldest first, as a Map keeps its order.
    for (const oldest of this.cached.keys()) {
      if (this.cached.size <= cachedTokensMax) break;
      this.cached.delete(oldest);
    }
    return minted;
  }

  forget(projectId?: string): void {
    for (const [key, { projectId: cached }] of this.cached) {
      if (projectId === undefined || cached === projectId) this.cached.delete(key);
    }
  }
}
