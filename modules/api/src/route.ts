import type { z } from 'zod';

/** One operation of the HTTP API, as data: the hub serves it, the SDK calls it, OpenAPI shows it. */
export interface Route<
  P extends z.ZodType = z.ZodType,
  Q extends z.ZodType = z.ZodType,
  B extends z.ZodType = z.ZodType,
  R extends z.ZodType = z.ZodType,
> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Beneath `/api/v1`, with `{parameters}`. */
  readonly path: string;
  readonly summary: string;
  readonly tag: string;
  readonly status: number;
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly response: R;
  /** `events`: a server-sent event stream, one JSON view an event. */
  readonly kind: 'json' | 'events';
  /** False: works without credentials. */
  readonly authenticated: boolean;
  /** Codes that a caller should expect beside the general ones. */
  readonly errors: readonly string[];
}

export interface RouteOptions<
  P extends z.ZodType,
  Q extends z.ZodType,
  B extends z.ZodType,
  R extends z.ZodType,
> {
  summary: string;
  tag: string;
  params: P;
  query: Q;
  body: B;
  response: R;
  status?: number;
  kind?: 'json' | 'events';
  authenticated?: boolean;
  errors?: readonly string[];
}

export function route<
  P extends z.ZodType,
  Q extends z.ZodType,
  B extends z.ZodType,
  R extends z.ZodType,
>(method: Route['method'], path: string, options: RouteOptions<P, Q, B, R>): Route<P, Q, B, R> {
  const { status = 200, kind = 'json', authenticated = true, errors = [] } = options;
  return { ...options, method, path, status, kind, authenticated, errors };
}

/** An empty object's type is an index of nothing; intersected, it would forbid every field. */
type Fields<T extends z.ZodType> = string extends keyof z.input<T> ? unknown : z.input<T>;

/** Parameters, query and body in one object, as a caller gives them. */
export type RouteInput<T extends Route> = Fields<T['params']> &
  Fields<T['query']> &
  Fields<T['body']>;
