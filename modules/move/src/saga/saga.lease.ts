import { CodedError, CoreErrors, type Clock } from '@rookery/core';
import type { LeaseGuard } from './saga.ports.js';
import { SagaErrors } from './saga.errors.js';

/** True for what tells a worker that another one has taken over: the store's or a host's word. */
export function isLostLease(error: unknown): boolean {
  return CodedError.is(error, 'LEASE_LOST') || CodedError.is(error, 'STALE_ATTEMPT');
}

/**
 * Renews a lease until `until` aborts. When it is lost, or could not be renewed for its whole length
 * (the store is away, and somebody else may have it), aborts `halt`.
 */
export async function keepLease(
  lease: LeaseGuard,
  options: {
    readonly clock: Clock;
    readonly everyMs: number;
    readonly until: AbortSignal;
    readonly halt: AbortController;
    readonly onCancelRequested: () => void;
  },
): Promise<void> {
  const { clock, halt, until } = options;
  let renewedAt = clock.now();
  while (!until.aborted && !halt.signal.aborted) {
    try {
      await clock.delay(options.everyMs, until);
    } catch {
      return;
    }
    try {
      const startedAt = clock.now();
      const { cancelRequested } = await lease.renew();
      renewedAt = startedAt;
      if (cancelRequested) options.onCancelRequested();
    } catch (error) {
      const expired = clock.now() - renewedAt + options.everyMs >= lease.leaseMs;
      if (isLostLease(error) || expired) {
        halt.abort(SagaErrors.LEASE_LOST({ operationId: lease.operationId }, { cause: error }));
      }
    }
  }
}

/** Rejects when the signal aborts, whatever the promise does: a lost lease waits for nobody. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => undefined);
    throw abortReason(signal);
  }
  let onAbort!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortReason(signal));
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : CoreErrors.CANCELED();
}
