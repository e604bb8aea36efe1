import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { ProjectPath } from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';
import type { ProxyLimits } from '../limits.js';
import { IndexedSet, type Listed } from './indexed-set.js';
import { Shares, type Claim, type Standing } from './shares.js';

/** Whose connections are meant; all given properties must match. */
export interface ConnectionFilter {
  readonly projectId?: string;
  /** Subject as in tokens: `account:<id>`, `anonymous`. */
  readonly subject?: string;
  readonly sessionId?: string;
}

interface ConnectionOwner {
  readonly projectId: string;
  subject: string;
  sessionId: string | undefined;
}

export interface OpenConnection extends ConnectionOwner, Listed {
  readonly kind: 'request' | 'socket';
  /** Cuts it off. */
  readonly destroy: () => void;
  /** What came, as it came: the engine puts other headers and another address in its place. */
  readonly req: IncomingMessage;
  readonly headers: IncomingHttpHeaders;
  readonly path: ProjectPath;
  /** What it takes of the shares; nothing before it is admitted. */
  claims: readonly Claim[];
}

/** Connections asked at once whether they may stay. */
const askedAtOnceMax = 32;

/** What is under way through one proxy: counted, limited, and cut off when access ends. */
export class Connections {
  private readonly open = new IndexedSet<OpenConnection>();
  private readonly shares: { readonly request: Shares; readonly socket: Shares };
  private readonly total = { request: 0, socket: 0 };
  private idle: (() => void)[] = [];
  private draining = false;

  constructor(private readonly limits: ProxyLimits) {
    this.shares = {
      request: new Shares({
        projectMax: limits.requestsPerProjectMax,
        processMax: limits.requestsMax,
        what: 'requests',
      }),
      socket: new Shares({
        projectMax: limits.socketsPerProjectMax,
        processMax: limits.socketsMax,
        what: 'WebSockets',
      }),
    };
  }

  /**
   * Counts a connection in, of whomever; `leave` counts it out.
   * @throws PROXY_BUSY, PROXY_DRAINING
   */
  enter(connection: OpenConnection): void {
    if (this.draining) throw ProxyErrors.PROXY_DRAINING();
    const { kind } = connection;
    const { requestsMax, socketsMax } = this.limits;
    const max = kind === 'request' ? requestsMax : socketsMax;
    const what = kind === 'request' ? 'requests' : 'WebSockets';
    if (this.total[kind] >= max) throw ProxyErrors.PROXY_BUSY({ limit: max, what });
    this.total[kind] += 1;
    this.open.add(connection);
  }

  /**
   * Counts it as somebody's, in place of what it counted as before.
   * @throws PROXY_BUSY when those have their share already
   */
  admit(connection: OpenConnection, standing: Standing): void {
    const shares = this.shares[connection.kind];
    shares.release(connection.claims);
    connection.claims = [];
    const { projectId, path } = connection;
    connection.claims = shares.take({ projectId, port: path.port }, standing);
  }

  /** Counts a connection out, once. */
  leave(connection: OpenConnection): void {
    if (!this.open.delete(connection)) return;
    const { kind } = connection;
    this.shares[kind].release(connection.claims);
    this.total[kind] -= 1;
    if (this.total.request === 0) for (const resolve of this.idle.splice(0)) resolve();
  }

  /** Cuts off all that match; how many they were. */
  close(filter: ConnectionFilter): number {
    const matching = this.matching(filter);
    for (const connection of matching) connection.destroy();
    return matching.length;
  }

  /**
   * Cuts off what matches and may not stay; how many they were. What cannot be told now stays until
   * it is asked again.
   * @param mayStay asked with each connection; rejects when it cannot be told
   */
  async recheck(
    filter: ConnectionFilter,
    mayStay: (connection: OpenConnection) => Promise<boolean>,
  ): Promise<number> {
    const asked = this.matching(filter);
    let cut = 0;
    const ask = async (connection: OpenConnection): Promise<void> => {
      const stays = await mayStay(connection).catch(() => true);
      if (stays || !this.open.has(connection)) return;
      cut += 1;
      connection.destroy();
    };
    for (let at = 0; at < asked.length; at += askedAtOnceMax) {
      await Promise.all(asked.slice(at, at + askedAtOnceMax).map(ask));
    }
    return cut;
  }

  /** Takes no more, lets requests end, and cuts off the rest (WebSockets too) at the deadline. */
  async drain(deadlineMs: number): Promise<void> {
    this.draining = true;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      this.whenNoRequests(),
      new Promise<void>((resolve) => (timer = setTimeout(resolve, deadlineMs))),
    ]);
    clearTimeout(timer);
    this.close({});
  }

  counts(): { readonly requests: number; readonly sockets: number } {
    return { requests: this.total.request, sockets: this.total.socket };
  }

  private whenNoRequests(): Promise<void> {
    if (this.total.request === 0) return Promise.resolve();
    return new Promise((resolve) => this.idle.push(resolve));
  }

  private matching(filter: ConnectionFilter): OpenConnection[] {
    return this.open
      .all()
      .filter(
        (connection) =>
          (filter.projectId === undefined || filter.projectId === connection.projectId) &&
          (filter.subject === undefined || filter.subject === connection.subject) &&
          (filter.sessionId === undefined || filter.sessionId === connection.sessionId),
      );
  }
}
