import { randomInt } from 'node:crypto';

/** Numbers that a seed gives again: `ROOKERY_TEST_SEED` repeats a run that failed. */
export class Random {
  private state: number;

  private constructor(readonly seed: number) {
    this.state = seed;
  }

  static seeded(): Random {
    const given = process.env.ROOKERY_TEST_SEED;
    const long = process.env.ROOKERY_TEST_LONG === '1';
    return new Random(Number(given ?? (long ? randomInt(0x7fffffff) : 1)));
  }

  /** mulberry32 */
  below(limit: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % limit;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }
}
