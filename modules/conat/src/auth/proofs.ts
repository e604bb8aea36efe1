import { createHash, timingSafeEqual } from 'node:crypto';
import { fromPublic } from '@nats-io/nkeys';
import type { ConnectRequest } from './authenticator.js';

/**
 * Checks that the client holds the nkey that it names: it signed this connection's nonce.
 * @returns the public key (`U…`), or null
 */
export function provenNkey({ options, nonce }: ConnectRequest): string | null {
  const { nkey, sig } = options;
  if (!nkey || !sig || !/^U[A-Z2-7]{55}$/.test(nkey)) return null;
  try {
    // Clients write the signature as base64 or as base64url; Node reads both.
    const signature = Buffer.from(sig, 'base64');
    return fromPublic(nkey).verify(new TextEncoder().encode(nonce), signature) ? nkey : null;
  } catch {
    return null;
  }
}

/** Compares secrets in a time that does not tell how much of them is right. */
export function sameSecret(given: string | undefined, expected: string): boolean {
  if (given === undefined || expected === '') return false;
  const [a, b] = [given, expected].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(a!, b!);
}
