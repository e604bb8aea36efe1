import { AsyncLocalStorage } from 'node:async_hooks';

/** Milliseconds since the epoch until which the request that is being handled is awaited. */
const current = new AsyncLocalStorage<number>();

/** How long a caller waits goes with its request, so that nobody works for somebody who has left. */
export const deadlines = {
  /** Runs a handler whose caller waits until `deadlineMs`. */
  within<T>(deadlineMs: number, handle: () => T): T {
    return deadlineMs === Infinity ? handle() : current.run(deadlineMs, handle);
  },

  /** The time that is left to whoever calls now, at most `timeoutMs`. */
  leftMs(timeoutMs: number): number {
    const deadlineMs = current.getStore() ?? Infinity;
    return Math.max(0, Math.min(timeoutMs, deadlineMs - Date.now()));
  },
};
