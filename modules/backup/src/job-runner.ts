import { abortedBy, CoreErrors, toCodedError, type Clock } from '@rookery/core';
import type { Fence, Progress } from '@rookery/core/contract';
import type { JobContext } from '@rookery/rpc/contract';
import { BackupErrors } from './backup.errors.js';
import type { BackupJob, BackupJobKind, BackupJournal } from './backup.ports.js';
import { JobSlots, type JobSlot } from './job-slots.js';

/** What a job leaves in its row when it has succeeded. */
export type JobOutcome = Pick<BackupJob, 'record' | 'result'>;

export interface JobTools {
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
  /** What an earlier attempt of the same operation left. */
  readonly earlier: BackupJob | undefined;
  /** Adds to the job's row, durably. */
  readonly note: (change: Pick<BackupJob, 'stagingId' | 'finishing'>) => Promise<void>;
}

export interface JobLimits {
  readonly concurrencyMax: number;
  readonly jobMsMax: number;
  readonly slotMsMax: number;
}

type Work = (tools: JobTools) => Promise<JobOutcome>;

interface Running {
  readonly operationId: string;
  readonly outcome: Promise<JobOutcome>;
  readonly listeners: Set<JobContext>;
  readonly abort: AbortController;
}

/**
 * Runs jobs: pending → running → succeeded | failed, each change in the journal first.
 *
 * One job a project at a time; a second call of the same operation joins it, one of another is
 * refused. Of all projects at most `concurrencyMax` run, the others are pending; one that takes
 * long stands in nobody's way, and one that takes too long is ended. A job that
 * succeeded answers a repeated call from its row. When every caller has gone, the job is aborted:
 * its operation comes back with a higher attempt, or was canceled.
 */
export class JobRunner {
  private readonly running = new Map<string, Running>();
  private readonly ending = new Set<string>();
  private readonly slots: JobSlots;

  constructor(
    private readonly journal: BackupJournal,
    private readonly clock: Clock,
    private readonly limits: JobLimits,
  ) {
    this.slots = new JobSlots(limits.concurrencyMax);
  }

  async run(
    kind: BackupJobKind,
    fence: Fence,
    context: JobContext,
    work: Work,
  ): Promise<JobOutcome> {
    if (this.ending.has(fence.operationId)) throw BackupErrors.RESTORE_GIVEN_UP();
    const current = this.running.get(fence.projectId);
    if (current && current.operationId !== fence.operationId) {
      throw BackupErrors.BACKUP_IN_PROGRESS({ projectId: fence.projectId });
    }
    if (current) return this.join(current, context);
    const abort = new AbortController();
    const started: Running = {
      operationId: fence.operationId,
      listeners: new Set(),
      abort,
      outcome: this.perform(kind, fence, work, abort.signal),
    };
    // Without an await since the look into the map: no other call can have come between.
    this.running.set(fence.projectId, started);
    void started.outcome.finally(() => this.running.delete(fence.projectId)).catch(() => undefined); // told to those who joined
    return this.join(started, context);
  }

  /** Operations under way here and now. */
  active(): ReadonlySet<string> {
    return new Set([...this.running.values()].map(({ operationId }) => operationId));
  }

  /** Ends an operation's job if it runs; until the task is over no other call of it begins. */
  async whileEnded<T>(operationId: string, task: () => Promise<T>): Promise<T> {
    this.ending.add(operationId);
    try {
      const running = [...this.running.values()].filter((each) => each.operationId === operationId);
      for (const { abort } of running) abort.abort(CoreErrors.CANCELED());
      await Promise.allSettled(running.map(({ outcome }) => outcome));
      return await task();
    } finally {
      this.ending.delete(operationId);
    }
  }

  /** Aborts all and waits for their ends. */
  async close(): Promise<void> {
    const all = [...this.running.values()];
    const stopping = CoreErrors.INTERRUPTED({ reason: 'the host is being stopped' });
    for (const { abort } of all) abort.abort(stopping);
    await Promise.allSettled(all.map(({ outcome }) => outcome));
  }

  private async join(running: Running, context: JobContext): Promise<JobOutcome> {
    const { listeners, abort, outcome } = running;
    const leave = (): void => {
      listeners.delete(context);
      if (listeners.size === 0) abort.abort(context.signal.reason);
    };
    listeners.add(context);
    if (context.signal.aborted) leave();
    context.signal.addEventListener('abort', leave, { once: true });
    try {
      return await outcome;
    } finally {
      context.signal.removeEventListener('abort', leave);
    }
  }

  private async perform(
    kind: BackupJobKind,
    fence: Fence,
    work: Work,
    canceled: AbortSignal,
  ): Promise<JobOutcome> {
    const timeout = new AbortController();
    const signal = AbortSignal.any([canceled, timeout.signal]);
    const earlier = await this.journal.get(fence.operationId);
    if (earlier && earlier.fence.attempt > fence.attempt) {
      throw CoreErrors.STALE_ATTEMPT({ given: fence.attempt, current: earlier.fence.attempt });
    }
    if (earlier?.givenUp === true) throw BackupErrors.RESTORE_GIVEN_UP();
    if (earlier?.state === 'succeeded') return earlier;
    let row: BackupJob = {
      fence,
      kind,
      state: 'pending',
      startedAt: this.clock.now(),
      ...(earlier?.stagingId !== undefined && { stagingId: earlier.stagingId }),
      ...(earlier?.finishing !== undefined && { finishing: earlier.finishing }),
    };
    const put = async (change: Partial<BackupJob>): Promise<void> => {
      row = { ...row, ...change };
      await this.journal.put(row);
    };
    await put({});
    try {
      const slot = await this.slots.take(signal);
      const ended = new AbortController();
      try {
        await put({ state: 'running' });
        this.watch(slot, timeout, ended.signal);
        const progress = (step: Progress): void => {
          for (const listener of this.running.get(fence.projectId)?.listeners ?? []) {
            listener.progress(step);
          }
        };
        const outcome = await work({ signal, progress, earlier, note: put });
        await put({ state: 'succeeded', endedAt: this.clock.now(), ...outcome });
        return outcome;
      } finally {
        ended.abort();
        slot.release();
      }
    } catch (error) {
      const coded = signal.aborted ? abortedBy(signal, error) : toCodedError(error);
      // What can only go forward stays under way: it is settled by a later look at the journal.
      const state = row.finishing ? 'running' : 'failed';
      await put({ state, endedAt: this.clock.now(), error: coded.toJSON() });
      throw coded;
    }
  }

  /** A job that takes long lets others begin; one that takes too long is ended. */
  private watch(slot: JobSlot, timeout: AbortController, ended: AbortSignal): void {
    const { slotMsMax, jobMsMax } = this.limits;
    const after = (ms: number, then: () => void): void => {
      this.clock.delay(ms, ended).then(then, () => undefined); // it has ended before
    };
    after(slotMsMax, () => slot.handOn());
    const limit = `${Math.round(jobMsMax / 3_600_000)} h`;
    after(jobMsMax, () => timeout.abort(BackupErrors.BACKUP_TIMEOUT({ limit })));
  }
}
