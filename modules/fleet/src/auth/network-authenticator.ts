import type { AccessTokenVerifier } from '@rookery/core';
import { accountOfSubject, type AccessClaims } from '@rookery/core/contract';
import { identityNames } from '../contract/identities.js';
import {
  Authenticator,
  type ConnectRequest,
  type ConatIdentity,
  provenNkey,
  sameSecret,
} from '@rookery/conat';
import {
  connectionPermissions,
  hostPermissions,
  hubPermissions,
  joiningHostPermissions,
  projectIdentity,
  type ProjectAccess,
} from './permissions.js';
import { joiningIdentityName } from './joining.js';

/** What the control network asks the app. What is left out lets nobody in that way. */
export interface NetworkAuthenticatorPorts {
  /** Shared by the hub's processes; sent as password of the user `hub`. */
  readonly hubSecret?: string;
  /** The host that registered this identity key and was not removed. */
  readonly hostOf?: (identityKey: string) => Promise<string | null>;
  /** Is this a join token that can still be used (or whose registration may be repeated)? */
  readonly isJoinToken?: (token: string) => Promise<boolean>;
  readonly accessTokens?: AccessTokenVerifier;
  /** The projects of an account that exists and is not blocked, else null. */
  readonly projectsOf?: (
    accountId: string,
    claims: AccessClaims,
  ) => Promise<readonly ProjectAccess[] | null>;
  /**
   * The project whose programs show this token, if it runs here. Asked before the token's own
   * claims count for anything: a host knows the tokens that it gave to its containers.
   */
  readonly projectOf?: (token: string) => Promise<string | null>;
  /**
   * How long a connection may go on that a token opened. The token itself lives minutes; changes
   * of rights are pushed with `Broker.updatePermissions` and `Broker.disconnect`.
   */
  readonly sessionMs?: number;
}

const sessionMsDefault = 24 * 3_600_000;

/**
 * Who is who on the control network: hosts by their nkey, the hub's processes by their secret,
 * joining hosts by their token, accounts by an access token. Everybody else is nobody.
 */
export class NetworkAuthenticator extends Authenticator {
  constructor(private readonly ports: NetworkAuthenticatorPorts) {
    super();
  }

  async authenticate(request: ConnectRequest): Promise<ConatIdentity | null> {
    const { nkey, user, pass, auth_token: token } = request.options;
    if (nkey !== undefined && nkey !== '') return this.host(request);
    if (user === identityNames.hub) {
      if (!sameSecret(pass, this.ports.hubSecret ?? '')) return null;
      return { name: identityNames.hub, permissions: hubPermissions() };
    }
    if (!token) return null;
    const projectId = await this.ports.projectOf?.(token);
    if (projectId) return projectIdentity(projectId);
    // A JWT has two dots, a join token none.
    return token.includes('.') ? this.account(token) : this.joiningHost(token);
  }

  private async host(request: ConnectRequest): Promise<ConatIdentity | null> {
    const key = provenNkey(request);
    const hostId = key === null ? null : await this.ports.hostOf?.(key);
    if (!hostId) return null;
    return { name: identityNames.host(hostId), permissions: hostPermissions(hostId) };
  }

  private async joiningHost(token: string): Promise<ConatIdentity | null> {
    if (!(await this.ports.isJoinToken?.(token))) return null;
    return { name: joiningIdentityName(token), permissions: joiningHostPermissions() };
  }

  private async account(token: string): Promise<ConatIdentity | null> {
    const { accessTokens, projectsOf, sessionMs = sessionMsDefault } = this.ports;
    if (!accessTokens || !projectsOf) return null;
    const claims = await accessTokens.verify(token, 'conat').catch(() => null);
    const accountId = accountOfSubject(claims?.sub);
    if (!claims || accountId === undefined) return null;
    const projects = await projectsOf(accountId, claims);
    if (!projects) return null;
    const { project: onlyProject, credential } = claims;
    // A token for one project opens that one alone, with the rights that the account has now. Let
    // in without any, a client would lose its subscriptions; refused, it comes back with them.
    const permissions = connectionPermissions(accountId, projects, onlyProject);
    if (!permissions) return null;
    return {
      name: identityNames.account(accountId),
      permissions,
      ...(onlyProject !== undefined && { onlySpace: onlyProject }),
      ...(credential !== undefined && { credential }),
      expiresAt: Date.now() + sessionMs,
    };
  }
}
