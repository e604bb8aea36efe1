import type { IncomingMessage } from 'node:http';
import { Injectable, Optional } from '@nestjs/common';
import { bearerToken } from '@rookery/core';
import type { ProjectRole } from '@rookery/core/contract';
import {
  cookiesNamed,
  ProjectOrigins,
  RequestAuthenticator,
  RouteResolver,
  sessionCookieOf,
  type Principal,
  type ProjectPath,
  type ProjectRoute,
} from '@rookery/proxy';
import { DataSource } from 'typeorm';
import { AuthService, type Caller } from '../accounts/auth.service.js';
import { SessionCookie } from '../accounts/session-cookie.js';

/** Changes of access empty the caches at once; this is for what changes by itself (expiry). */
const cacheMs = 10_000;
const cacheEntriesMax = 10_000;

/**
 * Remembers answers for a moment, so that a page's hundred requests are one query. What is there is
 * given without a promise: requests in a row wait for nothing.
 */
class MomentCache<T> {
  private readonly entries = new Map<string, { value: Promise<T> | T; until: number }>();

  get(key: string, make: () => Promise<T>, options: { fresh?: boolean } = {}): Promise<T> | T {
    const now = Date.now();
    const hit = this.entries.get(key);
    if (hit && hit.until > now && options.fresh !== true) return hit.value;
    const made = make();
    const entry: { value: Promise<T> | T; until: number } = { value: made, until: now + cacheMs };
    this.entries.delete(key);
    this.entries.set(key, entry);
    made.then(
      (value) => (entry.value = value),
      () => this.entries.get(key) === entry && this.entries.delete(key),
    );
    const [oldest] = this.entries.keys();
    if (this.entries.size > cacheEntriesMax && oldest !== undefined) this.entries.delete(oldest);
    return made;
  }

  /** Forgets the answers to all keys that begin so. */
  forget(start = ''): void {
    for (const key of this.entries.keys()) if (key.startsWith(start)) this.entries.delete(key);
  }
}

/** Cookie, bearer or query token: who sends a request to a project. */
@Injectable()
export class HubRequestAuthenticator extends RequestAuthenticator {
  private readonly cache = new MomentCache<Caller | undefined>();

  constructor(
    private readonly auth: AuthService,
    private readonly sessions: SessionCookie,
    @Optional() private readonly origins?: ProjectOrigins,
  ) {
    super();
  }

  authenticate(request: IncomingMessage, path: ProjectPath): Promise<Principal> | Principal {
    const [via, secret] = this.credentialOf(request, path);
    if (via === undefined || secret === undefined) return {};
    const { projectId, port } = path;
    const scope = via === 'origin' ? ` ${projectId} ${port}` : '';
    const caller = this.cache.get(`${via} ${secret}${scope}`, () => {
      if (via === 'origin') return this.auth.byOriginSession({ secret, projectId, port });
      return via === 'cookie' ? this.auth.bySession(secret) : this.auth.byToken(secret);
    });
    if (caller instanceof Promise) return caller.then((found) => principalOf(found, via));
    return principalOf(caller, via);
  }

  forget(): void {
    this.cache.forget();
  }

  private credentialOf(
    request: IncomingMessage,
    { mode, queryToken }: ProjectPath,
  ): [NonNullable<Principal['via']> | undefined, string | undefined] {
    const bearer = bearerToken(request.headers.authorization);
    // A service with an origin of its own may have tokens of its own.
    if (bearer !== undefined && (mode !== 'origin' || bearer.startsWith('rookery_'))) {
      return ['bearer', bearer];
    }
    if (queryToken !== undefined) return ['query', queryToken];
    if (mode === 'origin') return this.atOrigin(request);
    const cookie = this.sessions.read(request);
    return cookie === undefined ? [undefined, undefined] : ['cookie', cookie];
  }

  /** Of two cookies of the name one is a neighbour's: neither counts. */
  private atOrigin(request: IncomingMessage): ['origin', string] | [undefined, undefined] {
    if (!this.origins) return [undefined, undefined];
    const [secret, another] = cookiesNamed(request.headers.cookie, sessionCookieOf(this.origins));
    if (secret === undefined || another !== undefined) return [undefined, undefined];
    return ['origin', secret];
  }
}

function principalOf(caller: Caller | undefined, via: NonNullable<Principal['via']>): Principal {
  return caller ? { accountId: caller.accountId, sessionId: caller.credentialId, via } : {};
}

interface RouteRow {
  readonly state: ProjectRoute['state'];
  readonly host_id: string | null;
  readonly internal_url: string | null;
  readonly placement_generation: number;
  readonly public_ports: number[];
}

/** Where projects live, from the hub's tables. */
@Injectable()
export class HubRouteResolver extends RouteResolver {
  private readonly routes = new MomentCache<ProjectRoute | undefined>();
  private readonly roles = new MomentCache<ProjectRole | undefined>();

  constructor(private readonly dataSource: DataSource) {
    super();
  }

  resolve(
    projectId: string,
    options: { fresh?: boolean } = {},
  ): Promise<ProjectRoute | undefined> | ProjectRoute | undefined {
    return this.routes.get(projectId, () => this.load(projectId), options);
  }

  /** Routes of a project, or all, with who may take them. */
  forget(projectId = ''): void {
    this.routes.forget(projectId);
    this.roles.forget(projectId);
  }

  private async load(projectId: string): Promise<ProjectRoute | undefined> {
    const [row] = await this.dataSource.query<RouteRow[]>(
      `SELECT p.state, p.host_id, h.internal_url, p.placement_generation, p.public_ports
       FROM projects p LEFT JOIN project_hosts h ON h.id = p.host_id
       WHERE p.id = $1 AND p.deleted_at IS NULL`,
      [projectId],
    );
    if (!row) return undefined;
    return {
      projectId,
      state: row.state,
      generation: row.placement_generation,
      publicPorts: row.public_ports,
      ...(row.host_id !== null && { hostId: row.host_id }),
      ...(row.internal_url !== null && { hostUrl: row.internal_url }),
      roleOf: (principal) => this.roleOf(projectId, principal),
    };
  }

  private roleOf(
    projectId: string,
    principal: Principal,
  ): Promise<ProjectRole | undefined> | ProjectRole | undefined {
    const { accountId } = principal;
    if (accountId === undefined) return undefined;
    return this.roles.get(`${projectId} ${accountId}`, async () => {
      const [row] = await this.dataSource.query<{ role: ProjectRole }[]>(
        'SELECT role FROM collaborators WHERE project_id = $1 AND account_id = $2',
        [projectId, accountId],
      );
      return row?.role;
    });
  }
}
