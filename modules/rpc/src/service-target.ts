import type { MsgHdrs } from '@nats-io/nats-core';
import type { ConatClient } from '@rookery/conat';
import type { ServiceLimits } from './service-limits.js';

/** What every kind of call needs to know. */
export interface Target<M> {
  readonly client: ConatClient;
  readonly subject: string;
  readonly method: M;
  readonly headers: MsgHdrs;
  readonly body: Uint8Array;
  readonly limits: ServiceLimits;
}
