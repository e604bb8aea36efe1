import { jetstream, type JetStreamClient } from '@nats-io/jetstream';
import { Kvm, type KV } from '@nats-io/kv';
import type { Msg, MsgHdrs, Payload } from '@nats-io/nats-core';
import { createLogger, SystemClock, type Clock, type Logger } from '@rookery/core';
import { FleetErrors } from '../fleet.errors.js';
import { ConatClient, type ConatCredentials } from '@rookery/conat';
import { ProjectConnection } from './project-connection.js';
import { routeLimits, type RouteLimits } from './route-limits.js';
import { ControlRoutes, type RouteSource } from './route-source.js';
import { routedRequest } from './routed-request.js';
import { projectOfSubject, SubjectRouter } from './subject-router.js';

export interface RoutedClientOptions {
  /** The control network; stays its maker's to close. */
  readonly control: ConatClient;
  /** What `control` shows; hosts get tokens for it that are good for nothing else. */
  readonly credentials?: ConatCredentials | (() => ConatCredentials | Promise<ConatCredentials>);
  /** Who knows the routes; default: the hub, over `control`. */
  readonly routes?: RouteSource;
  readonly limits?: Partial<RouteLimits>;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface RoutedRequestOptions {
  readonly timeoutMs?: number;
  readonly headers?: MsgHdrs;
  /** RequestContext twice does no harm: it is asked again when the project moves meanwhile. */
  readonly idempotent?: boolean;
  readonly signal?: AbortSignal;
}

const requestTimeoutMs = 10_000;
const lookEveryMs = 5_000;

/**
 * The control network and the brokers of any number of hosts as one: what belongs to a project
 * goes to the host that has it, everything else to the control network. It follows moves. What has
 * no route is an error (CONAT_ROUTE_MISSING), and never goes to another network.
 *
 * Connections are made when first needed, one a project, and closed when nobody uses them.
 */
export class RoutedConatClient extends SubjectRouter {
  private readonly lines = new Map<string, ProjectConnection>();
  private readonly limits: RouteLimits;
  private readonly clock: Clock;
  private readonly routes: RouteSource;
  private readonly unreachable = new Map<string, number>();
  private readonly timer: NodeJS.Timeout;
  private readonly logger: Logger;
  private closed = false;

  constructor(private readonly options: RoutedClientOptions) {
    super();
    this.limits = { ...routeLimits, ...options.limits };
    this.clock = options.clock ?? new SystemClock();
    this.logger = options.logger ?? createLogger('conat-routes', 'warn');
    this.routes = options.routes ?? new ControlRoutes(options.control, this.logger);
    this.timer = setInterval(() => this.closeIdle(), Math.min(lookEveryMs, this.limits.idleMs));
    this.timer.unref();
  }

  /** The control network. */
  get control(): ConatClient {
    return this.options.control;
  }

  /** Hosts that projects are connected to: project → host. */
  get connections(): ReadonlyMap<string, string | undefined> {
    return new Map([...this.lines].map(([projectId, line]) => [projectId, line.hostId]));
  }

  /**
   * The client of the network that a subject is on. A project's follows it through moves: its
   * subscriptions are made anew there.
   * @throws CONAT_SUBJECT_SPANS, CONAT_ROUTE_MISSING, CONAT_ROUTES_BUSY, SERVICE_FORBIDDEN,
   * NOT_FOUND, and what a connection may fail with
   */
  async routeSubject(subject: string): Promise<ConatClient> {
    const projectId = projectOfSubject(subject);
    return projectId === null ? this.options.control : this.line(projectId).open();
  }

  /**
   * Asks, wherever the subject is answered.
   * @throws CONAT_ROUTE_CHANGED (retryable) when the project moved meanwhile and the request was
   * not said to be `idempotent`; SERVICE_UNAVAILABLE, SERVICE_TIMEOUT, SERVICE_FORBIDDEN
   */
  async request(
    subject: string,
    payload?: Payload,
    options: RoutedRequestOptions = {},
  ): Promise<Msg> {
    const { timeoutMs = requestTimeoutMs, idempotent = false, signal, headers } = options;
    const within = { timeoutMs, idempotent, ...(signal && { signal }) };
    return routedRequest(this, subject, within, this.clock, (client, leftMs) =>
      client.nats.request(subject, payload, { timeout: leftMs, ...(headers && { headers }) }),
    );
  }

  /** Says something, without an answer; waits for a connection, not for anybody to hear it. */
  async publish(subject: string, payload?: Payload, headers?: MsgHdrs): Promise<void> {
    const within = { timeoutMs: requestTimeoutMs, idempotent: false };
    await routedRequest(this, subject, within, this.clock, async (client) =>
      client.nats.publish(subject, payload, headers && { headers }),
    );
  }

  /**
   * The project's JetStream. Subjects to publish to are the network's (`project.<id>.x`); in
   * configurations and in messages they are the project's own (`x`). Its connection stays until
   * {@link release}.
   */
  async jetStream(projectId: string): Promise<JetStreamClient> {
    const line = this.line(projectId);
    line.pins += 1;
    try {
      const client = await line.open();
      return jetstream(client.nats, { apiPrefix: `project.${projectId}.js.api` });
    } catch (error) {
      line.pins -= 1;
      throw error;
    }
  }

  /** A bucket of the project's, made when it is not there. Stays until {@link release}. */
  async kv(projectId: string, bucket: string, options: Parameters<Kvm['create']>[1] = {}) {
    const made: KV = await new Kvm(await this.jetStream(projectId)).create(bucket, options);
    return made;
  }

  /** Gives back what `jetStream` and `kv` took of a project; its connection may end then. */
  release(projectId: string): void {
    const line = this.lines.get(projectId);
    if (line) line.pins = 0;
  }

  /** Ends all connections but the control network's. */
  async close(): Promise<void> {
    this.closed = true;
    clearInterval(this.timer);
    await Promise.all([...this.lines.values()].map((line) => line.close()));
  }

  private line(projectId: string): ProjectConnection {
    const known = this.lines.get(projectId);
    if (known) return known;
    if (this.closed) throw FleetErrors.CONAT_ROUTE_MISSING({ subject: `project.${projectId}` });
    this.makeRoom();
    const { control, credentials } = this.options;
    const line = new ProjectConnection(projectId, {
      routes: this.routes,
      identity: control.identity,
      unreachable: this.unreachable,
      limits: this.limits,
      clock: this.clock,
      logger: this.logger,
      proof: async () => {
        const shown = typeof credentials === 'function' ? await credentials() : credentials;
        return shown && 'token' in shown ? shown.token : undefined;
      },
      onEnd: (ended) => {
        if (this.lines.get(projectId) === ended) this.lines.delete(projectId);
      },
    });
    this.lines.set(projectId, line);
    return line;
  }

  /** @throws CONAT_ROUTES_BUSY */
  private makeRoom(): void {
    const { projectsMax: limit } = this.limits;
    if (this.lines.size < limit) return;
    const idle = [...this.lines.values()].filter((line) => line.isIdle(0));
    const [oldest] = idle.sort((a, b) => a.usedAt - b.usedAt);
    if (!oldest) throw FleetErrors.CONAT_ROUTES_BUSY({ limit });
    void oldest.close();
  }

  private closeIdle(): void {
    for (const line of this.lines.values()) {
      if (line.isIdle(this.limits.idleMs)) void line.close();
    }
  }
}
