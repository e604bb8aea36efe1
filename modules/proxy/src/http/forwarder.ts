import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Stream, type Duplex } from 'node:stream';
import { createProxyServer, type ProxyServerOptions } from 'httpxy';
import type { ProxyLimits } from '../limits.js';
import { ProxyErrors } from '../proxy.errors.js';
import { announcedTrailers, carryHints, carryRequestTrailers, reasonOf } from './asides.js';
import { Attempt, attemptOf, type Forward, type Intercepted } from './attempt.js';
import { linger, refuseUpgrade } from './error-response.js';
import { hasBody, isSafe } from './headers.js';
import { carryBody } from './response-body.js';
import { StallWatch } from './stall-watch.js';
import { UpstreamAgents, type Reuse } from './upstream-agents.js';

/** Stands in for a body that is not there: to pipe an empty stream costs more than our checks. */
class NoBody extends Stream {
  override pipe<T extends NodeJS.WritableStream>(destination: T): T {
    destination.end();
    return destination;
  }
}
const noBody = new NoBody();

/**
 * The engine of both hops: httpxy with keep-alive agents, with the headers decided by us.
 * The caller's `req.headers` are replaced; keep what you need before.
 */
export class Forwarder {
  private readonly proxy = createProxyServer();
  private readonly agents: UpstreamAgents;
  private readonly stalls: StallWatch;

  constructor(private readonly limits: ProxyLimits) {
    this.agents = new UpstreamAgents(limits);
    this.stalls = new StallWatch(limits);
    this.proxy.on('proxyReq', (proxyReq, req, res) => this.onRequest(proxyReq, req, res));
    this.proxy.on('proxyRes', (response, req, res) => this.onResponse(response, req, res));
    this.proxy.on('proxyReqWs', (proxyReq, req, socket) => this.onUpgrade(proxyReq, req, socket));
  }

  /**
   * Carries a request and its response; resolves when the response is done or intercepted.
   * @throws PROXY_PORT_REFUSED, PROXY_UPSTREAM_FAILED, PROXY_UPSTREAM_TIMEOUT, PROXY_BODY_TIMEOUT
   */
  async request(
    req: IncomingMessage,
    res: ServerResponse,
    forward: Forward,
  ): Promise<Intercepted | undefined> {
    const bodyless = !hasBody(req);
    const repeatable = bodyless && isSafe(req);
    const reuse = repeatable ? 'kept' : 'recent';
    const first = await this.attempt(req, res, forward, { bodyless, reuse });
    if (first.failure === undefined) return first.intercepted;
    // An upstream may close an idle connection just as we use it. Whether it took the request before
    // that cannot be known, so only a safe one is sent again (RFC 9110, 9.2.2), and over a new
    // connection: where one idle connection was dead, the next one is too.
    const stale = first.proxyReq?.reusedSocket === true && !first.responded && !first.judged;
    if (!repeatable || !stale || res.headersSent || res.destroyed) throw first.failure;
    const second = await this.attempt(req, res, forward, { bodyless, reuse: 'fresh' });
    if (second.failure) throw second.failure;
    return second.intercepted;
  }

  /**
   * Carries a WebSocket; resolves when it is over, or its response was intercepted. An upgrade that
   * fails is answered here with the coded error, because httpxy ends the socket in the same breath.
   */
  async upgrade(
    req: IncomingMessage,
    socket: Socket,
    head: Buffer,
    forward: Forward,
  ): Promise<Intercepted | undefined> {
    const before = new Set([...socket.listeners('error'), ...socket.listeners('close')]);
    const intercepted = await new Promise<Intercepted | undefined>((resolve) => {
      const attempt = new Attempt(req, undefined, forward, (over) => resolve(over.intercepted));
      const options = { target: forward.target, agent: this.agents.forUpgrade(forward) };
      // What rejects here has been answered by onUpgrade's listeners.
      const over = this.proxy.ws(req, socket, options, head).catch(() => undefined);
      void over.then(() => attempt.end());
    });
    if (intercepted === undefined) return undefined;
    for (const event of ['error', 'close']) {
      for (const listener of socket.listeners(event) as (() => void)[]) {
        if (!before.has(listener)) socket.off(event, listener);
      }
    }
    return intercepted;
  }

  /** Closes idle upstream connections. */
  close(): void {
    this.stalls.close();
    this.agents.close();
  }

  /** Resolves when the attempt is over, well or badly. */
  private attempt(
    req: IncomingMessage,
    res: ServerResponse,
    forward: Forward,
    { bodyless, reuse }: { readonly bodyless: boolean; readonly reuse: Reuse },
  ): Promise<Attempt> {
    return new Promise((resolve) => {
      const attempt = new Attempt(req, res, forward, (over) => {
        this.stalls.delete(over);
        resolve(over);
      });
      const options: ProxyServerOptions = {
        target: forward.target,
        agent: this.agents.for(forward, reuse),
        selfHandleResponse: true,
      };
      if (bodyless) options.buffer = noBody;
      this.proxy.web(req, res, options).then(
        () => attempt.end(),
        (error: unknown) => attempt.endWith(error),
      );
    });
  }

  /** Runs when the upstream socket is assigned. */
  private onRequest(proxyReq: ClientRequest, req: IncomingMessage, res: ServerResponse): void {
    const attempt = attemptOf(req);
    if (!attempt) return;
    const socket = proxyReq.socket as Socket;
    attempt.proxyReq = proxyReq;
    attempt.upstream = socket;
    if (socket.connecting) {
      const { port } = attempt;
      const timer = setTimeout(
        () => attempt.fail(ProxyErrors.PROXY_PORT_REFUSED({ port, reason: 'timeout' })),
        this.limits.connectMs,
      );
      socket.once('connect', () => clearTimeout(timer));
      proxyReq.once('close', () => clearTimeout(timer));
    }
    proxyReq.once('upgrade', (_response, upstream: Duplex) => refuseSwitch(attempt, upstream));
    carryHints(proxyReq, req, res);
    if (req.headers['transfer-encoding'] !== undefined) carryRequestTrailers(req, proxyReq);
    this.stalls.add(attempt);
  }

  private onResponse(response: IncomingMessage, req: IncomingMessage, res: ServerResponse): void {
    const attempt = attemptOf(req);
    if (!attempt) {
      response.destroy();
      return;
    }
    attempt.responded = true;
    if (response.statusCode === 101) {
      refuseSwitch(attempt, response.socket);
      return;
    }
    this.agents.hint(attempt.upstream, response.headers['keep-alive']);
    if (attempt.forward.intercept?.(response) === true && !res.headersSent) {
      attempt.intercepted = { status: response.statusCode ?? 502, headers: response.headers };
      // Read to its end, else httpxy takes it for a broken response and cuts the client off.
      response.once('end', () => attempt.end());
      response.resume();
      return;
    }
    try {
      const headers = attempt.forward.responseHeaders(response);
      Object.assign(headers, announcedTrailers(response, req));
      res.writeHead(response.statusCode ?? 502, reasonOf(response), headers);
      const length = headers['content-length'];
      carryBody(response, res, length === undefined ? undefined : Number(length));
    } catch (error) {
      // A status such as 000 passes Node's parser, and its writer refuses it.
      const { port } = attempt.forward;
      const reason = 'a response that is not HTTP';
      attempt.endWith(ProxyErrors.PROXY_UPSTREAM_FAILED({ port, reason }, { cause: error }));
      setImmediate(() => attempt.proxyReq?.destroy());
    }
  }

  private onUpgrade(proxyReq: ClientRequest, req: IncomingMessage, socket: Socket): void {
    const attempt = attemptOf(req);
    if (!attempt) {
      socket.destroy();
      return;
    }
    attempt.proxyReq = proxyReq;
    const timer = setTimeout(() => {
      const { port } = attempt.forward;
      const timeoutMs = this.limits.upgradeMs;
      proxyReq.destroy(ProxyErrors.PROXY_UPSTREAM_TIMEOUT({ port, timeoutMs }));
    }, this.limits.upgradeMs);
    const abandon = (): void => void proxyReq.destroy();
    socket.once('close', abandon);
    const settle = (): void => {
      clearTimeout(timer);
      socket.off('close', abandon);
      attempt.responded = true;
    };
    // These listeners run before httpxy's own, which write headers out as they find them.
    proxyReq.once('error', (error) => {
      const answered = attempt.responded;
      settle();
      if (!answered) refuseUpgrade(req, socket, attempt.failureOf(error));
    });
    proxyReq.once('upgrade', (response: IncomingMessage, upstream: Duplex) => {
      settle();
      response.headers = {
        ...attempt.forward.responseHeaders(response),
        connection: 'Upgrade',
        upgrade: 'websocket',
      };
      tie(socket, upstream);
    });
    const theirs: ResponseListener[] = [];
    const onResponse: ResponseListener = (response) => {
      settle();
      if (attempt.forward.intercept?.(response) === true) {
        const { statusCode: status = 502, headers } = response;
        attempt.intercepted = { status, headers };
        response.resume();
        attempt.end();
        return;
      }
      const encoding = response.headers['transfer-encoding'];
      response.headers = {
        ...attempt.forward.responseHeaders(response),
        ...(encoding !== undefined && { 'transfer-encoding': 'chunked' }),
      };
      response.statusMessage = reasonOf(response);
      // Nobody else reads an upgrade's socket: unread, its end would never be noticed.
      socket.once('finish', () => linger(socket));
      for (const listener of theirs) listener(response);
    };
    proxyReq.once('response', onResponse);
    // httpxy's own, which comes after this event, would write any response to the client.
    queueMicrotask(() => {
      for (const listener of proxyReq.listeners('response') as ResponseListener[]) {
        if (listener === onResponse) continue;
        proxyReq.off('response', listener);
        theirs.push(listener);
      }
    });
  }
}

type ResponseListener = (response: IncomingMessage) => void;

/** How long the other half may flush after one half of a WebSocket is gone. */
const flushMs = 5_000;

/** A 101 that nobody asked for: from there on it is no HTTP, and nobody waits for an end of it. */
function refuseSwitch(attempt: Attempt, upstream: Duplex): void {
  const { port } = attempt;
  attempt.judged = true;
  attempt.endWith(ProxyErrors.PROXY_UPSTREAM_FAILED({ port, reason: 'a 101 without an upgrade' }));
  upstream.destroy();
}

/** Neither half of a tunnel outlives the other. */
function tie(a: Duplex, b: Duplex): void {
  const follow = (gone: Duplex, other: Duplex): void => {
    gone.once('close', () => {
      if (other.destroyed) return;
      other.end();
      const timer = setTimeout(() => other.destroy(), flushMs);
      other.once('close', () => clearTimeout(timer));
    });
  };
  follow(a, b);
  follow(b, a);
}
