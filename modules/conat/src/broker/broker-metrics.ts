import type { CloseReason } from './protocol-texts.js';

export type TransportKind = 'websocket' | 'tcp' | 'memory';

/** Counters since the start, added to on the spot; sizes are read from the broker itself. */
export interface BrokerMetrics {
  messagesIn: number;
  messagesOut: number;
  bytesIn: number;
  bytesOut: number;
  /** Requests that nobody heard. */
  noResponders: number;
  slowConsumers: number;
  /** Publications and subscriptions that were not permitted. */
  violations: number;
  /** Times that a client was read more slowly because of its rates, and for how long together. */
  throttled: number;
  throttledMs: number;
  readonly connectionsOpened: Record<TransportKind, number>;
  readonly closed: Partial<Record<CloseReason, number>>;
  /** Told how long each PONG took. */
  onRoundTrip: ((ms: number) => void) | null;
}

export function newBrokerMetrics(): BrokerMetrics {
  return {
    messagesIn: 0,
    messagesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    noResponders: 0,
    slowConsumers: 0,
    violations: 0,
    throttled: 0,
    throttledMs: 0,
    connectionsOpened: { websocket: 0, tcp: 0, memory: 0 },
    closed: {},
    onRoundTrip: null,
  };
}
