import { createHash } from 'node:crypto';
import { Authenticator, type ConnectRequest } from './authenticator.js';
import type { ConatIdentity, ConatPermissions } from './identity.js';
import { provenNkey, sameSecret } from './proofs.js';

/** Who comes in where nobody has to show anything. */
export const anyone = 'anyone';

/** One who may come in: by name and password, or by an nkey. */
export interface ServerUser {
  readonly name?: string;
  readonly password?: string;
  /** Its public key. */
  readonly nkey?: string;
  /** Default: what {@link UsersOptions.permissions} says. */
  readonly permissions?: ConatPermissions;
  /** Its account; default: the broker's own space. */
  readonly account?: string;
}

export interface UsersOptions {
  readonly users: readonly ServerUser[];
  /** Also lets in whoever knows it. */
  readonly token?: string;
  /** Of those who have none of their own. */
  readonly permissions: ConatPermissions;
  /** The name of the user that somebody is who shows nothing. */
  readonly nobody?: string;
}

/**
 * Users as nats-server's configuration lists them. Inboxes are subjects like others there, so
 * permissions of users should have `inboxes: 'listed'`.
 */
export class UsersAuthenticator extends Authenticator {
  override readonly required: boolean;

  constructor(private readonly options: UsersOptions) {
    super();
    this.required =
      options.nobody === undefined && (options.token !== undefined || options.users.length > 0);
  }

  async authenticate(request: ConnectRequest): Promise<ConatIdentity | null> {
    const { users, token, permissions, nobody } = this.options;
    const { options } = request;
    if (!this.required && nobody === undefined) return { name: anyone, permissions };
    if (options.nkey !== undefined) {
      const nkey = provenNkey(request);
      const user = nkey === null ? undefined : users.find((one) => one.nkey === nkey);
      return user ? this.identity(user, nkey!) : null;
    }
    if (options.user !== undefined) {
      const user = users.find(({ name }) => name === options.user);
      // Compared in any case, so that time does not tell which names there are.
      const good = sameSecret(options.pass, user?.password ?? ' ');
      return user?.password !== undefined && good ? this.identity(user, user.name!) : null;
    }
    if (token !== undefined && sameSecret(options.auth_token ?? options.pass, token)) {
      return { name: 'token', permissions };
    }
    const open = nobody === undefined ? undefined : users.find(({ name }) => name === nobody);
    const showsNothing = options.auth_token === undefined && options.pass === undefined;
    return open && showsNothing ? this.identity(open, open.name!) : null;
  }

  private identity(
    { permissions = this.options.permissions, account }: ServerUser,
    name: string,
  ): ConatIdentity {
    const identity = { name: tokenOf(name), permissions };
    return account === undefined ? identity : { ...identity, account };
  }
}

/** A name that is no subject token becomes one, and no other's. */
function tokenOf(name: string): string {
  if (/^[^\s.*>]{1,100}$/.test(name)) return name;
  return `user-${createHash('sha256').update(name).digest('hex').slice(0, 32)}`;
}
