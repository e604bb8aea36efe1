import { abortedBy, CodedError, CoreErrors } from '@rookery/core';

interface Work {
  readonly key: string;
  readonly abort: AbortController;
  readonly done: Promise<void>;
  /** What it waits for: a request that it repeats. */
  before?: Work | undefined;
}

/**
 * One piece of work a move at a time. Work under an equal key (same kind, same attempt: a repeated
 * request) waits for the one before; any other (an undo, a newer attempt) ends it first. So an
 * undo never runs beside the step that it undoes.
 */
export class MoveWork {
  private readonly last = new Map<string, Work>();

  async run<T>(
    moveId: string,
    key: string,
    options: { readonly signal: AbortSignal; readonly preempted: () => CodedError },
    task: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const before = this.last.get(moveId);
    if (before && before.key !== key) end(before, options.preempted());
    const abort = new AbortController();
    let finish!: () => void;
    const done = new Promise<void>((resolve) => (finish = resolve));
    const work: Work = { key, abort, done, before };
    this.last.set(moveId, work);
    const signal = AbortSignal.any([abort.signal, options.signal]);
    try {
      await before?.done;
      work.before = undefined;
      signal.throwIfAborted();
      return await task(signal);
    } catch (error) {
      // What an aborted stream throws says nothing; the reason does.
      if (abort.signal.aborted) throw abort.signal.reason;
      if (options.signal.aborted) throw abortedBy(options.signal, error);
      throw error;
    } finally {
      finish();
      if (this.last.get(moveId) === work) this.last.delete(moveId);
    }
  }

  /** Ends all work and waits for it: the host shuts down. */
  async close(): Promise<void> {
    const all = [...this.last.values()];
    const stopping = CoreErrors.INTERRUPTED({ reason: 'the host is being stopped' });
    for (const work of all) end(work, stopping);
    await Promise.all(all.map((work) => work.done));
  }
}

/** Ends it and all that it waits for: the one that runs may be the first of several requests. */
function end(work: Work, reason: CodedError): void {
  for (let each: Work | undefined = work; each; each = each.before) each.abort.abort(reason);
}
