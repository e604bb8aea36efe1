import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CodedError, CoreErrors, parseInput, toCodedError } from '@rookery/core';
import type { z } from 'zod';
import {
  api,
  apiPrefix,
  idempotencyHeader,
  type Api,
  type OperationName,
  type Route,
  type Problem,
} from '@rookery/api';

type Input<R extends Route> = z.output<R['params']> & z.output<R['query']> & z.output<R['body']>;

/** Answers one operation; an event stream's answer is the list of its events. */
export type ContractHandlers = {
  readonly [K in OperationName]?: (
    input: Input<Api[K]>,
    request: ContractRequest,
  ) => K extends 'watchOperation'
    ? AsyncIterable<z.input<Api[K]['response']>> | Iterable<z.input<Api[K]['response']>>
    : z.input<Api[K]['response']> | Promise<z.input<Api[K]['response']>>;
};

export interface ContractRequest {
  readonly operation: OperationName;
  readonly method: string;
  readonly path: string;
  readonly token: string | undefined;
  readonly idempotencyKey: string | undefined;
  readonly input: Readonly<Record<string, unknown>>;
}

/** What happens to the next requests instead of an answer, in order. */
export type ContractFault =
  /** A proxy's bare answer. */
  | { readonly status: number }
  /** The connection ends: before the handler runs, or after it (the answer is lost). */
  | { readonly drop: 'before' | 'after' };

/**
 * A small HTTP server that speaks the contract: inputs are parsed and answers checked with the
 * route table's own schemas. For tests of whatever calls the API.
 */
export class ContractServer {
  /** Every request that reached a route, in order. */
  readonly requests: ContractRequest[] = [];
  private readonly faults: ContractFault[] = [];

  private constructor(
    private readonly server: Server,
    private readonly handlers: ContractHandlers,
    private readonly token: string | undefined,
  ) {
    server.on('request', (request, response) => {
      this.serve(request, response).catch((error: unknown) => refuse(response, error));
    });
  }

  /** @param options.token what authenticated routes want; absent: anything goes. */
  static async start(
    handlers: ContractHandlers,
    options: { token?: string; port?: number } = {},
  ): Promise<ContractServer> {
    const server = createServer();
    const made = new ContractServer(server, handlers, options.token);
    await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve));
    return made;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** The HTTP server itself, to put messaging on it. */
  get http(): Server {
    return this.server;
  }

  fail(...faults: ContractFault[]): void {
    this.faults.push(...faults);
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  private async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const fault = this.faults.shift();
    if (fault && 'status' in fault) {
      response.writeHead(fault.status).end('<html>not from the hub</html>');
      return;
    }
    if (fault?.drop === 'before') {
      request.socket.destroy();
      return;
    }
    const seen = await readRequest(request);
    this.requests.push(seen);
    const route: Route = api[seen.operation];
    if (route.authenticated && this.token !== undefined && seen.token !== this.token) {
      throw new CodedError({
        code: 'UNAUTHENTICATED',
        message: 'Sign in, or send an API key as a bearer token.',
        status: 401,
        retryable: false,
      });
    }
    const input = parseAll(route, seen.input);
    const handler = this.handlers[seen.operation] as
      ((input: unknown, request: ContractRequest) => unknown) | undefined;
    if (!handler) throw CoreErrors.INTERNAL({ reason: `no handler for ${seen.operation}` });
    if (route.kind === 'events') {
      await sendEvents(response, handler(input, seen) as AsyncIterable<unknown>);
      return;
    }
    const answer = parseInput(route.response, await handler(input, seen));
    if (fault?.drop === 'after') {
      request.socket.destroy();
      return;
    }
    response.writeHead(route.status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(answer));
  }
}

async function readRequest(request: IncomingMessage): Promise<ContractRequest> {
  const url = new URL(request.url ?? '/', 'http://hub');
  const path = url.pathname.slice(apiPrefix.length);
  const method = request.method ?? 'GET';
  for (const [operation, route] of Object.entries(api) as [OperationName, Route][]) {
    const params = route.method === method && matchPath(route.path, path);
    if (!params) continue;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('utf8');
    const body = text === '' ? {} : (JSON.parse(text) as object);
    const authorization = request.headers.authorization;
    return {
      operation,
      method,
      path,
      token: authorization?.replace(/^Bearer /, ''),
      idempotencyKey: request.headers[idempotencyHeader] as string | undefined,
      input: { ...params, ...Object.fromEntries(url.searchParams), ...body },
    };
  }
  throw CoreErrors.NOT_FOUND({ what: 'route', id: `${method} ${url.pathname}` });
}

function matchPath(pattern: string, path: string): Record<string, string> | undefined {
  const wanted = pattern.split('/');
  const given = path.split('/');
  if (wanted.length !== given.length) return undefined;
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    const value = decodeURIComponent(given[index] ?? '');
    if (part.startsWith('{')) params[part.slice(1, -1)] = value;
    else if (part !== value) return undefined;
  }
  return params;
}

const parseAll = (route: Route, input: object): Record<string, unknown> =>
  Object.assign(
    {},
    ...[route.params, route.query, route.body].map((schema) => parseInput(schema, input)),
  ) as Record<string, unknown>;

async function sendEvents(
  response: ServerResponse,
  events: AsyncIterable<unknown> | Iterable<unknown>,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(': hello\n\n');
  for await (const event of events) response.write(`data: ${JSON.stringify(event)}\n\n`);
  response.end();
}

function refuse(response: ServerResponse, error: unknown): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const { code, message, status, retryable, details } = toCodedError(error);
  const problem: z.input<typeof Problem> = {
    type: `https://rookery.invalid/errors/${code}`,
    title: code,
    status,
    detail: message,
    code,
    retryable,
    details: JSON.parse(JSON.stringify(details)) as Record<string, string>,
  };
  response.writeHead(status, { 'content-type': 'application/problem+json' });
  response.end(JSON.stringify(problem));
}
