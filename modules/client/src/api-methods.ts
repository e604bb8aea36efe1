import { CoreErrors, parseInput } from '@rookery/core/contract';
import { z } from 'zod';
import { api, type Api, type OperationName, type Route, type RouteInput } from '@rookery/api';
import { ClientErrors } from './client.errors.js';
import type { HttpRequest, RequestOptions, Transport } from './transport.js';

/** Operations that are one request and one answer; event streams have methods of their own. */
type JsonOperation = Exclude<OperationName, 'watchOperation'>;

type Output<R extends Route> = z.output<R['response']>;

/** Parameters, query and body of a route in one object; it may be left out when nothing is needed. */
type ApiMethod<R extends Route> =
  Record<never, never> extends RouteInput<R>
    ? (input?: RouteInput<R>, options?: RequestOptions) => Promise<Output<R>>
    : (input: RouteInput<R>, options?: RequestOptions) => Promise<Output<R>>;

/** One method for every operation of the route table, by its operationId. */
export type ApiMethods = { readonly [K in JsonOperation]: ApiMethod<Api[K]> };

/** Calls one route. @throws INVALID_INPUT before anything is sent; HUB_ANSWER_INVALID */
async function callRoute(
  transport: Transport,
  name: OperationName,
  input: Readonly<Record<string, unknown>> = {},
  options?: RequestOptions,
): Promise<unknown> {
  const route: Route = api[name];
  refuseUnknownFields(name, route, input);
  const params = parseInput(route.params, input) as Record<string, unknown>;
  const query = parseInput(route.query, input) as HttpRequest['query'];
  const body = parseInput(route.body, input);
  const answer = await transport.json(
    { method: route.method, path: fillPath(route.path, params), query, body },
    options,
  );
  const parsed = route.response.safeParse(answer);
  if (parsed.success) return parsed.data;
  const reason = z.prettifyError(parsed.error).replaceAll('\n', ' ');
  throw ClientErrors.HUB_ANSWER_INVALID({ operation: name, reason });
}

export function fillPath(path: string, params: Readonly<Record<string, unknown>>): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(params[name])));
}

/** A misspelt field would otherwise be dropped in silence. */
function refuseUnknownFields(name: string, route: Route, input: object): void {
  const known = new Set(
    [route.params, route.query, route.body].flatMap((schema) =>
      schema instanceof z.ZodObject ? Object.keys(schema.shape) : [],
    ),
  );
  const unknown = Object.keys(input).filter((field) => !known.has(field));
  if (unknown.length > 0) {
    throw CoreErrors.INVALID_INPUT({ reason: `${name} takes no ${unknown.join(', ')}` });
  }
}

/** A base class with the methods of {@link ApiMethods}, so that they need not be written down again. */
class ApiCaller {
  constructor(protected readonly transport: Transport) {}
}

for (const name of Object.keys(api) as OperationName[]) {
  if (api[name].kind === 'events') continue;
  Object.defineProperty(ApiCaller.prototype, name, {
    value(
      this: { transport: Transport },
      input?: Record<string, unknown>,
      options?: RequestOptions,
    ) {
      return callRoute(this.transport, name, input, options);
    },
  });
}

export const ApiClient = ApiCaller as unknown as new (
  transport: Transport,
) => ApiMethods & { readonly transport: Transport };
