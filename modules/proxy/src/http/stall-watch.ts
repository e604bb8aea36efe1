import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { CodedError } from '@rookery/core';
import type { ProxyLimits } from '../limits.js';
import { ProxyErrors } from '../proxy.errors.js';
import { hasBody } from './headers.js';
import { IndexedSet, type Listed } from './indexed-set.js';

/** One request under way to an upstream. */
export interface WatchedRequest extends Listed {
  readonly req: IncomingMessage;
  readonly proxyReq: ClientRequest | undefined;
  readonly upstream: Socket | undefined;
  readonly port: number;
  readonly responded: boolean;
  /** Bytes that had gone to and fro at the last look, -1 before the first, and since when so. */
  quietBytes: number;
  quietSince: number;
  /** Undefined: cut off without an answer, as one has begun. */
  fail(error: CodedError | undefined): void;
}

const sweepMsMax = 1_000;

/**
 * Finds requests that make no progress. One timer looks at all of them: a timer or two for each
 * request costs more than everything else that we do for it.
 */
export class StallWatch {
  private readonly watched = new IndexedSet<WatchedRequest>();
  private timer: NodeJS.Timeout | undefined;
  private readonly everyMs: number;

  constructor(private readonly limits: ProxyLimits) {
    const { responseMs, responseIdleMs, bodyIdleMs } = limits;
    this.everyMs = Math.min(sweepMsMax, Math.min(responseMs, responseIdleMs, bodyIdleMs) / 4);
  }

  add(request: WatchedRequest): void {
    this.watched.add(request);
    this.timer ??= setInterval(() => this.sweep(), this.everyMs).unref();
  }

  delete(request: WatchedRequest): void {
    this.watched.delete(request);
  }

  close(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.watched.clear();
  }

  private sweep(): void {
    const now = Date.now();
    for (const request of this.watched.all()) {
      const { upstream } = request;
      const bytes = upstream ? upstream.bytesRead + upstream.bytesWritten : 0;
      if (bytes !== request.quietBytes) {
        request.quietBytes = bytes;
        request.quietSince = now;
      } else {
        this.judge(request, now - request.quietSince);
      }
    }
  }

  private judge(request: WatchedRequest, quietMs: number): void {
    const { req, proxyReq, port } = request;
    const { responseMs, responseIdleMs, bodyIdleMs } = this.limits;
    if (request.responded) {
      if (quietMs >= responseIdleMs) request.fail(undefined);
      return;
    }
    // A service that does not read its request is not the client's fault.
    const clientsTurn = !req.complete && hasBody(req) && proxyReq?.writableNeedDrain !== true;
    if (clientsTurn && quietMs >= bodyIdleMs) {
      request.fail(ProxyErrors.PROXY_BODY_TIMEOUT({ timeoutMs: bodyIdleMs }));
    } else if (!clientsTurn && quietMs >= responseMs) {
      request.fail(ProxyErrors.PROXY_UPSTREAM_TIMEOUT({ port, timeoutMs: responseMs }));
    }
  }
}
