import { generateKeyPairSync } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AccessTokenMinter, AccessTokenVerifier, newId, type AccessGrant } from '@rookery/core';
import type { AccessClaims, VerificationKey } from '@rookery/core/contract';
import { DataSource } from 'typeorm';
import { SigningKey } from '../database/entities/record.entity.js';

const keyLock = 728_403;
/** Another process may have rotated: keys are read again after this. */
const refreshMs = 30_000;

interface KeySet {
  readonly minter: AccessTokenMinter;
  readonly verifier: AccessTokenVerifier;
  readonly published: readonly VerificationKey[];
  readonly readAt: number;
}

/** The Ed25519 keys that sign access tokens. Hosts get the public halves at every heartbeat. */
@Injectable()
export class SigningKeys {
  private current: Promise<KeySet> | undefined;

  constructor(private readonly dataSource: DataSource) {}

  async mint(grant: AccessGrant): Promise<string> {
    return (await this.keys()).minter.mint(grant);
  }

  /** @throws TOKEN_INVALID */
  async verify(token: string, audience: AccessClaims['aud']): Promise<AccessClaims> {
    return (await this.keys()).verifier.verify(token, audience);
  }

  async published(): Promise<VerificationKey[]> {
    return [...(await this.keys()).published];
  }

  private async keys(): Promise<KeySet> {
    const known = await this.current;
    if (known && Date.now() - known.readAt < refreshMs) return known;
    const loading = this.load();
    this.current = loading;
    loading.catch(() => (this.current = undefined));
    return loading;
  }

  private async load(): Promise<KeySet> {
    const rows = await this.dataSource.transaction(async (manager) => {
      await manager.query('SELECT pg_advisory_xact_lock($1)', [keyLock]);
      const active = await manager
        .createQueryBuilder(SigningKey, 'key')
        .where('key.retiredAt IS NULL')
        .orderBy('key.createdAt', 'DESC')
        .getMany();
      if (active.length > 0) return active;
      return [await manager.save(SigningKey, newSigningKey())];
    });
    const published = rows.map((row) => row.publicJwk as VerificationKey);
    const newest = rows[0]!;
    return {
      minter: new AccessTokenMinter(newest.privateKeyPem, newest.kid),
      verifier: new AccessTokenVerifier(published),
      published,
      readAt: Date.now(),
    };
  }
}

function newSigningKey(): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const kid = newId();
  const { x } = publicKey.export({ format: 'jwk' });
  return Object.assign(new SigningKey(), {
    kid,
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }),
    publicJwk: { kid, kty: 'OKP', crv: 'Ed25519', x: x! },
    createdAt: new Date(),
    retiredAt: null,
  });
}
