import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { CodedError } from '@rookery/core';
import { ProxyErrors } from '../proxy.errors.js';
import type { HeaderBag } from './headers.js';
import type { WatchedRequest } from './stall-watch.js';
import type { Target } from './targets.js';

/** One attempt to carry a request to one upstream. */
export interface Forward {
  readonly target: Target;
  /** The only link of this machine by which the target may be reached. */
  readonly linkIndex?: number;
  /** Path and query. */
  readonly url: string;
  readonly headers: HeaderBag;
  /** The port asked for, for messages. */
  readonly port: number;
  /** How the response's headers go back. */
  readonly responseHeaders: (response: IncomingMessage) => HeaderBag;
  /** True when this response shall not reach the client (it is swallowed). */
  readonly intercept?: (response: IncomingMessage) => boolean;
}

/** What became of an attempt whose response was intercepted. */
export interface Intercepted {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
}

const attemptKey = Symbol('attempt');

/** A property instead of a WeakMap: one weak entry a request is felt in garbage collection. */
interface Carried extends IncomingMessage {
  [attemptKey]?: Attempt;
}

/** The attempt that carries this request now. */
export const attemptOf = (req: IncomingMessage): Attempt | undefined =>
  (req as Carried)[attemptKey];

/**
 * The state of one attempt. It takes the place of the one before on its request, and takes the
 * listeners of that one off: a request may be sent again many times while its project moves.
 */
export class Attempt implements WatchedRequest {
  proxyReq: ClientRequest | undefined = undefined;
  upstream: Socket | undefined = undefined;
  intercepted: Intercepted | undefined = undefined;
  responded = false;
  failure: CodedError | undefined = undefined;
  /** True when a limit of ours ended it, not the upstream. */
  judged = false;
  place = -1;
  quietBytes = -1;
  quietSince = 0;
  private over = false;
  private readonly closeListeners: number;
  private readonly errorListeners: number;
  private readonly requestErrorListeners: number;

  constructor(
    readonly req: IncomingMessage,
    private readonly res: ServerResponse | undefined,
    readonly forward: Forward,
    private readonly onOver: (attempt: Attempt) => void,
  ) {
    attemptOf(req)?.takeOffListeners();
    (req as Carried)[attemptKey] = this;
    this.closeListeners = res?.listenerCount('close') ?? 0;
    this.errorListeners = res?.listenerCount('error') ?? 0;
    this.requestErrorListeners = req.listenerCount('error');
    req.headers = forward.headers;
    req.url = forward.url;
  }

  get port(): number {
    return this.forward.port;
  }

  /** Ends it where httpxy's own promise would not, or does. */
  end(): void {
    if (this.over) return;
    this.over = true;
    this.onOver(this);
  }

  endWith(error: unknown): void {
    if (!this.over) this.failure = this.failureOf(error);
    this.end();
  }

  fail(error: CodedError | undefined): void {
    this.failure ??= error;
    this.judged = true;
    this.proxyReq?.destroy(error);
  }

  failureOf(error: unknown): CodedError {
    if (this.failure) return this.failure;
    if (error instanceof CodedError) return error;
    const { port } = this.forward;
    const code = (error as NodeJS.ErrnoException).code ?? 'UNKNOWN';
    if (unreachable.has(code)) {
      return ProxyErrors.PROXY_PORT_REFUSED({ port, reason: code }, { cause: error });
    }
    return ProxyErrors.PROXY_UPSTREAM_FAILED({ port, reason: code }, { cause: error });
  }

  /** What an attempt adds comes after what was there before it. */
  private takeOffListeners(): void {
    const { req, res } = this;
    for (const listener of req.listeners('error').slice(this.requestErrorListeners)) {
      req.off('error', listener as () => void);
    }
    for (const listener of res?.listeners('close').slice(this.closeListeners) ?? []) {
      res?.off('close', listener as () => void);
    }
    for (const listener of res?.listeners('error').slice(this.errorListeners) ?? []) {
      res?.off('error', listener as () => void);
    }
  }
}

const unreachable = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  // The link that led there is gone.
  'ENODEV',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
