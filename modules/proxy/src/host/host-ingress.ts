import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIPv6 } from 'node:net';
import { CodedError, type AccessTokenVerifier, type Clock } from '@rookery/core';
import type { AccessClaims } from '@rookery/core/contract';
import type { z } from 'zod';
import { respondWithError } from '../http/error-response.js';
import type { Forward } from '../http/attempt.js';
import {
  addForwarded,
  cleanRequestHeaders,
  cleanResponseHeaders,
  clientToldByHub,
  formHeader,
  hasBody,
  tokenHeader,
  type Confinement,
  type HeaderBag,
} from '../http/headers.js';
import { isNavigation } from '../origins/browser-request.js';
import { targetOf } from '../http/targets.js';
import { ProxyRole, type RequestExchange, type UpgradeExchange } from '../http/proxy-role.js';
import type { ProxyLimits } from '../limits.js';
import { queryTokenName, type ProjectPath } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';
import { HoldQueue } from './hold-queue.js';
import type { HostRoute, RouteTable } from './route-table.js';
import type { OpenConnection } from '../http/connections.js';
import { standingOf } from '../http/shares.js';
import { TrustedProxies, type ClientOrigin } from '../http/trusted-proxies.js';
import { TokenGate } from './token-gate.js';

export interface HostIngressDependencies {
  readonly hostId: string;
  readonly verifier: Pick<AccessTokenVerifier, 'verify'>;
  readonly routes: RouteTable;
  readonly clock?: Clock;
  /** Whose X-Forwarded-* are believed of who comes directly, past the hub. Default: nobody's. */
  readonly trustedProxies?: TrustedProxies;
  /**
   * `shared`: browsers may come directly; all projects of the host then share its origin, and each
   * one's page can act on the others. Default `own`: they go through the hub.
   */
  readonly pathOrigin?: 'own' | 'shared';
}

/**
 * The host's half of the way in: lets in what carries a token for this host and project, waits while
 * the project is being moved, and carries the request to its container.
 */
export class HostIngress extends ProxyRole {
  private readonly gate: TokenGate;
  private readonly holds: HoldQueue;
  private readonly trusted: TrustedProxies;
  private readonly shared: boolean;

  constructor(parts: HostIngressDependencies, limits: z.input<typeof ProxyLimits> = {}) {
    super(limits);
    this.trusted = parts.trustedProxies ?? new TrustedProxies();
    this.shared = parts.pathOrigin === 'shared';
    this.gate = new TokenGate(parts.hostId, parts.verifier, {
      clock: parts.clock,
      takesCookies: this.shared,
    });
    this.holds = new HoldQueue(parts.routes, this.limits);
  }

  /** Forgets which tokens were good: after a rotation of keys or a revocation. */
  forgetTokens(): void {
    this.gate.forget();
  }

  /** Requests that wait for a move. */
  heldCount(): number {
    return this.holds.count();
  }

  /** For a server that serves nothing else: other addresses get an error of ours. */
  async handleOrRefuse(req: IncomingMessage, res: ServerResponse): Promise<void> {
    if (await this.handle(req, res)) return;
    respondWithError(req, res, ProxyErrors.PROXY_PATH_INVALID({ reason: 'it names no project' }));
  }

  override async drain(deadlineMs: number): Promise<void> {
    this.holds.close();
    await super.drain(deadlineMs);
  }

  protected override async carry(exchange: RequestExchange): Promise<void> {
    const { req, res, path, connection } = exchange;
    const verdict = this.gate.claimsOf(req, path);
    const claims = verdict instanceof Promise ? await verdict : verdict;
    const client = this.own(req, connection, claims);
    if (this.opensSession(req, res, path)) return;
    const headers = outgoingHeaders(req, path, claims, client);
    const confine = this.confinementOf(req, path, claims, client);
    for (;;) {
      const known = this.holds.settledRoute(path.projectId, path.port, res);
      const way = wayTo(known instanceof Promise ? await known : known, path);
      if (res.destroyed) return;
      try {
        await this.forwarder.request(req, res, forwardTo(way, path, headers, confine));
        return;
      } catch (error) {
        if (res.destroyed || !this.comesUp(error, req, path)) throw error;
      }
    }
  }

  /** True when a service that is just starting refused a request of which nothing was sent. */
  private comesUp(error: unknown, req: IncomingMessage, path: ProjectPath): boolean {
    if (!CodedError.is(error, 'PROXY_PORT_REFUSED') || hasBody(req)) return false;
    return this.holds.refused(path.projectId, path.port);
  }

  protected override async carryUpgrade(exchange: UpgradeExchange): Promise<void> {
    const { req, socket, head, path, connection } = exchange;
    const verdict = this.gate.claimsOf(req, path);
    const claims = verdict instanceof Promise ? await verdict : verdict;
    const client = this.own(req, connection, claims);
    const way = wayTo(await this.holds.settledRoute(path.projectId, path.port, socket), path);
    const headers = {
      ...outgoingHeaders(req, path, claims, client),
      connection: 'Upgrade',
      upgrade: 'websocket',
    };
    const confine = this.confinementOf(req, path, claims, client);
    await this.forwarder.upgrade(req, socket, head, forwardTo(way, path, headers, confine));
  }

  /**
   * A browser that comes directly brings its token in the address once; a cookie carries it from
   * there, for as long as the token lives, and the address bar loses it.
   */
  private opensSession(req: IncomingMessage, res: ServerResponse, path: ProjectPath): boolean {
    if (req.headers[tokenHeader] !== undefined || !isNavigation(req)) return false;
    if (!this.shared) {
      const advice = 'Open the project through the hub.';
      throw ProxyErrors.PROXY_ORIGIN_REQUIRED({ advice });
    }
    if (path.queryToken === undefined || req.method !== 'GET') return false;
    const secure = this.trusted.clientOf(req).scheme === 'https' ? '; Secure' : '';
    res.writeHead(303, {
      location: path.fullUrl,
      'set-cookie': `${queryTokenName}=${path.queryToken}; Path=/${path.projectId}/; HttpOnly; SameSite=Lax${secure}`,
      'cache-control': 'no-store',
      'referrer-policy': 'no-referrer',
      'content-length': 0,
    });
    res.end();
    return true;
  }

  /** Counts it as its owner's, before it waits for anything. @throws PROXY_BUSY */
  private own(req: IncomingMessage, connection: OpenConnection, claims: AccessClaims) {
    connection.subject = claims.sub;
    connection.sessionId = claims.jti;
    const client = isViaHub(req, claims) ? clientToldByHub(req) : this.trusted.clientOf(req);
    this.connections.admit(connection, standingOf(claims.role, claims.sub, client.address));
    return client;
  }

  private confinementOf(
    req: IncomingMessage,
    path: ProjectPath,
    claims: AccessClaims,
    { host }: ClientOrigin,
  ): Confinement {
    const { projectId, base, mode, upstreamUrl: url } = path;
    const ownOrigin = hasOwnOrigin(req, claims);
    return {
      projectId,
      base,
      ownOrigin,
      stripped: mode === 'server' && !ownOrigin && { host, url },
      sandboxed: !isViaHub(req, claims) && !this.shared,
    };
  }
}

/** A user's own token opens the project too, but what that user says of himself is not believed. */
const isViaHub = (req: IncomingMessage, claims: AccessClaims): boolean =>
  claims.via === 'hub' && req.headers[tokenHeader] !== undefined;

/** The hub says that the browser sees the project at an origin of its own. */
const hasOwnOrigin = (req: IncomingMessage, claims: AccessClaims): boolean =>
  isViaHub(req, claims) && req.headers[formHeader] === 'origin';

function outgoingHeaders(
  req: IncomingMessage,
  path: ProjectPath,
  claims: AccessClaims,
  client: ClientOrigin,
): HeaderBag {
  const viaHub = isViaHub(req, claims);
  const own = hasOwnOrigin(req, claims);
  // The hub has kept back what is its own; what is left is between the browser and the service.
  const headers = cleanRequestHeaders(req.headers, { dropAuthorization: viaHub && !own });
  const prefix = path.mode === 'server' && !own ? path.base.slice(0, -1) : undefined;
  addForwarded(headers, req, { client, prefix });
  if (client.host !== undefined) headers.host = client.host;
  return headers;
}

type Way = Extract<HostRoute, { state: 'running' }>;

/** @throws PROXY_PROJECT_HELD, PROXY_PROJECT_NOT_RUNNING, PROXY_PROJECT_MOVED, PROXY_NOT_HERE */
function wayTo(route: HostRoute | undefined, { projectId }: ProjectPath): Way {
  if (!route) throw ProxyErrors.PROXY_NOT_HERE({ projectId });
  switch (route.state) {
    case 'running':
      return route;
    case 'stopped':
      throw ProxyErrors.PROXY_PROJECT_NOT_RUNNING({ projectId });
    case 'held':
      throw ProxyErrors.PROXY_PROJECT_HELD({ projectId });
    case 'moved': {
      const { newUrl } = route;
      const to = newUrl === undefined ? '' : ` to ${newUrl}`;
      throw ProxyErrors.PROXY_PROJECT_MOVED({ projectId, to, newUrl });
    }
  }
}

function forwardTo(way: Way, path: ProjectPath, headers: HeaderBag, confine: Confinement): Forward {
  return {
    target: targetOf(baseUrlOf(way.address, path.port)),
    ...(way.linkIndex !== undefined && { linkIndex: way.linkIndex }),
    url: path.upstreamUrl,
    headers,
    port: path.port,
    responseHeaders: (response) => cleanResponseHeaders(response.headers, confine),
  };
}

function baseUrlOf(address: string, port: number): string {
  return isIPv6(address) ? `http://[${address}]:${port}` : `http://${address}:${port}`;
}
