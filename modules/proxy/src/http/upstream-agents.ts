import { Agent as HttpAgent, type AgentOptions } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Socket } from 'node:net';
import type { ProxyLimits } from '../limits.js';
import type { Forward } from './attempt.js';
import { LinkAgent } from './link-agent.js';

const sweepMsMax = 1_000;
/** A connection is given up this much before the upstream has said that it will. */
const hintMarginMs = 1_000;

const idleUntil = Symbol('idle until');
const hinted = Symbol('hinted');
interface Kept extends Socket {
  [idleUntil]?: number;
  [hinted]?: string | undefined;
}

/**
 * How a request may use connections. An upstream may close an idle connection just as we use it, and
 * nobody can tell then whether it took the request. `kept`: any idle one, since the request may be
 * sent again. `recent`: one that was idle for a short time only, since the request may be sent once
 * only. `fresh`: none, the last one was dead.
 */
export type Reuse = 'kept' | 'recent' | 'fresh';
type PerReuse<T> = Readonly<Record<Reuse, T>>;

/** The agents of one link: what is kept open to one project is never handed to another. */
interface LinkAgents {
  readonly agents: PerReuse<LinkAgent>;
  /** Was unused when it was looked at last. */
  stale: boolean;
}

/**
 * The keep-alive agents of one proxy. Idle connections are given up by one timer that looks at all
 * of them: an agent's own `timeout` starts and stops a timer of the socket with each request.
 */
export class UpstreamAgents {
  private readonly idleMs: PerReuse<number>;
  private readonly options: AgentOptions;
  private readonly http: PerReuse<HttpAgent>;
  private readonly https: PerReuse<HttpsAgent>;
  private readonly byLink = new Map<number, LinkAgents>();
  private timer: NodeJS.Timeout | undefined;
  private readonly everyMs: number;

  constructor({ idleUpstreamMs, unsafeIdleMs, idleUpstreamsMax }: ProxyLimits) {
    const recentMs = Math.min(unsafeIdleMs, idleUpstreamMs);
    this.idleMs = { kept: idleUpstreamMs, recent: recentMs, fresh: 0 };
    const shortestMs = recentMs > 0 ? recentMs : idleUpstreamMs;
    this.everyMs = Math.min(sweepMsMax, shortestMs / 4);
    this.options = { keepAlive: true, maxFreeSockets: idleUpstreamsMax, scheduling: 'lifo' };
    this.http = this.perReuse(() => new HttpAgent(this.options));
    this.https = this.perReuse(() => new HttpsAgent(this.options));
  }

  for({ target, linkIndex }: Forward, reuse: Reuse): HttpAgent {
    if (linkIndex !== undefined) return this.ofLink(linkIndex)[reuse];
    return target.protocol === 'https:' ? this.https[reuse] : this.http[reuse];
  }

  /** For one WebSocket, which no other request shares; false: Node's own way to connect. */
  forUpgrade({ linkIndex }: Forward): HttpAgent | false {
    return linkIndex === undefined ? false : new LinkAgent(linkIndex, { keepAlive: false });
  }

  /** Notes what an upstream says about how long it keeps an idle connection (`Keep-Alive`). */
  hint(socket: Socket | undefined, keepAlive: string | string[] | undefined): void {
    if (socket && typeof keepAlive === 'string') (socket as Kept)[hinted] = keepAlive;
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    for (const agent of this.all()) agent.destroy();
    this.byLink.clear();
  }

  private ofLink(linkIndex: number): PerReuse<LinkAgent> {
    let found = this.byLink.get(linkIndex);
    if (!found) {
      const agents = this.perReuse(() => new LinkAgent(linkIndex, this.options));
      found = { agents, stale: false };
      this.byLink.set(linkIndex, found);
      this.startTimer();
    }
    found.stale = false;
    return found.agents;
  }

  private perReuse<T extends HttpAgent>(make: () => T): PerReuse<T> {
    const agent = (reuse: Reuse): T => this.watched(make(), this.idleMs[reuse]);
    return { kept: agent('kept'), recent: agent('recent'), fresh: agent('fresh') };
  }

  /** @param idleMs how long an idle connection is kept; 0: each serves one request. */
  private watched<T extends HttpAgent>(agent: T, idleMs: number): T {
    if (idleMs > 0) return agent.on('free', (socket: Socket) => this.freed(socket, idleMs));
    // An agent without keepAlive would say `Connection: close`, and services act on that.
    agent.keepSocketAlive = () => false;
    return agent;
  }

  private all(): HttpAgent[] {
    const linked = [...this.byLink.values()].flatMap(({ agents }) => Object.values(agents));
    return [...Object.values(this.http), ...Object.values(this.https), ...linked];
  }

  private freed(socket: Kept, idleMs: number): void {
    const [, seconds] = /^timeout=(\d+)/.exec(socket[hinted] ?? '') ?? [];
    const hintMs = seconds === undefined ? Infinity : Number(seconds) * 1000 - hintMarginMs;
    socket[idleUntil] = Date.now() + Math.min(idleMs, hintMs);
    this.startTimer();
  }

  private startTimer(): void {
    this.timer ??= setInterval(() => this.sweep(), this.everyMs).unref();
  }

  private sweep(): void {
    const now = Date.now();
    for (const { freeSockets } of this.all()) {
      for (const name in freeSockets) {
        for (const socket of [...(freeSockets[name] ?? [])] as Kept[]) {
          if ((socket[idleUntil] ?? 0) <= now) socket.destroy();
        }
      }
    }
    for (const [linkIndex, found] of this.byLink) {
      const unused = Object.values(found.agents).every((agent) => agent.isUnused());
      // At the second look: whoever was handed one just before the first has used it by then.
      if (found.stale && unused) this.byLink.delete(linkIndex);
      found.stale = unused;
    }
  }
}
