import { NetworkAuthenticator } from '@rookery/fleet';
import { AccessTokenVerifier } from '@rookery/core';
import type { AccessClaims } from '@rookery/core/contract';
import type { HostRecord } from '../hub/host-record.js';
import type { HostBroker } from './host-broker.js';

/** Verifies with the hub's keys as this host knows them now. */
export class RecordedKeysVerifier extends AccessTokenVerifier {
  constructor(private readonly record: HostRecord) {
    super([]);
  }

  override async verify(token: string, audience: AccessClaims['aud']): Promise<AccessClaims> {
    const { verificationKeys = [], hostId } = (await this.record.get()) ?? {};
    const verifier = new AccessTokenVerifier(verificationKeys);
    if (audience !== 'conat' || hostId === undefined) return verifier.verify(token, audience);
    // One for this broker alone is as good.
    return verifier.verify(token, audience).catch(() => verifier.verify(token, `conat:${hostId}`));
  }
}

/**
 * Who is who on the host's own broker: programs of its projects by their container's token,
 * accounts by an access token and the rights that the hub told us. Nobody else.
 */
export const hostAuthenticator = (
  verifier: AccessTokenVerifier,
  host: HostBroker,
): NetworkAuthenticator =>
  new NetworkAuthenticator({
    accessTokens: verifier,
    projectOf: async (token) => host.projectOf(token),
    projectsOf: async (accountId, claims) => host.projectsOf(accountId, claims.credential),
  });
