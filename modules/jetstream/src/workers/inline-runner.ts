import type { Clock } from '@rookery/core';
import type { EngineInput } from '../engine/engine-io.js';
import { AccountRuntime } from './account-runtime.js';
import {
  AccountRunner,
  type AccountCommand,
  type RunnerOptions,
  type RunnerOutput,
} from './runner.js';

/** Accounts in this very thread, which waits while a commit is fsynced: for tests and tiny apps. */
export class InlineRunner extends AccountRunner {
  private readonly runtime: AccountRuntime;
  private scheduled = false;
  private closed = false;

  constructor(output: RunnerOutput, clock: Clock, options: RunnerOptions) {
    super();
    this.runtime = new AccountRuntime(output, clock, options);
  }

  input(account: number, input: EngineInput): boolean {
    // The broker lends its buffers for the call.
    const kept = { ...input };
    if ('payload' in kept) kept.payload = Buffer.from(kept.payload);
    if ('headers' in kept && kept.headers) kept.headers = Buffer.from(kept.headers);
    this.runtime.input(account, kept);
    this.schedule();
    return true;
  }

  command(command: number, account: number, what: AccountCommand): void {
    setImmediate(() => {
      if (!this.closed) this.runtime.command(command, account, what);
    });
  }

  close(): Promise<void> {
    this.closed = true;
    this.runtime.close();
    return Promise.resolve();
  }

  private schedule(): void {
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      if (!this.closed && this.runtime.workOnce()) this.schedule();
    });
  }
}
