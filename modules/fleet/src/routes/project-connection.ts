import { CodedError, toCodedError, type Clock, type Logger } from '@rookery/core';
import { FleetErrors } from '../fleet.errors.js';
import type { ProjectRoute } from '../contract/routes.js';
import { ConatClient, type SocketLike } from '@rookery/conat';
import { dialFirst, type DialTarget } from './route-dial.js';
import type { RouteLimits } from './route-limits.js';
import { isNoRouteOfMine, type RouteSource } from './route-source.js';

export interface ProjectLineDependencies {
  readonly routes: RouteSource;
  readonly identity: string;
  /** What the caller shows on the control network. */
  readonly proof: () => Promise<string | undefined>;
  /** Addresses that do not answer, until when they are tried last; shared by all projects. */
  readonly unreachable: Map<string, number>;
  readonly limits: RouteLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  /** It has ended for good. */
  readonly onEnd: (line: ProjectConnection) => void;
}

const unreachableMax = 4_096;

/**
 * One project's network, wherever the project is: a connection that looks up the way at each dial.
 *
 * When the project gets another host, the connection is made to drop and comes back there, and with
 * it all that nats-core makes anew at each reconnect: subscriptions, the inbox, and the consumers of
 * JetStream, which go on behind the last message that they gave. The connection has rights in this
 * project alone, so that the host that loses it cuts it, rather than its subscriptions one by one.
 */
export class ProjectConnection {
  /** Since then nobody has asked for it. */
  usedAt: number;
  /** Holders that keep it from being closed. */
  pins = 0;
  private route: ProjectRoute | undefined;
  private routeAt = 0;
  /** What the latest dial went by. */
  private dialed: ProjectRoute | undefined;
  private problem: CodedError | undefined;
  private client: ConatClient | undefined;
  private opening: Promise<ConatClient> | undefined;
  private traffic = 0;
  private ended = false;
  private readonly unlisten: () => void;

  constructor(
    readonly projectId: string,
    private readonly parts: ProjectLineDependencies,
  ) {
    this.usedAt = parts.clock.now();
    this.unlisten = parts.routes.onChange(projectId, (generation) => this.hear(generation));
  }

  /** The host that it is, or was last, connected to. */
  get hostId(): string | undefined {
    return this.route?.hostId;
  }

  open(): Promise<ConatClient> {
    this.usedAt = this.parts.clock.now();
    return (this.opening ??= this.connect());
  }

  /** Nobody would miss it: nothing is listened to, and nothing went through it for a while. */
  isIdle(idleMs: number): boolean {
    const { client, parts } = this;
    if (!client || this.pins > 0 || client.listening > 0) return false;
    const { inMsgs, outMsgs } = client.nats.stats();
    if (inMsgs + outMsgs !== this.traffic) {
      this.traffic = inMsgs + outMsgs;
      this.usedAt = parts.clock.now();
    }
    return parts.clock.now() - this.usedAt >= idleMs;
  }

  async close(): Promise<void> {
    this.end();
    const { opening } = this;
    const client = await opening?.catch(() => undefined);
    await client?.close();
  }

  private end(): void {
    if (this.ended) return;
    this.ended = true;
    this.unlisten();
    this.parts.onEnd(this);
  }

  private async connect(): Promise<ConatClient> {
    const { projectId, parts } = this;
    const { limits } = parts;
    try {
      // What is certain, the caller hears at once.
      await this.look(limits.routeMs);
      this.client = await ConatClient.connect({
        servers: `ws://${projectId}`,
        dial: (signal) => this.dial(signal),
        identity: parts.identity,
        credentials: () => ({ token: this.route?.token ?? '' }),
        connectTimeoutMs: limits.connectTimeoutMs,
        reconnectFirstMs: limits.reconnectFirstMs,
        reconnectMaxMs: limits.reconnectMaxMs,
        name: `project ${projectId}`,
        onStatus: (status) => this.note(status),
        logger: parts.logger,
      });
    } catch (error) {
      this.end();
      throw CodedError.is(error, 'CONAT_UNREACHABLE') ? (this.problem ?? error) : error;
    }
    if (this.ended) await this.client.close();
    return this.client;
  }

  private note(status: ConatClient['status']): void {
    if (status === 'closed') this.end();
    if (status !== 'connected') return;
    this.problem = undefined;
    // News that came while it was dialled.
    this.move();
  }

  private async dial(signal: AbortSignal): Promise<SocketLike> {
    const { limits, clock, unreachable } = this.parts;
    try {
      // Whatever ended the last connection, or kept it from opening, may be a move.
      const route = await this.look(this.dialed ? 0 : limits.routeMs);
      this.dialed = route;
      return await dialFirst(this.targets(route), signal, ({ url }) => {
        if (unreachable.size >= unreachableMax) unreachable.clear();
        if (url !== route.relayUrl) unreachable.set(url, clock.now() + limits.directAgainMs);
      });
    } catch (error) {
      this.problem = toCodedError(error);
      if (isNoRouteOfMine(error)) void this.close();
      throw error;
    }
  }

  /** The host's own addresses first; those that lately did not answer come last. */
  private targets(route: ProjectRoute): DialTarget[] {
    const { limits, clock, unreachable } = this.parts;
    const { urls, relayUrl, token } = route;
    const now = clock.now();
    const direct = urls.map((url) => ({ url, timeoutMs: limits.directTimeoutMs }));
    const isDead = ({ url }: DialTarget): boolean => (unreachable.get(url) ?? 0) > now;
    const relay: DialTarget[] = relayUrl
      ? [
          {
            url: relayUrl,
            timeoutMs: limits.directTimeoutMs * 2,
            ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
          },
        ]
      : [];
    return [...direct.filter((each) => !isDead(each)), ...relay, ...direct.filter(isDead)];
  }

  /** The route, as it was no longer ago than that. */
  private async look(agoMs: number): Promise<ProjectRoute> {
    const { routes, proof, clock } = this.parts;
    const known = this.route;
    if (known && clock.now() - this.routeAt < agoMs) return known;
    try {
      this.route = await routes.resolve(this.projectId, await proof());
      this.routeAt = clock.now();
      return this.route;
    } catch (error) {
      const silent =
        CodedError.is(error) && error.retryable && error.code !== 'CONAT_ROUTE_MISSING';
      // While the hub is away, its last word counts: the host knows better.
      if (known && silent) return known;
      throw error;
    }
  }

  /** The project may be elsewhere. */
  private hear(generation: number | undefined): void {
    if (generation !== undefined && generation <= (this.route?.generation ?? 0)) return;
    void this.follow().catch((error: unknown) => {
      this.parts.logger.debug({ err: error, projectId: this.projectId }, 'the way is not known');
      if (isNoRouteOfMine(error)) void this.close();
    });
  }

  private async follow(): Promise<void> {
    if (this.ended || !this.route) return;
    await this.look(0);
    this.move();
  }

  /** Drops a connection to where the project is not any more; the next dial finds it. */
  private move(): void {
    const { client, route, dialed } = this;
    if (!route || !dialed || client?.status !== 'connected') return;
    // A project that left and came back is another one to its host, too.
    if (route.hostId === dialed.hostId && route.generation === dialed.generation) return;
    client.nats.reconnect().catch(() => undefined);
  }

  /** What a request is told that finds no connection. */
  get unavailable(): CodedError {
    const { problem, projectId } = this;
    if (problem?.retryable === true) return problem;
    return FleetErrors.CONAT_ROUTE_MISSING({ subject: `project.${projectId}` });
  }
}
