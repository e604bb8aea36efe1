import { Inject, Injectable } from '@nestjs/common';
import { accountPermissions, NetworkAuthenticator, type ProjectAccess } from '@rookery/fleet';
import { Authenticator, type ConatIdentity, type ConnectRequest } from '@rookery/conat';
import { identityNames } from '@rookery/fleet/contract';
import { AccessTokenVerifier, CoreErrors } from '@rookery/core';
import { accountOfSubject, type AccessClaims } from '@rookery/core/contract';
import { DataSource } from 'typeorm';
import { AuthService } from '../accounts/auth.service.js';
import { goodCredentials } from '../accounts/credentials.js';
import { HostRegistry } from '../hosts/host-registry.service.js';
import { SigningKeys } from '../keys/signing-keys.service.js';
import { HUB_SECRET } from './hub-secret.js';

/** An account, as what it shows says. */
export interface Bearer {
  readonly accountId: string;
  /** Its token opens this project alone. */
  readonly projectId?: string;
  /** The API key or session behind it. */
  readonly credentialId?: string;
}

/**
 * Who is who on the control network: hub processes by secret, hosts by nkey, joining hosts by
 * token, accounts by a short-lived token or by an API key.
 */
@Injectable()
export class HubAuthenticator extends Authenticator {
  private readonly network: NetworkAuthenticator;
  private readonly accessTokens: HubTokenVerifier;

  constructor(
    private readonly dataSource: DataSource,
    private readonly auth: AuthService,
    hosts: HostRegistry,
    keys: SigningKeys,
    @Inject(HUB_SECRET) hubSecret: string,
  ) {
    super();
    this.accessTokens = new HubTokenVerifier(keys, dataSource);
    this.network = new NetworkAuthenticator({
      hubSecret,
      hostOf: (key) => hosts.hostOf(key),
      isJoinToken: (token) => hosts.isJoinToken(token),
      accessTokens: this.accessTokens,
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
      credential: caller.credentialId,
    };
  }

  /** The account behind an API key or an access token for `audience`; null when it is no good. */
  async bearerOf(token: string, audience: AccessClaims['aud']): Promise<Bearer | null> {
    const caller = await this.auth.byToken(token);
    if (caller) return { accountId: caller.accountId, credentialId: caller.credentialId };
    const claims = await this.accessTokens.verify(token, audience).catch(() => null);
    const accountId = accountOfSubject(claims?.sub);
    if (!claims || accountId === undefined) return null;
    const { project, credential } = claims;
    return {
      accountId,
      ...(project !== undefined && { projectId: project }),
      ...(credential !== undefined && { credentialId: credential }),
    };
  }

  /** Null for an account that there is not, or that is blocked. */
  async projectsOf(accountId: string): Promise<readonly ProjectAccess[] | null> {
    return (await this.projectsOfAll([accountId])).get(accountId) ?? null;
  }

  /** As `projectsOf`, of many. */
  async projectsOfAll(accountIds: readonly string[]): Promise<Map<string, ProjectAccess[]>> {
    const rows = await this.dataSource.query<(Nullable<ProjectAccess> & { accountId: string })[]>(
      `SELECT a.id AS "accountId", p.id AS "projectId", c.role FROM accounts a
       LEFT JOIN collaborators c ON c.account_id = a.id
       LEFT JOIN projects p ON p.id = c.project_id AND p.deleted_at IS NULL
       WHERE a.id = ANY($1) AND a.blocked_at IS NULL`,
      [accountIds],
    );
    const found = new Map<string, ProjectAccess[]>();
    for (const { accountId, projectId, role } of rows) {
      const projects = found.get(accountId) ?? [];
      found.set(accountId, projects);
      if (projectId !== null && role !== null) projects.push({ projectId, role });
    }
    return found;
  }
}

type Nullable<T> = { readonly [K in keyof T]: T[K] | null };

/**
 * Verifies with the keys as they are now, rotations included. A token lives minutes; the API key or
 * session that it was made with may be gone before.
 */
class HubTokenVerifier extends AccessTokenVerifier {
  constructor(
    private readonly signingKeys: SigningKeys,
    private readonly dataSource: DataSource,
  ) {
    super([]);
  }

  override async verify(token: string, audience: AccessClaims['aud']): Promise<AccessClaims> {
    const claims = await this.signingKeys.verify(token, audience);
    const { credential } = claims;
    if (credential === undefined) return claims;
    const good = await goodCredentials(this.dataSource, [credential]);
    if (good.has(credential)) return claims;
    throw CoreErrors.TOKEN_INVALID({ reason: 'what it was made with is revoked' });
  }
}
