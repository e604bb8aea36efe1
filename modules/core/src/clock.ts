/** Time as a port, so that tests need not wait for it. */
export abstract class Clock {
  /** Milliseconds since the epoch. */
  abstract now(): number;
  /** Nanoseconds since the epoch, as fine as the clock knows them. */
  nowNs(): bigint {
    return nsOf(this.now());
  }
  /** Resolves after `ms`, or rejects with the signal's reason. */
  abstract delay(ms: number, signal?: AbortSignal): Promise<void>;
}

const nsPerMs = 1_000_000n;
const nsOf = (ms: number): bigint => BigInt(Math.round(ms * 1_000)) * 1_000n;

export class SystemClock extends Clock {
  /** What is to be added to the monotonic counter to have the time. */
  private offsetNs = 0n;

  /**
   * Within the millisecond that the system's clock shows, a counter says how far it is. Where both
   * drift apart (the clock was set) the clock is right.
   */
  override nowNs(): bigint {
    const counterNs = process.hrtime.bigint();
    const fromNs = BigInt(Math.floor(this.now())) * nsPerMs;
    const ns = this.offsetNs + counterNs;
    if (ns >= fromNs && ns < fromNs + nsPerMs) return ns;
    this.offsetNs = fromNs - counterNs;
    return fromNs;
  }

  now(): number {
    return Date.now();
  }

  delay(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const onAbort = (): void => {
        clearTimeout(timer);
        reject(signal?.reason as Error);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      }, ms);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
