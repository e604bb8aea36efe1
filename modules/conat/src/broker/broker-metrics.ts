import type { TransportKind } from './ports.js';
import type { CloseReason } from './protocol-texts.js';

/** Upper bounds of the round trip times that are counted apart; above is one more. */
export const rttBucketsMs = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000] as const;

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
  /** Answers to the broker's PINGs, by {@link rttBucketsMs}. */
  readonly rtt: { readonly buckets: number[]; sumMs: number };
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
    rtt: { buckets: Array.from({ length: rttBucketsMs.length + 1 }, () => 0), sumMs: 0 },
  };
}

export function countRtt(metrics: BrokerMetrics, ms: number): void {
  const at = rttBucketsMs.findIndex((bound) => ms <= bound);
  metrics.rtt.buckets[at < 0 ? rttBucketsMs.length : at]! += 1;
  metrics.rtt.sumMs += ms;
}
