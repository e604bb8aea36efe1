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
 * The keep-alive agents of one proxy. Idle connections are given up by one timer that looks at all
 * of them: an agent's own `timeout` starts and stops a timer of the socket with each request.
 */
export class UpstreamAgents {
  private readonly http: HttpAgent;
  private readonly https: HttpsAgent;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly limits: ProxyLimits) {
    const options = {
      keepAlive: true,
      maxFreeSockets: limits.idleUpstreamsMax,
      scheduling: 'lifo' as const,
    };
    this.http = new HttpAgent(options);
    this.https = new HttpsAgent(options);
    for (const agent of [this.http, this.https]) {
      agent.on('free', (socket: Socket) => this.freed(socket));
    }
  }

  for(protocol: string): HttpAgent {
    return protocol === 'https:' ? this.https : this.http;
  }

  /** Notes what an upstream says about how long it keeps an idle connection (`Keep-Alive`). */
  hint(socket: Socket | undefined, keepAlive: string | string[] | undefined): void {
    if (socket && typeof keepAlive === 'string') (socket as Kept)[hinted] = keepAlive;
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.http.destroy();
    this.https.destroy();
  }

  private freed(socket: Kept): void {
    const [, seconds] = /^timeout=(\d+)/.exec(socket[hinted] ?? '') ?? [];
    const { idleUpstreamMs } = this.limits;
    const hintMs = seconds === undefined ? Infinity : Number(seconds) * 1000 - hintMarginMs;
    socket[idleUntil] = Date.now() + Math.min(idleUpstreamMs, hintMs);
    const everyMs = Math.min(sweepMsMax, idleUpstreamMs / 4);
    this.timer ??= setInterval(() => this.sweep(), everyMs).unref();
  }

  private sweep(): void {
    const now = Date.now();
    for (const { freeSockets } of [this.http, this.https]) {
      for (const name in freeSockets) {
        for (const socket of [...(freeSockets[name] ?? [])] as Kept[]) {
          if ((socket[idleUntil] ?? 0) <= now) socket.destroy();
        }
      }
    }
  }
}
