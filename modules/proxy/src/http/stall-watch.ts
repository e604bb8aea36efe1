import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { CodedError } from '@rookery/core';
import type { ProxyLimits } from '../limits.js';
import { ProxyErrors } from '../proxy.errors.js';
import { hasBody } from './headers.js';

/** One request under way to an upstream. */
export interface WatchedRequest {
  readonly req: IncomingMessage;
  readonly proxyReq: ClientRequest;
  readonly upstream: Socket;
  readonly port: number;
  readonly responded: () => boolean;
  /** Undefined: cut off without an answer, as one has begun. */
  readonly fail: (error: CodedError | undefined) => void;
}

interface Quiet {
  bytes: number;
  since: number;
}

const sweepMsMax = 1_000;

/**
 * Finds requests that make no progress. One timer looks at all of them: a timer or two for each
 * request costs more than everything else that we do for it.
 */
export class StallWatch {
  private readonly watched = new Map<WatchedRequest, Quiet>();
  private timer: NodeJS.Timeout | undefined;
  private readonly everyMs: number;

  constructor(private readonly limits: ProxyLimits) {
    const { responseMs, responseIdleMs, bodyIdleMs } = limits;
    this.everyMs = Math.min(sweepMsMax, Math.min(responseMs, responseIdleMs, bodyIdleMs) / 4);
  }

  add(request: WatchedRequest): void {
    this.watched.set(request, { bytes: -1, since: Date.now() });
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
    for (const [request, quiet] of this.watched) {
      const { upstream } = request;
      const bytes = upstream.bytesRead + upstream.bytesWritten;
      if (bytes !== quiet.bytes) {
        quiet.bytes = bytes;
        quiet.since = now;
      } else {
        this.judge(request, now - quiet.since);
      }
    }
  }

  private judge(request: WatchedRequest, quietMs: number): void {
    const { req, proxyReq, port } = request;
    const { responseMs, responseIdleMs, bodyIdleMs } = this.limits;
    if (request.responded()) {
      if (quietMs >= responseIdleMs) request.fail(undefined);
      return;
    }
    // A service that does not read its request is not the client's fault.
    const clientsTurn = !req.complete && hasBody(req) && !proxyReq.writableNeedDrain;
    if (clientsTurn && quietMs >= bodyIdleMs) {
      request.fail(ProxyErrors.PROXY_BODY_TIMEOUT({ timeoutMs: bodyIdleMs }));
    } else if (!clientsTurn && quietMs >= responseMs) {
      request.fail(ProxyErrors.PROXY_UPSTREAM_TIMEOUT({ port, timeoutMs: responseMs }));
    }
  }
}
