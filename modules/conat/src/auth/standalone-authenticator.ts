import { Authenticator, type ConnectRequest } from './authenticator.js';
import type { ConatIdentity } from './identity.js';
import { sameSecret } from './proofs.js';

/**
 * Who is who on a broker that stands alone: everybody who knows the token may do everything, or
 * simply everybody when there is none. Identities are the names that clients give themselves.
 */
export class StandaloneAuthenticator extends Authenticator {
  override readonly required: boolean;

  /** @param token undefined lets everybody in */
  constructor(private readonly token: string | undefined) {
    super();
    this.required = token !== undefined;
    if (token === '') throw new TypeError('an empty token protects nothing');
  }

  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    if (this.token !== undefined) {
      const given = options.auth_token ?? options.pass;
      if (!sameSecret(given, this.token)) return null;
    }
    const name = /^[^\s.*>]{1,128}$/.test(options.name) ? options.name : 'anyone';
    const all = { allow: ['>'] };
    return { name, permissions: { publish: all, subscribe: all, inboxes: 'all' } };
  }
}
