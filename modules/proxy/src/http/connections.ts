import { ProxyErrors } from '../proxy.errors.js';
import type { ProxyLimits } from '../limits.js';

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

export interface OpenConnection extends ConnectionOwner {
  readonly kind: 'request' | 'socket';
  /** Cuts it off. */
  readonly destroy: () => void;
}

/** What is under way through one proxy: counted, limited, and cut off when access ends. */
export class Connections {
  private readonly open = new Set<OpenConnection>();
  private readonly perProject = {
    request: new Map<string, number>(),
    socket: new Map<string, number>(),
  };
  private readonly total = { request: 0, socket: 0 };
  private idle: (() => void)[] = [];
  private draining = false;

  constructor(private readonly limits: ProxyLimits) {}

  /**
   * Counts a connection in; the returned function counts it out.
   * @throws PROXY_BUSY, PROXY_DRAINING
   */
  enter(connection: OpenConnection): () => void {
    if (this.draining) throw ProxyErrors.PROXY_DRAINING();
    const { kind, projectId } = connection;
    const { requestsPerProjectMax, requestsMax, socketsPerProjectMax, socketsMax } = this.limits;
    const [projectMax, max, what] =
      kind === 'request'
        ? [requestsPerProjectMax, requestsMax, 'requests']
        : [socketsPerProjectMax, socketsMax, 'WebSockets'];
    const count = this.perProject[kind].get(projectId) ?? 0;
    if (count >= projectMax) {
      throw ProxyErrors.PROXY_BUSY({ limit: projectMax, what: `${what} to this project` });
    }
    if (this.total[kind] >= max) throw ProxyErrors.PROXY_BUSY({ limit: max, what });
    this.perProject[kind].set(projectId, count + 1);
    this.total[kind] += 1;
    this.open.add(connection);
    return () => this.leave(connection);
  }

  /** Cuts off all that match; how many they were. */
  close(filter: ConnectionFilter): number {
    const matching = [...this.open].filter(
      (connection) =>
        (filter.projectId === undefined || filter.projectId === connection.projectId) &&
        (filter.subject === undefined || filter.subject === connection.subject) &&
        (filter.sessionId === undefined || filter.sessionId === connection.sessionId),
    );
    for (const connection of matching) connection.destroy();
    return matching.length;
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

  private leave(connection: OpenConnection): void {
    if (!this.open.delete(connection)) return;
    const { kind, projectId } = connection;
    const left = (this.perProject[kind].get(projectId) ?? 1) - 1;
    if (left > 0) this.perProject[kind].set(projectId, left);
    else this.perProject[kind].delete(projectId);
    this.total[kind] -= 1;
    if (this.total.request === 0) for (const resolve of this.idle.splice(0)) resolve();
  }
}
