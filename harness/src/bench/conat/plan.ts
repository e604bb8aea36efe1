/** What the clients of the conat benchmark are told to do. */
export type Load =
  | {
      readonly kind: 'fan-out';
      readonly url: string;
      readonly subscribers: number;
      readonly bytes: number;
      readonly messages: number;
      /** Messages that may be under way to the slowest subscriber. */
      readonly window: number;
    }
  | {
      readonly kind: 'requests';
      readonly url: string;
      readonly warmUp: number;
      readonly count: number;
    }
  | {
      readonly kind: 'durable';
      readonly url: string;
      readonly bytes: number;
      readonly inFlight: number;
      readonly durationMs: number;
    }
  | {
      readonly kind: 'fill';
      readonly url: string;
      readonly bytes: number;
      readonly messages: number;
      readonly keys: number;
    }
  | { readonly kind: 'consume'; readonly url: string; readonly messages: number }
  | { readonly kind: 'watch-keys'; readonly url: string; readonly keys: number }
  | { readonly kind: 'idle'; readonly url: string; readonly connections: number };

export interface LoadResult {
  readonly perSecond?: number;
  readonly p50Us?: number;
  readonly p99Us?: number;
  readonly tookMs?: number;
}
