import type { Clock, Logger } from '@rookery/core';

export interface ReconcilerOptions {
  readonly name: string;
  readonly everyMs: number;
  /** Compares the whole desired state with the whole actual state; takes no input. */
  readonly reconcile: (signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Runs one reconciliation on a timer, and at once when nudged; never two at a time. */
export class Reconciler {
  private readonly stopped = new AbortController();
  private loop: Promise<void> = Promise.resolve();
  private wake: (() => void) | undefined;
  private due = true;

  constructor(private readonly options: ReconcilerOptions) {}

  start(): void {
    this.loop = this.run();
  }

  /** Something changed: do not wait for the timer. */
  nudge(): void {
    this.due = true;
    this.wake?.();
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    this.wake?.();
    await this.loop;
  }

  private async run(): Promise<void> {
    const { name, everyMs, reconcile, logger } = this.options;
    const { signal } = this.stopped;
    while (!signal.aborted) {
      if (!this.due) await this.pause(everyMs);
      if (signal.aborted) return;
      this.due = false;
      try {
        await reconcile(signal);
      } catch (error) {
        if (!signal.aborted) logger.error({ err: error, reconciler: name }, 'reconciling failed');
      }
    }
  }

  private async pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.wake = undefined;
    this.due = true;
  }
}
