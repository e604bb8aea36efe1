import type { Progress } from '@rookery/core/contract';

/** Passes progress on, one save at a time; what comes meanwhile replaces what waits. */
export class ProgressSink {
  private waiting: Progress | undefined;
  private saving = false;
  private closed = false;

  constructor(private readonly save: (progress: Progress) => Promise<void>) {}

  push(progress: Progress): void {
    if (this.closed) return;
    this.waiting = progress;
    if (!this.saving) void this.drain();
  }

  close(): void {
    this.closed = true;
    this.waiting = undefined;
  }

  private async drain(): Promise<void> {
    this.saving = true;
    while (this.waiting) {
      const next = this.waiting;
      this.waiting = undefined;
      // Progress is only shown: losing one line of it must not fail the work.
      await this.save(next).catch(() => undefined);
    }
    this.saving = false;
  }
}
