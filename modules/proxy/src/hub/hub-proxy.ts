import type { IncomingMessage } from 'node:http';
import { CodedError, SystemClock, type Clock } from '@rookery/core';
import type { z } from 'zod';
import {
  addForwarded,
  cleanRequestHeaders,
  cleanResponseHeaders,
  errorHeader,
  formHeader,
  hasBody,
  tokenHeader,
  type HeaderBag,
} from '../http/headers.js';
import type { Forward, Intercepted } from '../http/attempt.js';
import type { ConnectionFilter, OpenConnection } from '../http/connections.js';
import { targetOf } from '../http/targets.js';
import { standingOf } from '../http/shares.js';
import { TrustedProxies, type ClientOrigin } from '../http/trusted-proxies.js';
import { ProxyRole, type RequestExchange, type UpgradeExchange } from '../http/proxy-role.js';
import type { ProxyLimits } from '../limits.js';
import { BrowserAccess, type OriginAccess } from '../origins/browser-access.js';
import type { ProjectPath, ProjectPathRedirect } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';
import type {
  Principal,
  RequestAuthenticator,
  RouteResolver,
  TokenRequest,
  TokenSource,
} from './hub-proxy.ports.js';

export interface HubProxyDependencies {
  readonly authenticator: RequestAuthenticator;
  readonly routes: RouteResolver;
  readonly tokens: TokenSource;
  readonly clock?: Clock;
  /** TLS terminators of ours, whose X-Forwarded-* are believed. Default: none. */
  readonly trustedProxies?: TrustedProxies;
  /** Origins of projects' own, for browsers. Default: none, so browsers see no project. */
  readonly origins?: OriginAccess;
  /**
   * `shared`: browsers see projects on the hub's own origin, too, where every project's page can act
   * as whoever looks at it. Default `own`.
   */
  readonly pathOrigin?: 'own' | 'shared';
}

/** A project on a host, and the right to go there. */
interface Grant {
  readonly hostUrl: string;
  readonly request: TokenRequest;
  readonly token: string;
}

/** A host keeps idle connections for much longer, and a new one takes a round trip or three. */
const hostUnsafeIdleMs = 2_000;

/** How an exchange goes to one host. */
interface Way {
  readonly client: ClientOrigin;
  /** False when its body is gone with the first attempt. */
  readonly replayable: boolean;
  readonly isGone: () => boolean;
  /** @returns what a host that does not have the project said */
  readonly carry: (grant: Grant) => Promise<Intercepted | undefined>;
}

/** Pause between looks for the new host of a project that has just moved. */
const rerouteEveryMs = 250;

/**
 * The hub's half of the way in: finds out who asks and where the project lives, and carries the
 * request to that host with a token in place of the browser's credentials.
 */
export class HubProxy extends ProxyRole {
  private readonly clock: Clock;
  private readonly trusted: TrustedProxies;
  private readonly browsers: BrowserAccess;
  private sweep: NodeJS.Timeout | undefined;
  private rechecking = false;

  constructor(
    private readonly parts: HubProxyDependencies,
    limits: z.input<typeof ProxyLimits> = {},
  ) {
    super({ unsafeIdleMs: hostUnsafeIdleMs, ...limits });
    this.clock = parts.clock ?? new SystemClock();
    this.trusted = parts.trustedProxies ?? new TrustedProxies();
    const pathOrigin = parts.pathOrigin ?? 'own';
    this.browsers = new BrowserAccess(parts.authenticator, pathOrigin, parts.origins);
  }

  /**
   * Looks again whether who holds a connection may hold it still, and cuts off who may not; how many
   * they were. Happens every `recheckMs` by itself, for all.
   */
  recheckAccess(filter: ConnectionFilter = {}): Promise<number> {
    return this.connections.recheck(filter, (connection) => this.mayStay(connection));
  }

  override async drain(deadlineMs: number): Promise<void> {
    await super.drain(deadlineMs);
    clearInterval(this.sweep);
    this.sweep = undefined;
  }

  override matches(req: IncomingMessage): boolean {
    return super.matches(req) || this.browsers.matches(this.trusted.clientOf(req).host);
  }

  protected override locate(req: IncomingMessage): ProjectPath | ProjectPathRedirect {
    return this.browsers.locate(req, this.trusted.clientOf(req).host) ?? super.locate(req);
  }

  protected override async carry(exchange: RequestExchange): Promise<void> {
    const { req, res, path, connection } = exchange;
    const client = this.trusted.clientOf(req);
    const asked = this.browsers.principalOf(req, path);
    const principal = asked instanceof Promise ? await this.found(exchange, client, asked) : asked;
    this.own(connection, principal, client);
    const handled = this.browsers.answer(req, res, path);
    if (handled instanceof Promise ? await handled : handled) return;
    if (this.browsers.wouldSignIn(req, path, principal)) {
      const route = await this.parts.routes.resolve(path.projectId);
      // Whether there is such a project is told to nobody who is not signed in.
      if (route?.publicPorts.includes(path.port) !== true) {
        return this.browsers.signInAt(req, res, path);
      }
    }
    const headers = outgoingHeaders(req, path, client);
    await this.routed(exchange, principal, {
      client,
      replayable: !hasBody(req),
      isGone: () => res.destroyed,
      carry: async (grant) => {
        try {
          return await this.forwarder.request(req, res, this.forwardTo(grant, path, headers));
        } catch (error) {
          throw hostTrouble(error);
        }
      },
    });
  }

  protected override async carryUpgrade(exchange: UpgradeExchange): Promise<void> {
    const { req, socket, path, connection } = exchange;
    this.browsers.checkUpgrade(path);
    const client = this.trusted.clientOf(req);
    const asked = this.browsers.principalOf(req, path);
    const principal = asked instanceof Promise ? await this.found(exchange, client, asked) : asked;
    this.own(connection, principal, client);
    if (principal.via === 'cookie') checkOrigin(req, client.host);
    const headers = {
      ...outgoingHeaders(req, path, client),
      connection: 'Upgrade',
      upgrade: 'websocket',
    };
    let { head } = exchange;
    await this.routed(exchange, principal, {
      client,
      replayable: true,
      isGone: () => socket.destroyed,
      carry: (grant) => {
        const forward = this.forwardTo(grant, path, headers);
        const answer = this.forwarder.upgrade(req, socket, head, forward);
        // The first attempt has put it back into the socket.
        head = Buffer.alloc(0);
        return answer;
      },
    });
  }

  /**
   * Carries an exchange to the project's host, and to the next one while the project moves. What is
   * misdirected was turned away by the host's ingress, which says so before the project hears of it:
   * it may be sent to the right host, whatever its method is.
   */
  private async routed(
    { path, connection }: Pick<RequestExchange, 'path' | 'connection'>,
    principal: Principal,
    way: Way,
  ): Promise<void> {
    let giveUpAt = 0;
    for (let fresh = false; ; fresh = true) {
      const grant = await this.grant(path, principal, fresh);
      if (!fresh) this.count(connection, grant, way.client);
      const answer = await way.carry(grant);
      if (answer === undefined) return;
      const problem = this.judge(answer, grant);
      const now = this.clock.now();
      if (!fresh) giveUpAt = now + this.limits.rerouteMs;
      else if (now >= giveUpAt) throw problem;
      if (!way.replayable) throw problem;
      if (way.isGone()) return;
      if (fresh) await this.clock.delay(rerouteEveryMs);
    }
  }

  /** While it is being looked up who that is, it takes no room of those who are known. */
  private found(
    { connection }: { readonly connection: OpenConnection },
    { address }: ClientOrigin,
    asked: Promise<Principal>,
  ): Promise<Principal> {
    // Nobody waits for the answer when there is no room.
    asked.catch(() => undefined);
    this.connections.admit(connection, { kind: 'newcomer', address });
    return asked;
  }

  private own(connection: OpenConnection, principal: Principal, { address }: ClientOrigin): void {
    connection.subject = subjectOf(principal);
    connection.sessionId = principal.sessionId;
    if (principal.accountId === undefined) {
      this.connections.admit(connection, { kind: 'newcomer', address });
    }
    if (!this.sweep) this.startSweep();
  }

  /** @throws PROXY_BUSY */
  private count(connection: OpenConnection, { request }: Grant, { address }: ClientOrigin): void {
    this.connections.admit(connection, standingOf(request.role, request.subject, address));
  }

  /** Apart, so that the timer does not keep the request that happened to be the first. */
  private startSweep(): void {
    this.sweep = setInterval(() => this.recheckAll(), this.limits.recheckMs).unref();
  }

  private async mayStay({ req, headers, path, subject }: OpenConnection): Promise<boolean> {
    // Who has not been asked yet is about to be.
    if (subject === '') return true;
    const asker = Object.create(req, { headers: { value: headers } }) as IncomingMessage;
    const principal = await this.browsers.principalOf(asker, path);
    if (subjectOf(principal) !== subject) return false;
    const route = await this.parts.routes.resolve(path.projectId);
    if (!route) return false;
    if (route.publicPorts.includes(path.port)) return true;
    return principal.accountId !== undefined && (await route.roleOf(principal)) !== undefined;
  }

  private recheckAll(): void {
    if (this.rechecking) return;
    this.rechecking = true;
    void this.recheckAccess().finally(() => (this.rechecking = false));
  }

  /** @throws PROXY_PROJECT_UNKNOWN, PROXY_SIGN_IN_REQUIRED, PROXY_PROJECT_FORBIDDEN, … */
  private async grant(path: ProjectPath, principal: Principal, fresh: boolean): Promise<Grant> {
    const { projectId, port } = path;
    const found = this.parts.routes.resolve(projectId, { fresh });
    const route = found instanceof Promise ? await found : found;
    if (!route) throw ProxyErrors.PROXY_PROJECT_UNKNOWN({ projectId });
    const { accountId } = principal;
    const held = accountId === undefined ? undefined : route.roleOf(principal);
    const role = held instanceof Promise ? await held : held;
    const open = route.publicPorts.includes(port);
    if (role === undefined && !open) {
      throw accountId === undefined
        ? ProxyErrors.PROXY_SIGN_IN_REQUIRED()
        : ProxyErrors.PROXY_PROJECT_FORBIDDEN();
    }
    const { hostId, hostUrl, state } = route;
    if (hostId === undefined || hostUrl === undefined) {
      throw ProxyErrors.PROXY_PROJECT_NOT_PLACED({ projectId, state });
    }
    const request: TokenRequest =
      role === undefined
        ? { hostId, projectId, subject: 'anonymous', role: 'anonymous', port }
        : { hostId, projectId, subject: subjectOf(principal), role };
    const minted = this.parts.tokens.tokenFor(request);
    return { hostUrl, request, token: minted instanceof Promise ? await minted : minted };
  }

  /** Completes `headers` for the host of this attempt. */
  private forwardTo(grant: Grant, path: ProjectPath, headers: HeaderBag): Forward {
    const target = targetOf(grant.hostUrl);
    // The host finds the Host header of the browser in X-Forwarded-Host.
    headers.host = target.host;
    headers[tokenHeader] = grant.token;
    const confine = this.browsers.confinementOf(path);
    return {
      target,
      url: path.fullUrl,
      headers,
      port: path.port,
      responseHeaders: (response) => cleanResponseHeaders(response.headers, confine),
      intercept: isMisdirected,
    };
  }

  /** Why a host turned the request away; forgets what may have been stale. */
  private judge(answer: Intercepted, grant: Grant): CodedError {
    const { projectId } = grant.request;
    this.parts.tokens.forget(projectId);
    if (answer.status === 421) return ProxyErrors.PROXY_PROJECT_HELD({ projectId });
    const code = answer.headers[errorHeader];
    return ProxyErrors.PROXY_HOST_REFUSED({ reason: typeof code === 'string' ? code : '' });
  }
}

function outgoingHeaders(req: IncomingMessage, path: ProjectPath, client: ClientOrigin): HeaderBag {
  const own = path.mode === 'origin';
  const { authorization = '' } = req.headers;
  // A service with an origin of its own may have passwords of its own; ours it never sees.
  const dropAuthorization = !own || /^Bearer +rookery_/i.test(authorization);
  const headers = cleanRequestHeaders(req.headers, { dropAuthorization });
  if (own) headers[formHeader] = 'origin';
  addForwarded(headers, req, { client, prefix: undefined });
  return headers;
}

/** A host that cannot be reached is the host's trouble, not the port's. */
function hostTrouble(error: unknown): unknown {
  if (!CodedError.is(error, 'PROXY_PORT_REFUSED')) return error;
  return ProxyErrors.PROXY_HOST_UNREACHABLE({}, { cause: error });
}

/** Only the ingress itself says these; it lets no such header of a project through. */
function isMisdirected(response: IncomingMessage): boolean {
  const code = response.headers[errorHeader];
  return (
    code === 'PROXY_PROJECT_MOVED' ||
    code === 'PROXY_NOT_HERE' ||
    code === 'PROXY_TOKEN_REFUSED' ||
    code === 'PROXY_TOKEN_REQUIRED'
  );
}

const subjectOf = (principal: Principal): string =>
  principal.accountId === undefined ? 'anonymous' : `account:${principal.accountId}`;

/** A cookie comes along from any page; a WebSocket has no CORS that would stop it. */
function checkOrigin(req: IncomingMessage, host: string | undefined): void {
  const { origin } = req.headers;
  if (origin === undefined) return;
  if (!URL.canParse(origin) || new URL(origin).host !== host) {
    throw ProxyErrors.PROXY_ORIGIN_REFUSED({ origin });
  }
}
