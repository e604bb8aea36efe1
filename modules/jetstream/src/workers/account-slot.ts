import { existsSync } from 'node:fs';
import { toCodedError, type Clock, type CodedError } from '@rookery/core';
import { JetStreamErrors } from '../jetstream.errors.js';
import type { JetStreamAccount } from '../account.js';
import { createEngine } from '../engine/account-engine.js';
import type { EngineInput } from '../engine/engine-io.js';
import type { Engine } from '../engine/engine.js';
import { quarantine, quarantinedAs } from '../store/quarantine.js';
import { SqliteAccountStore } from '../store/sqlite-account.store.js';
import { storeFailure } from '../store/store-errors.js';
import { BufferedOutbox } from './buffered-outbox.js';
import { refusal } from './refusals.js';
import type { AccountState, RunnerOptions, RunnerOutput } from './runner.js';

/** Inputs that share a transaction. */
const batchInputsMax = 1_024;
/** Publications that are tried by themselves after a batch failed; the rest is refused at once. */
const failuresTriedMax = 3;
/** The pause after a wake that failed. */
const wakeRetryMs = 2_000;
/** A wake that is so near is not worth closing the file for. */
const wakeSoonMs = 5_000;

interface Opened {
  readonly store: SqliteAccountStore;
  readonly engine: Engine;
}

/** How the slot tells its runtime what a commit took. */
export interface SlotMeter {
  committed(inputs: number, ms: number): void;
  refused(inputs: number): void;
}

/**
 * One account in its thread. `closed` → (first input, or a wake that is due) `open` → (idle)
 * `closed`; `fenced` and `quarantined` refuse everything. A batch of inputs is one transaction;
 * what the engine says leaves when that is on disk.
 */
export class AccountSlot {
  readonly mailbox: EngineInput[] = [];
  /** When the engine wants to be woken, also while the file is closed. */
  wakeAtMs: number | null = null;
  lastUsedMs = 0;
  private opened: Opened | null = null;
  private refusing: { readonly state: AccountState; readonly error: CodedError } | null = null;
  private readonly outbox: BufferedOutbox;
  private unflushed = false;
  private untidy = false;

  constructor(
    readonly handle: number,
    readonly account: JetStreamAccount,
    private readonly output: RunnerOutput,
    private readonly clock: Clock,
    private readonly options: RunnerOptions,
    private readonly meter: SlotMeter,
  ) {
    this.outbox = new BufferedOutbox(handle, output);
  }

  get isOpen(): boolean {
    return this.opened !== null;
  }

  get state(): AccountState {
    return this.refusing?.state ?? 'ready';
  }

  /** The file is read for the first time: what its streams listen to is told. */
  start(fenced: boolean): void {
    if (fenced) return this.refuseAll('fenced');
    const { file } = this.account;
    const aside = quarantinedAs(file);
    if (aside) return this.quarantined(aside, 'it was put aside before');
    if (!existsSync(file)) return;
    const opened = this.open();
    if (opened?.engine.idle && !this.wakesSoon()) this.close();
    // Another process may hold it still: nobody would know what its streams listen to.
    if (!opened && !this.refusing) this.wakeAtMs = this.clock.now() + wakeRetryMs;
  }

  /** Works through the mailbox, at most one batch. @returns whether there is more */
  work(): boolean {
    const { mailbox } = this;
    const inputs = mailbox.length <= batchInputsMax ? mailbox : mailbox.slice(0, batchInputsMax);
    this.lastUsedMs = this.clock.now();
    const opened = this.refusing ? null : this.open();
    if (!opened) this.refuse(inputs, this.refusing?.error ?? this.openError);
    else this.together(opened, inputs);
    mailbox.splice(0, inputs.length);
    return mailbox.length > 0;
  }

  wake(): void {
    this.wakeAtMs = null;
    if (this.refusing) return;
    const opened = this.open();
    const done = opened && this.attempt(opened, 0, () => opened.engine.wake(this.clock.now()));
    this.noteWake();
    if (done || this.refusing) return;
    // What is due stays due: without a pause a full disk would keep the thread busy.
    this.wakeAtMs = Math.max(this.wakeAtMs ?? 0, this.clock.now() + wakeRetryMs);
  }

  /** For quiet moments: positions that wait, the log, and whether the file may be closed. */
  tend(nowMs: number): void {
    const { opened } = this;
    if (!opened) return;
    if (this.unflushed) {
      this.attempt(opened, 0, () => {
        opened.engine.flush();
        opened.store.flush();
      });
      this.unflushed = false;
    } else if (this.untidy) {
      this.untidy = false;
      this.attempt(opened, 0, () => opened.store.tidy());
    }
    const quietMs = nowMs - this.lastUsedMs;
    if (quietMs < this.options.limits.idleCloseMs || !this.mayClose()) return;
    this.close();
  }

  mayClose(): boolean {
    return this.opened !== null && this.opened.engine.idle && !this.wakesSoon();
  }

  fence(): void {
    while (this.mailbox.length > 0) this.work();
    const opened = this.opened;
    // Opened for its log alone: after this the one file must hold everything.
    let store = opened?.store ?? null;
    this.opened = null;
    try {
      store ??= this.openToFold();
      opened?.engine.flush();
      store?.flush();
      store?.fold();
    } catch (error) {
      // It must not stay locked, whoever opened it.
      store?.abandon();
      // On a full disk the log stays beside the file, and both together hold everything.
      if (storeFailure(error) === 'corrupt') this.putAside(String(error));
      else this.output.problem(this.handle, String(error));
    }
    this.outbox.discard();
    this.refuseAll('fenced');
  }

  unfence(): void {
    if (this.state === 'fenced') this.refusing = null;
    this.start(false);
  }

  /** Whoever waits for messages is told that the server stops, and asks the next one. */
  endPulls(): void {
    while (this.mailbox.length > 0) this.work();
    const { opened } = this;
    if (opened) this.attempt(opened, 0, () => opened.engine.endPulls());
  }

  /** Writes what waits and closes the file. */
  close(): void {
    const { opened } = this;
    if (!opened) return;
    this.opened = null;
    try {
      opened.engine.flush();
      opened.store.close();
    } catch (error) {
      // Only positions were lost: those messages are delivered again. The rest is in the log and
      // the tail, or can be counted.
      this.output.problem(this.handle, String(error));
      opened.store.abandon();
    }
    this.outbox.release();
  }

  private lastOpenError: CodedError | undefined;

  private open(): Opened | null {
    if (this.opened) return this.opened;
    const { account, clock } = this;
    let store: SqliteAccountStore | null = null;
    try {
      store = new SqliteAccountStore(account.file, { synchronous: this.options.synchronous });
      const engine = createEngine(account, store, this.outbox, clock);
      this.opened = { store, engine };
      this.noteWake();
      store.commit();
      this.outbox.release();
      this.lastUsedMs = clock.now();
      return this.opened;
    } catch (error) {
      this.opened = null;
      this.outbox.discard();
      store?.abandon();
      this.openFailed(error);
      return null;
    }
  }

  private openToFold(): SqliteAccountStore | null {
    if (!existsSync(this.account.file)) return null;
    return new SqliteAccountStore(this.account.file, { synchronous: this.options.synchronous });
  }

  private get openError(): CodedError {
    const details = { account: this.account.id, reason: 'it is not open' };
    return this.lastOpenError ?? JetStreamErrors.ACCOUNT_UNUSABLE(details);
  }

  private openFailed(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    if (storeFailure(error) === 'corrupt') return this.putAside(reason);
    this.lastOpenError = JetStreamErrors.ACCOUNT_UNUSABLE(
      { account: this.account.id, reason },
      { cause: error },
    );
    this.output.problem(this.handle, reason);
  }

  /** All in one transaction; when that fails, each by itself, so that readers are answered. */
  private together(opened: Opened, inputs: readonly EngineInput[]): void {
    const done = this.attempt(opened, inputs.length, () => {
      for (const input of inputs) opened.engine.handle(input);
    });
    if (!done && this.opened) this.oneByOne(opened, inputs);
    this.noteWake();
  }

  private oneByOne(opened: Opened, inputs: readonly EngineInput[]): void {
    let failures = 0;
    let lastError: Error = this.openError;
    for (const input of inputs) {
      if (!this.opened) return this.refuse([input], this.refusing?.error ?? this.openError);
      const hopeless = failures >= failuresTriedMax && input.kind === 'publish';
      const done =
        !hopeless &&
        this.attempt(
          opened,
          1,
          () => opened.engine.handle(input),
          (error) => (lastError = error),
        );
      if (done || !this.opened) continue;
      failures += 1;
      this.meter.refused(1);
      opened.engine.refuse(input, lastError);
      this.outbox.release();
    }
  }

  /**
   * One transaction: what is done in it is on disk before anything is said about it. A failure
   * undoes it in the file and in memory. @returns whether it was done
   */
  private attempt(
    { store, engine }: Opened,
    inputs: number,
    work: () => void,
    onError?: (error: Error) => void,
  ): boolean {
    try {
      work();
      const withPositions = engine.beforeCommit();
      if (store.dirty || withPositions) {
        const startedAt = performance.now();
        if (withPositions) store.flush();
        else store.commit();
        this.meter.committed(inputs, performance.now() - startedAt);
        this.untidy = true;
      }
      this.unflushed = true;
      this.outbox.release();
      if (this.untidy) store.checkpointIfLarge();
      return true;
    } catch (error) {
      onError?.(error as Error);
      this.failed({ store, engine }, error);
      return false;
    }
  }

  private failed({ store, engine }: Opened, error: unknown): void {
    this.outbox.discard();
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.output.problem(this.handle, reason);
    try {
      if (storeFailure(error) === 'corrupt') throw error;
      store.rollback();
      engine.reload();
      this.outbox.release();
    } catch (worse) {
      // What is in memory cannot be trusted any more: the next input opens the file anew.
      this.opened = null;
      this.outbox.discard();
      store.abandon();
      this.openFailed(worse);
    }
  }

  private putAside(reason: string): void {
    this.quarantined(quarantine(this.account.file, this.clock.now()), reason);
  }

  private quarantined(aside: string, reason: string): void {
    this.refusing = {
      state: 'quarantined',
      error: JetStreamErrors.ACCOUNT_QUARANTINED({ account: this.account.id, file: aside, reason }),
    };
    this.wakeAtMs = null;
    this.output.quarantined(this.handle, aside, reason);
  }

  private refuseAll(state: 'fenced'): void {
    const error = JetStreamErrors.ACCOUNT_FENCED({ account: this.account.id });
    this.refusing = { state, error };
    this.wakeAtMs = null;
  }

  private refuse(inputs: readonly EngineInput[], error: unknown): void {
    this.meter.refused(inputs.length);
    for (const input of inputs) {
      const answer = refusal(input, toCodedError(error));
      if (answer) this.output.send(this.handle, answer);
    }
  }

  private noteWake(): void {
    this.wakeAtMs = this.opened?.engine.nextWakeMs() ?? null;
  }

  private wakesSoon(): boolean {
    return this.wakeAtMs !== null && this.wakeAtMs - this.clock.now() < wakeSoonMs;
  }
}
