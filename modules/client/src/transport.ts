import { backoffMs, CodedError, CoreErrors } from '@rookery/core/contract';
import { apiPrefix, idempotencyHeader, Problem } from '@rookery/api';
import { ClientErrors } from './client.errors.js';

export interface TransportOptions {
  /** Where the hub answers, such as `https://rookery.example.org`. */
  readonly url: string;
  /** API key. Absent: only what needs no account can be asked for; the API takes no cookies. */
  readonly token?: string;
  /** An attempt without an answer is given up after this. Default 60 s. */
  readonly requestTimeoutMs?: number;
  /** Attempts in all when the network fails or the hub is away (502, 503). Default 5. */
  readonly attempts?: number;
  /** Default: the platform's own. */
  readonly fetch?: typeof fetch;
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
  /** Repeats of one intent share a key. Default: a fresh one a call, shared by its retries. */
  readonly idempotencyKey?: string;
}

export interface HttpRequest {
  readonly method: string;
  /** Beneath the API's prefix, parameters filled in. */
  readonly path: string;
  readonly query: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: unknown;
}

/** Waits between attempts: 5 attempts span about 6 s at most, a restart of a hub. */
const retryWait = { firstMs: 250, maxMs: 4000 } as const;
const retriedStatuses: ReadonlySet<number> = new Set([502, 503]);
/** The first request with the same key is still being answered: its answer is ours, a little later. */
const retriedCode = 'IDEMPOTENCY_IN_PROGRESS';

/**
 * Speaks HTTP with the hub: credentials, idempotency keys, bounded retries, problem+json.
 * Retrying is safe for every method: writes carry one idempotency key over all attempts.
 */
export class Transport {
  readonly baseUrl: string;
  private readonly fetch: typeof fetch;

  constructor(private readonly options: TransportOptions) {
    this.baseUrl = options.url.replace(/\/+$/, '');
    this.fetch = options.fetch ?? ((input, init) => fetch(input, init));
  }

  /** The parsed JSON body of a success. @throws CodedError of the hub's problem; HUB_UNREACHABLE */
  async json(request: HttpRequest, options: RequestOptions = {}): Promise<unknown> {
    const key = options.idempotencyKey ?? crypto.randomUUID();
    const attempts = this.options.attempts ?? 5;
    for (let attempt = 1; ; attempt += 1) {
      try {
        const response = await this.send(request, key, options.signal);
        return await readJson(response, request);
      } catch (error) {
        options.signal?.throwIfAborted();
        if (attempt >= attempts || !isTransient(error)) throw error;
      }
      await delay(backoffMs(attempt - 1, retryWait), options.signal);
    }
  }

  /** One attempt at an event stream; the caller reconnects. */
  async events(path: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const request = { method: 'GET', path, query: {} };
    const response = await this.attempt(request, { accept: 'text/event-stream' }, signal);
    if (!response.ok) throw await problemOf(response);
    if (response.body === null) {
      throw ClientErrors.HUB_ANSWER_INVALID({ operation: path, reason: 'an empty event stream' });
    }
    return response.body;
  }

  /**
   * Any request beneath the hub's URL with our credentials, once, whatever the answer.
   * @throws HUB_UNREACHABLE
   */
  async plain(path: string, init: RequestInit = {}): Promise<Response> {
    const { token } = this.options;
    const headers = new Headers(init.headers);
    if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
    try {
      return await this.fetch(`${this.baseUrl}${path}`, { redirect: 'manual', ...init, headers });
    } catch (error) {
      const reason = reasonOf(error);
      throw ClientErrors.HUB_UNREACHABLE({ url: this.baseUrl, reason }, { cause: error });
    }
  }

  private async send(request: HttpRequest, key: string, signal?: AbortSignal): Promise<Response> {
    const timeout = AbortSignal.timeout(this.options.requestTimeoutMs ?? 60_000);
    const both = signal ? AbortSignal.any([signal, timeout]) : timeout;
    const headers: Record<string, string> = { accept: 'application/json' };
    if (request.method !== 'GET') headers[idempotencyHeader] = key;
    const response = await this.attempt(request, headers, both);
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  private async attempt(
    request: HttpRequest,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Response> {
    const { token } = this.options;
    const hasBody = request.method !== 'GET' && request.method !== 'DELETE';
    try {
      return await this.fetch(this.urlOf(request), {
        method: request.method,
        headers: {
          ...headers,
          ...(token !== undefined && { authorization: `Bearer ${token}` }),
          ...(hasBody && { 'content-type': 'application/json' }),
        },
        body: hasBody ? JSON.stringify(request.body ?? {}) : undefined,
        credentials: 'same-origin',
        redirect: 'error',
        signal,
      });
    } catch (error) {
      const reason = reasonOf(error);
      throw ClientErrors.HUB_UNREACHABLE({ url: this.baseUrl, reason }, { cause: error });
    }
  }

  private urlOf(request: HttpRequest): string {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(request.query)) {
      if (value !== undefined) query.set(name, String(value));
    }
    const tail = query.size > 0 ? `?${query.toString()}` : '';
    return `${this.baseUrl}${apiPrefix}${request.path}${tail}`;
  }
}

async function readJson(response: Response, request: HttpRequest): Promise<unknown> {
  if (response.status === 204) return {};
  try {
    return await response.json();
  } catch (error) {
    // A connection that broke inside the answer: the answer is lost, ask again with the same key.
    if ((error as Error).name !== 'SyntaxError') {
      const reason = reasonOf(error);
      throw ClientErrors.HUB_UNREACHABLE({ url: response.url, reason }, { cause: error });
    }
    const operation = `${request.method} ${request.path}`;
    throw ClientErrors.HUB_ANSWER_INVALID({ operation, reason: 'not JSON' }, { cause: error });
  }
}

/** The hub's coded error; what is no problem document (a proxy's page) becomes HUB_UNREACHABLE. */
async function problemOf(response: Response): Promise<CodedError> {
  const text = await response.text().catch(() => '');
  const parsed = Problem.safeParse(parseOrUndefined(text));
  if (!parsed.success) {
    return retriedStatuses.has(response.status)
      ? ClientErrors.HUB_UNREACHABLE({ url: response.url, reason: `status ${response.status}` })
      : ClientErrors.HUB_ANSWER_INVALID({
          operation: response.url,
          reason: `status ${response.status} without a problem document`,
        });
  }
  const { code, detail, status, retryable, details } = parsed.data;
  return new CodedError({
    code,
    message: detail,
    status,
    retryable: retryable ?? false,
    details: scalarsOf(details ?? {}),
  });
}

function scalarsOf(details: Record<string, unknown>): CodedError['details'] {
  return Object.fromEntries(
    Object.entries(details).map(([name, value]) => [
      name,
      typeof value === 'object' && value !== null
        ? JSON.stringify(value)
        : (value as string | number | boolean | null),
    ]),
  );
}

function isTransient(error: unknown): boolean {
  if (!(error instanceof CodedError)) return false;
  if (error.code === 'HUB_UNREACHABLE' || error.code === retriedCode) return true;
  return error.retryable && retriedStatuses.has(error.status);
}

function parseOrUndefined(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `fetch failed` alone helps nobody: its cause says ECONNREFUSED. */
function reasonOf(error: unknown): string {
  const { name, message, cause } = error as Partial<Error>;
  const { code, message: causeText } = (cause ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === 'string') return code;
  if (typeof causeText === 'string') return causeText;
  return name === 'TimeoutError' ? 'no answer in time' : (message ?? String(error));
}

/** @throws CANCELED */
export function delay(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) {
      reject(CoreErrors.CANCELED({}, { cause: signal.reason }));
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(CoreErrors.CANCELED({}, { cause: signal?.reason }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}
