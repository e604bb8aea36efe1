import type { Api, OperationName, Route } from '@rookery/api';
import type { z } from 'zod';
import type { Caller } from '../accounts/auth.service.js';

/** One request of the API after parsing. */
export interface ApiCall<R extends Route> {
  readonly params: z.output<R['params']>;
  readonly query: z.output<R['query']>;
  readonly body: z.output<R['body']>;
  readonly caller: Caller;
  /** Of a POST that carried one. */
  readonly idempotencyKey: string | undefined;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

/** Operations that answer with a stream of views; their route says `kind: 'events'`. */
type EventOperation = 'watchOperation';

/** Who may watch is asked again whenever access changes, as long as the stream is open. */
export interface EventHandler<R extends Route> {
  /** @throws what refuses the caller */
  readonly allow: (call: ApiCall<R>) => Promise<unknown>;
  readonly views: (call: ApiCall<R>) => AsyncIterable<z.input<R['response']>>;
}

type ApiHandler<N extends OperationName> = N extends EventOperation
  ? EventHandler<Api[N]>
  : (call: ApiCall<Api[N]>) => Promise<z.input<Api[N]['response']>>;

/** One handler for each operation of the contract: a missing one does not compile. */
export type ApiHandlers<N extends OperationName = OperationName> = {
  readonly [K in N]: ApiHandler<K>;
};

/** What a folder of the hub contributes. */
export interface ApiPart<N extends OperationName> {
  readonly handlers: ApiHandlers<N>;
}
