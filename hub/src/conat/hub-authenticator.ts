import { Inject, Injectable } from '@nestjs/common';
import {
  accountPermissions,
  Authenticator,
  NetworkAuthenticator,
  type ConatIdentity,
  type ConnectRequest,
  type ProjectAccess,
} from '@rookery/conat';
import { identityNames } from '@rookery/conat/contract';
import { AccessTokenVerifier } from '@rookery/core';
import type { AccessClaims } from '@rookery/core/contract';
import { DataSource } from 'typeorm';
import { AuthService } from '../accounts/auth.service.js';
import { HostRegistry } from '../hosts/host-registry.service.js';
import { SigningKeys } from '../keys/signing-keys.service.js';
import { HUB_SECRET } from './hub-secret.js';

/**
 * Who is who on the control network: hub processes by secret, hosts by nkey, joining hosts by
 * token, accounts by a short-lived token or by an API key.
 */
@Injectable()
export class HubAuthenticator extends Authenticator {
  private readonly network: NetworkAuthenticator;

  constructor(
    private readonly dataSource: DataSource,
    private readonly auth: AuthService,
    hosts: HostRegistry,
    keys: SigningKeys,
    @Inject(HUB_SECRET) hubSecret: string,
  ) {
    super();
    this.network = new NetworkAuthenticator({
      hubSecret,
      hostOf: (key) => hosts.hostOf(key),
      isJoinToken: (token) => hosts.isJoinToken(token),
      accessTokens: new HubTokenVerifier(keys),
      projectsOf: (accountId) => this.projectsOf(accountId),
    });
  }

  async authenticate(request: ConnectRequest): Promise<ConatIdentity | null> {
    const { auth_token: token, nkey } = request.options;
    const caller = token && !nkey ? await this.auth.byToken(token) : undefined;
    if (!caller) return this.network.authenticate(request);
    const projects = (await this.projectsOf(caller.accountId)) ?? [];
    return {
      name: identityNames.account(caller.accountId),
      permissions: accountPermissions(caller.accountId, projects),
    };
  }

  async projectsOf(accountId: string): Promise<readonly ProjectAccess[] | null> {
    const accounts = await this.dataSource.query<unknown[]>(
      'SELECT 1 FROM accounts WHERE id = $1',
      [accountId],
    );
    if (accounts.length === 0) return null;
    return this.dataSource.query<ProjectAccess[]>(
      `SELECT c.project_id AS "projectId", c.role FROM collaborators c
       JOIN projects p ON p.id = c.project_id AND p.deleted_at IS NULL WHERE c.account_id = $1`,
      [accountId],
    );
  }
}

/** Verifies with the keys as they are now, rotations included. */
class HubTokenVerifier extends AccessTokenVerifier {
  constructor(private readonly signingKeys: SigningKeys) {
    super([]);
  }

  override verify(token: string, audience: AccessClaims['aud']): Promise<AccessClaims> {
    return this.signingKeys.verify(token, audience);
  }
}
