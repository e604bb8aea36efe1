import { Injectable } from '@nestjs/common';
import { api, apiPrefix, idempotencyHeader, type OperationName, type Route } from '@rookery/api';
import { CodedError, CoreErrors, parseInput, toCodedError } from '@rookery/core';
import type { Request, Response } from 'express';
import { z } from 'zod';
import { OpenAccess } from '../access/open-access.js';
import { AuthService, type Caller } from '../accounts/auth.service.js';
import { HubErrors } from '../hub.errors.js';
import { ApiDependencies } from './api.parts.js';
import { readJson } from './body.js';
import type { ApiCall, ApiHandlers, EventHandler } from './handlers.js';
import { IdempotencyService } from './idempotency.service.js';
import { problemOf } from './problem.js';

const idempotencyKeyPattern = /^[\x21-\x7e]{1,200}$/;

type AnyHandler = (call: ApiCall<Route>) => Promise<unknown>;

export interface ApiBinderOptions {
  /** Parse what handlers return, too: for tests. */
  readonly checkResponses: boolean;
}

/** Carries a request of the contract to its handler: credentials, parsing, idempotency, answer. */
@Injectable()
export class ApiBinder {
  private readonly handlers: ApiHandlers;

  constructor(
    private readonly auth: AuthService,
    private readonly idempotency: IdempotencyService,
    private readonly open: OpenAccess,
    private readonly options: ApiBinderOptions,
    parts: ApiDependencies,
  ) {
    this.handlers = {
      ...parts.accounts.handlers,
      ...parts.audit.handlers,
      ...parts.backups.handlers,
      ...parts.collaborators.handlers,
      ...parts.copies.handlers,
      ...parts.health.handlers,
      ...parts.hostBackups.handlers,
      ...parts.hosts.handlers,
      ...parts.operations.handlers,
      ...parts.projects.handlers,
      ...parts.sessions.handlers,
      ...parts.snapshots.handlers,
      ...parts.work.handlers,
    };
  }

  async handle(name: OperationName, request: Request, response: Response): Promise<void> {
    const route: Route = api[name];
    const caller = route.authenticated ? await this.auth.require(request) : undefined;
    const call = await this.parse(name, request, response, caller);
    if (route.kind === 'events') {
      const events = this.handlers[name] as unknown as EventHandler<Route>;
      await this.watched(route, events, call, request, response);
      return;
    }
    const handler = this.handlers[name] as unknown as AnyHandler;
    const run = async (): Promise<unknown> => this.checked(route, await handler(call));
    const answer =
      call.idempotencyKey === undefined
        ? { status: route.status, body: await run() }
        : await this.idempotency.once(name, call, run);
    response.status(answer.status).set('cache-control', 'no-store').json(answer.body);
  }

  private async parse(
    name: OperationName,
    request: Request,
    response: Response,
    caller: Caller | undefined,
  ): Promise<ApiCall<Route>> {
    const route: Route = api[name];
    const key = route.method === 'POST' ? request.headers[idempotencyHeader] : undefined;
    if (key !== undefined && (typeof key !== 'string' || !idempotencyKeyPattern.test(key))) {
      throw CoreErrors.INVALID_INPUT({
        reason: `${idempotencyHeader}: use 1 to 200 printable characters`,
      });
    }
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const hasBody = route.method !== 'GET' && route.method !== 'DELETE';
    return {
      params: parseInput(route.params, request.params),
      query: parseInput(withoutUnknown(route.query), request.query),
      body: parseInput(route.body, hasBody ? await readJson(request) : {}),
      // Routes without authentication have handlers that do not look at the caller.
      caller: caller as Caller,
      // One key may be used with several routes.
      idempotencyKey: key === undefined ? undefined : `${name} ${key}`,
      signal: gone.signal,
    };
  }

  /** A stream that ends when its caller may not see it any more, or is nobody any more. */
  private async watched(
    route: Route,
    events: EventHandler<Route>,
    call: ApiCall<Route>,
    request: Request,
    response: Response,
  ): Promise<void> {
    const { accountId } = call.caller;
    const refused = new AbortController();
    const close = await this.open.admit({
      accountId,
      check: async () => {
        const caller = await this.auth.require(request);
        if (caller.accountId !== accountId) throw HubErrors.UNAUTHENTICATED();
        await events.allow({ ...call, caller });
      },
      end: (reason) => refused.abort(reason),
    });
    const signal = AbortSignal.any([call.signal, refused.signal]);
    try {
      await this.stream(route, events.views({ ...call, signal }), response, signal);
    } finally {
      close();
    }
  }

  /** Server-sent events, one view each; an error after the first byte is an `error` event. */
  private async stream(
    route: Route,
    views: AsyncIterable<unknown>,
    response: Response,
    signal: AbortSignal,
  ): Promise<void> {
    let begun = false;
    try {
      for await (const view of views) {
        if (signal.aborted) break;
        if (!begun) {
          response.status(route.status).set({
            'content-type': 'text/event-stream',
            'cache-control': 'no-store',
            'x-accel-buffering': 'no',
          });
          begun = true;
        }
        response.write(`data: ${JSON.stringify(this.checked(route, view))}\n\n`);
      }
      // A coded reason: the caller may not see more. Anything else: the client has gone.
      if (CodedError.is(signal.reason)) throw signal.reason;
    } catch (error) {
      if (!begun) throw error;
      const problem = problemOf(toCodedError(error));
      response.write(`event: error\ndata: ${JSON.stringify(problem)}\n\n`);
    }
    response.end();
  }

  private checked(route: Route, value: unknown): unknown {
    return this.options.checkResponses ? route.response.parse(value) : value;
  }
}

/** A filter that is misspelled must not be taken for none. */
const withoutUnknown = (query: z.ZodType): z.ZodType =>
  query instanceof z.ZodObject ? query.strict() : query;

/** `/projects/{projectId}` as express writes it. */
export const expressPath = (route: Route): string =>
  apiPrefix + route.path.replace(/\{(\w+)\}/g, ':$1');
