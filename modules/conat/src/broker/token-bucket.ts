/** The shortest pause worth making; what is due earlier is let through. */
const pauseMsMin = 5;

/**
 * A rate with bursts of one second's worth. Paid after the fact: whoever overdraws it has had its
 * message, and waits before the next. It looks at the clock only when it is empty, so that a
 * message below the rate costs one subtraction.
 */
export class TokenBucket {
  /** Whole, so that spending one is integer arithmetic. */
  private tokens: number;
  private filledAt: number;

  constructor(
    private readonly perSecond: number,
    nowMs: number,
  ) {
    this.tokens = perSecond;
    this.filledAt = nowMs;
  }

  /** @returns true when it is empty: see {@link pauseMs} */
  spend(): boolean {
    this.tokens -= 1;
    return this.tokens < 0;
  }

  /** How long to wait until there is something to spend again; 0: go on. */
  pauseMs(nowMs: number): number {
    const elapsedMs = Math.max(0, nowMs - this.filledAt);
    const due = Math.floor((elapsedMs * this.perSecond) / 1_000);
    // Time that has not made a whole token yet is not lost.
    if (due > 0 || nowMs < this.filledAt) this.filledAt = nowMs;
    this.tokens = Math.min(this.perSecond, this.tokens + due);
    if (this.tokens >= 0) return 0;
    return Math.max(pauseMsMin, Math.ceil((-this.tokens * 1_000) / this.perSecond));
  }
}

/** What all connections of one identity may do together. */
export interface IdentityRates {
  readonly publishes: TokenBucket;
  readonly requests: TokenBucket;
}
