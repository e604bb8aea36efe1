import type { Logger } from '@rookery/core';

export interface RecurringTaskOptions {
  /** Asked before each run: how long after the one before. */
  readonly delayMs: () => number;
  readonly log: Logger;
  /** What the log says of a run that failed; the next one comes all the same. */
  readonly failed: string;
}

/** Runs a task again and again, each time a while after the last one has ended. */
export class RecurringTask {
  private timer: NodeJS.Timeout | undefined;
  private under: Promise<unknown> = Promise.resolve();
  private readonly closing = new AbortController();

  constructor(
    private readonly task: () => Promise<unknown>,
    private readonly options: RecurringTaskOptions,
  ) {}

  /** Aborted as soon as {@link close} is called: a run under way is to end. */
  get signal(): AbortSignal {
    return this.closing.signal;
  }

  start(): void {
    if (this.closing.signal.aborted) return;
    const { delayMs, log, failed } = this.options;
    this.timer = setTimeout(() => {
      this.under = this.task()
        .catch((error: unknown) => log.warn({ err: error }, failed))
        .finally(() => this.start());
    }, delayMs());
  }

  /** Waits for the run under way. */
  async close(): Promise<void> {
    this.closing.abort();
    clearTimeout(this.timer);
    await this.under;
  }
}
