import { SystemClock, type Clock } from './clock.js';
import { CoreErrors } from './errors.js';

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Attempts in all, the first included. */
  readonly attempts: number;
}

/** Exponential backoff with full jitter: `random(0, min(max, first · 2^n))`, n counted from 0. */
export function backoffMs(
  n: number,
  options: Pick<BackoffOptions, 'firstMs' | 'maxMs'>,
  random = Math.random,
): number {
  return Math.round(random() * Math.min(options.maxMs, options.firstMs * 2 ** n));
}

/**
 * Waits until `probe` gives something other than `undefined` or `false`, polling.
 * For levels that have no event ("the port answers").
 */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: { timeoutMs: number; everyMs?: number; signal?: AbortSignal; clock?: Clock },
): Promise<T> {
  const clock = options.clock ?? new SystemClock();
  const deadline = clock.now() + options.timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value;
    if (clock.now() >= deadline) {
      throw CoreErrors.TIMEOUT({ what: `waiting until ${what}`, timeoutMs: options.timeoutMs });
    }
    await clock.delay(options.everyMs ?? 50, options.signal);
  }
}
