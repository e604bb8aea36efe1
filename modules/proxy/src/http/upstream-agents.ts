import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import type { Socket } from 'node:net';
import type { ProxyLimits } from '../limits.js';

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

/**
 * The keep-alive agents of one proxy. Idle connections are given up by one timer that looks at all
 * of them: an agent's own `timeout` starts and stops a timer of the socket with each request.
 */
export class UpstreamAgents {
  private readonly pairs: Readonly<Record<Reuse, AgentPair>>;
  private timer: NodeJS.Timeout | undefined;
  private readonly everyMs: number;

  constructor({ idleUpstreamMs, unsafeIdleMs, idleUpstreamsMax }: ProxyLimits) {
    const recentMs = Math.min(unsafeIdleMs, idleUpstreamMs);
    this.pairs = {
      kept: agentPair(idleUpstreamMs, idleUpstreamsMax),
      recent: agentPair(recentMs, idleUpstreamsMax),
      fresh: agentPair(0, idleUpstreamsMax),
    };
    const shortestMs = recentMs > 0 ? recentMs : idleUpstreamMs;
    this.everyMs = Math.min(sweepMsMax, shortestMs / 4);
    for (const { http, https, idleMs } of Object.values(this.pairs)) {
      if (idleMs === 0) continue;
      for (const agent of [http, https]) {
        agent.on('free', (socket: Socket) => this.freed(socket, idleMs));
      }
    }
  }

  for(protocol: string, reuse: Reuse): HttpAgent {
    const { http, https } = this.pairs[reuse];
    return protocol === 'https:' ? https : http;
  }

  /** Notes what an upstream says about how long it keeps an idle connection (`Keep-Alive`). */
  hint(socket: Socket | undefined, keepAlive: string | string[] | undefined): void {
    if (socket && typeof keepAlive === 'string') (socket as Kept)[hinted] = keepAlive;
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    for (const agent of this.all()) agent.destroy();
  }

  private all(): HttpAgent[] {
    return Object.values(this.pairs).flatMap(({ http, https }) => [http, https]);
  }

  private freed(socket: Kept, idleMs: number): void {
    const [, seconds] = /^timeout=(\d+)/.exec(socket[hinted] ?? '') ?? [];
    const hintMs = seconds === undefined ? Infinity : Number(seconds) * 1000 - hintMarginMs;
    socket[idleUntil] = Date.now() + Math.min(idleMs, hintMs);
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
  }
}

interface AgentPair {
  readonly http: HttpAgent;
  readonly https: HttpsAgent;
  readonly idleMs: number;
}

/** @param idleMs how long an idle connection is kept; 0: each serves one request. */
function agentPair(idleMs: number, maxFreeSockets: number): AgentPair {
  const options = { keepAlive: true, maxFreeSockets, scheduling: 'lifo' as const };
  const pair = { http: new HttpAgent(options), https: new HttpsAgent(options), idleMs };
  if (idleMs > 0) return pair;
  // An agent without keepAlive would say `Connection: close`, and services act on that.
  for (const agent of [pair.http, pair.https]) {
    agent.keepSocketAlive = () => false;
  }
  return pair;
}
