import { CodedError, CoreErrors, toCodedError, type Clock } from '@rookery/core';
import { ProgressSink } from './progress-sink.js';
import { isLostLease, keepLease, orAborted } from './saga.lease.js';
import type { LeaseGuard, RetryPolicy, SagaOutcome, SagaRecord, SagaStore } from './saga.ports.js';
import { StepWaits, type Saga, type SagaEnding, type SagaTypes, type Step } from './saga.js';
import type { StepContext } from './saga.js';

export interface SagaRunOptions {
  readonly store: SagaStore;
  readonly clock: Clock;
  readonly retry: RetryPolicy;
  readonly mustRetry: RetryPolicy;
  readonly backoff: (n: number, policy: RetryPolicy) => number;
  readonly renewAfter: number;
  readonly signal: AbortSignal | undefined;
}

/** So often one step may be interrupted by restarts, besides its tries. */
const interruptionsMax = 50;

const workerStops = CoreErrors.INTERRUPTED({ reason: 'the worker stops' });

/**
 * Nobody but who asked for this operation's cancel cancels it. Another side that says so was stopped,
 * or lost the one that it heard.
 */
function asFailure(error: unknown): CodedError {
  const coded = toCodedError(error);
  if (coded.code !== 'CANCELED') return coded;
  return CoreErrors.INTERRUPTED({ reason: 'the other side gave up' }, { cause: coded });
}

/** This run must stop at once and touch nothing more: someone else goes on. */
class Interrupted extends Error {}

/** Retries are used up where giving up is not allowed. */
class Stuck extends Error {
  constructor(readonly error: CodedError) {
    super(error.message);
  }
}

/**
 * One run of one operation, from where its record stands.
 *
 * Going forward, steps run one after another. An error or a cancel before the point of no return
 * turns the saga: the record says `undoing`, the point of no return is barred, and the undos run
 * from the failed step back to the first. If the bar finds that the point was passed after all, the
 * saga turns again, to forward only. Past the point, and in undos, errors are repeated; when that
 * does not help, the operation is stuck, where it stands, to be run again later.
 */
export class SagaRun<T extends SagaTypes> {
  private record: SagaRecord;
  /** Lease lost or worker stopping: everything ends. */
  private readonly halt = new AbortController();
  /** The operation is canceled: the forward step ends, the undo runs. */
  private readonly cancel = new AbortController();
  private readonly progress: ProgressSink;

  constructor(
    private readonly saga: Saga<T>,
    private readonly ports: T['ports'],
    private readonly lease: LeaseGuard,
    record: SagaRecord,
    private readonly options: SagaRunOptions,
  ) {
    this.record = { ...record, attempt: lease.attempt, status: 'running' };
    this.progress = new ProgressSink((progress) =>
      options.store.saveProgress(record.operationId, lease.attempt, progress),
    );
  }

  async drive(): Promise<SagaOutcome<T['result']>> {
    const ended = new AbortController();
    const stop = (): void => this.halt.abort(workerStops);
    const { signal } = this.options;
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
    const keeper = keepLease(this.lease, {
      clock: this.options.clock,
      everyMs: this.lease.leaseMs * this.options.renewAfter,
      until: ended.signal,
      halt: this.halt,
      onCancelRequested: () => this.onCancelRequested(),
    });
    try {
      return await this.travel();
    } catch (error) {
      if (error instanceof Interrupted) return { status: 'interrupted' };
      if (error instanceof StepWaits) return { status: 'waiting' };
      if (error instanceof Stuck) return await this.becomeStuck(error.error);
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
      this.progress.close();
      ended.abort();
      await keeper;
    }
  }

  private async travel(): Promise<SagaOutcome<T['result']>> {
    if (this.record.direction === 'forward') {
      const failure = await this.goForward();
      if (!failure) return this.succeed();
      await this.save({ direction: 'undoing', error: failure.toJSON() });
    }
    if ((await this.turnBack()) === 'forward') {
      const failure = await this.goForward();
      // Forward only: goForward either ends or is stuck.
      if (failure) throw new Stuck(failure);
      return this.succeed();
    }
    await this.goBack();
    const error = this.record.error ?? CoreErrors.CANCELED().toJSON();
    const status = error.code === 'CANCELED' ? 'canceled' : 'failed';
    await this.end(status);
    await this.save({ status });
    return { status, error };
  }

  /** Runs steps until the last, or the first that fails. @returns why to turn back */
  private async goForward(): Promise<CodedError | undefined> {
    const { steps, pointOfNoReturn } = this.saga;
    for (let index = this.index(); index < steps.length; index += 1) {
      const step = steps[index]!;
      const forwardOnly = this.record.forwardOnly || index > pointOfNoReturn;
      const { cancelRequested } = await this.save({
        step: step.name,
        forwardOnly,
        // From here on a cancel is refused; one that came before shows in this very save.
        cancelable: index < pointOfNoReturn && !forwardOnly,
        retry: undefined,
      });
      if (cancelRequested && !forwardOnly) return CoreErrors.CANCELED();
      try {
        const patch = await this.repeat(
          () => step.do(this.context(!forwardOnly)),
          forwardOnly ? this.options.mustRetry : { ...this.options.retry, ...step.retry },
          forwardOnly ? 'any' : 'retryable',
        );
        if (patch) this.merge(patch);
      } catch (error) {
        if (error instanceof Interrupted || error instanceof StepWaits) throw error;
        if (forwardOnly) throw new Stuck(toCodedError(error));
        return this.cancel.signal.aborted ? CoreErrors.CANCELED() : asFailure(error);
      }
    }
    return undefined;
  }

  /**
   * Bars the point of no return before anything is undone: a worker that was thought dead may stand
   * right before it, and a lost reply may hide that it was passed.
   */
  private async turnBack(): Promise<'undo' | 'forward'> {
    const step = this.saga.steps[this.saga.pointOfNoReturn];
    const bar = step?.pointOfNoReturn;
    if (!step || !bar) return 'undo';
    const answer = await this.must(() => bar(this.context(false)));
    if (answer === 'forward') {
      await this.save({
        direction: 'forward',
        step: step.name,
        forwardOnly: true,
        cancelable: false,
        error: undefined,
      });
    }
    return answer;
  }

  private async goBack(): Promise<void> {
    const { steps, pointOfNoReturn } = this.saga;
    for (let index = Math.min(this.index(), pointOfNoReturn); index >= 0; index -= 1) {
      const step = steps[index];
      if (!step || typeof step.undo !== 'function') continue;
      const { undo } = step;
      await this.save({ step: step.name, retry: undefined });
      await this.must(() => undo(this.context(false)));
    }
  }

  private async succeed(): Promise<SagaOutcome<T['result']>> {
    await this.end('succeeded');
    const result = this.saga.result(this.record.state, this.record.input);
    await this.save({
      status: 'succeeded',
      result,
      cancelable: false,
      error: undefined,
      retry: undefined,
    });
    return { status: 'succeeded', result };
  }

  private async becomeStuck(error: CodedError): Promise<SagaOutcome<T['result']>> {
    try {
      await this.save({ status: 'stuck', retry: { count: 0, error: error.toJSON() } });
    } catch (failure) {
      if (failure instanceof Interrupted) return { status: 'interrupted' };
      throw failure;
    }
    // The record says it already; the hook only shows it elsewhere as well.
    await this.saga.ended?.(this.context(false), 'stuck').catch(() => undefined);
    return { status: 'stuck', error: error.toJSON() };
  }

  private async end(ending: SagaEnding): Promise<void> {
    const { ended } = this.saga;
    if (ended) await this.must(() => ended(this.context(false), ending));
  }

  /** Repeats after any error; when that does not help, the operation is stuck. */
  private async must<R>(task: () => Promise<R>): Promise<R> {
    try {
      return await this.repeat(task, this.options.mustRetry, 'any');
    } catch (error) {
      if (error instanceof Interrupted) throw error;
      throw new Stuck(toCodedError(error));
    }
  }

  private async repeat<R>(
    task: () => Promise<R>,
    policy: RetryPolicy,
    which: 'any' | 'retryable',
  ): Promise<R> {
    const { halt, cancel } = this;
    let interruptions = 0;
    for (let n = 0; ; n += 1) {
      this.throwIfHalted();
      if (which === 'retryable' && cancel.signal.aborted) throw CoreErrors.CANCELED();
      try {
        return await orAborted(task(), halt.signal);
      } catch (error) {
        this.throwIfHalted();
        if (isLostLease(error)) throw new Interrupted('a newer attempt is under way');
        if (error instanceof StepWaits) throw error;
        const coded = asFailure(error);
        interruptions += coded.code === 'INTERRUPTED' ? 1 : 0;
        const canceled = which === 'retryable' && cancel.signal.aborted;
        const hopeless = which === 'retryable' && !coded.retryable;
        // A host that was restarted is no try that failed, but it must not go on for ever.
        const failed = n + 1 - Math.min(interruptions, interruptionsMax);
        if (canceled || hopeless || failed >= policy.attempts) throw error;
        await this.save({ retry: { count: n + 1, error: coded.toJSON() } });
        await this.pause(
          this.options.backoff(n, policy),
          which === 'retryable' ? AbortSignal.any([halt.signal, cancel.signal]) : halt.signal,
        );
      }
    }
  }

  private context(cancelable: boolean): StepContext<T> {
    const { record, lease } = this;
    return {
      ports: this.ports,
      // The record keeps plain JSON; only this saga's own steps wrote it.
      input: record.input as T['input'],
      state: record.state as T['state'],
      operationId: lease.operationId,
      attempt: lease.attempt,
      claim: lease.claim,
      signal: cancelable
        ? AbortSignal.any([this.halt.signal, this.cancel.signal])
        : this.halt.signal,
      progress: (progress) => {
        if (!this.halt.signal.aborted) this.progress.push(progress);
      },
      save: async (patch) => {
        this.merge(patch);
        await this.save({});
      },
    };
  }

  private merge(patch: Partial<T['state']>): void {
    this.record = { ...this.record, state: { ...this.record.state, ...patch } };
  }

  /** Repeats until the store answers: without a saved record no step may run. */
  private async save(change: Partial<SagaRecord>): Promise<{ cancelRequested: boolean }> {
    this.throwIfHalted();
    this.record = { ...this.record, ...change };
    for (let n = 0; ; n += 1) {
      try {
        return await orAborted(this.options.store.save(this.record), this.halt.signal);
      } catch (error) {
        this.throwIfHalted();
        if (isLostLease(error)) throw new Interrupted('the lease is lost');
        if (n + 1 >= this.options.mustRetry.attempts) {
          throw new Interrupted('the record cannot be saved', { cause: error });
        }
        await this.pause(this.options.backoff(n, this.options.mustRetry), this.halt.signal);
      }
    }
  }

  private async pause(ms: number, signal: AbortSignal): Promise<void> {
    await this.options.clock.delay(ms, signal).catch(() => undefined);
    this.throwIfHalted();
  }

  private throwIfHalted(): void {
    const { signal } = this.halt;
    if (signal.aborted) throw new Interrupted('this worker stops', { cause: signal.reason });
  }

  private onCancelRequested(): void {
    if (this.record.cancelable && this.record.direction === 'forward') {
      this.cancel.abort(CoreErrors.CANCELED());
    }
  }

  private index(): number {
    return this.saga.steps.findIndex((each: Step<T>) => each.name === this.record.step);
  }
}
