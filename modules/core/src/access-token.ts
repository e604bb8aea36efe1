import { createPrivateKey, type KeyObject } from 'node:crypto';
import { createLocalJWKSet, errors as joseErrors, jwtVerify, SignJWT } from 'jose';
import {
  AccessClaims,
  accessTokenSecondsMax,
  type VerificationKey,
} from './contract/access-token.js';
import { CoreErrors } from './errors.js';
import { newId } from './ids.js';

const issuer = 'rookery-hub';

/** What the minter chooses; issuer, id and times are added. */
export type AccessGrant = Pick<
  AccessClaims,
  'aud' | 'sub' | 'project' | 'role' | 'port' | 'via' | 'credential'
> & {
  readonly ttlSeconds?: number;
};

/** Signs access tokens with one Ed25519 key (PKCS#8 PEM or KeyObject). Only the hub has one. */
export class AccessTokenMinter {
  private readonly key: KeyObject;

  constructor(
    privateKey: string | KeyObject,
    private readonly kid: string,
  ) {
    this.key = typeof privateKey === 'string' ? createPrivateKey(privateKey) : privateKey;
  }

  async mint(grant: AccessGrant): Promise<string> {
    const { ttlSeconds = accessTokenSecondsMax, aud, sub, ...claims } = grant;
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT(claims)
      .setProtectedHeader({ alg: 'EdDSA', kid: this.kid })
      .setIssuer(issuer)
      .setAudience(aud)
      .setSubject(sub)
      .setJti(newId())
      .setIssuedAt(now)
      .setExpirationTime(now + Math.min(ttlSeconds, accessTokenSecondsMax))
      .sign(this.key);
  }
}

/**
 * Verifies access tokens against the hub's published keys.
 * Tolerates 5 s of clock difference.
 */
export class AccessTokenVerifier {
  private keySet: ReturnType<typeof createLocalJWKSet>;

  constructor(keys: readonly VerificationKey[]) {
    this.keySet = createLocalJWKSet({ keys: [...keys] });
  }

  /** Replaces the keys after a rotation. */
  setKeys(keys: readonly VerificationKey[]): void {
    this.keySet = createLocalJWKSet({ keys: [...keys] });
  }

  /** @throws TOKEN_INVALID for another audience, issuer, key, algorithm, shape or an expired token. */
  async verify(token: string, audience: AccessClaims['aud']): Promise<AccessClaims> {
    try {
      const { payload } = await jwtVerify(token, this.keySet, {
        issuer,
        audience,
        algorithms: ['EdDSA'],
        clockTolerance: 5,
      });
      return AccessClaims.parse(payload);
    } catch (error) {
      const reason = error instanceof joseErrors.JOSEError ? error.code : 'malformed';
      throw CoreErrors.TOKEN_INVALID({ reason }, { cause: error });
    }
  }
}
