import type { Method } from './contract/service.js';
import type { Msg } from '@nats-io/nats-core';

/** A request as the method's kind handles it. */
export interface ServiceRequest {
  readonly method: Method;
  readonly subject: string;
  readonly message: Msg;
  readonly params: Readonly<Record<string, string>>;
  readonly caller: string;
  readonly input: unknown;
}
