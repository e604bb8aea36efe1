import type { CodedError } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';

interface Writer {
  readonly abort: AbortController;
  readonly done: Promise<unknown>;
}

/**
 * Work on this host's side that writes to projects: snapshots, restores, backups. A move's fence,
 * and an archiving's, refuses new work by the books; this ends what was under way before the fence.
 */
export class HostWriters {
  private readonly running = new Map<ProjectId, Set<Writer>>();

  async run<T>(
    projectId: ProjectId,
    signal: AbortSignal,
    task: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const abort = new AbortController();
    const done = task(AbortSignal.any([signal, abort.signal]));
    const writer: Writer = { abort, done };
    const writers = this.running.get(projectId) ?? new Set();
    this.running.set(projectId, writers.add(writer));
    try {
      return await done;
    } finally {
      writers.delete(writer);
      if (writers.size === 0) this.running.delete(projectId);
    }
  }

  /** Aborts what can be aborted and waits for all of it. */
  async end(projectId: ProjectId, reason: CodedError): Promise<void> {
    const writers = [...(this.running.get(projectId) ?? [])];
    for (const { abort } of writers) abort.abort(reason);
    await Promise.allSettled(writers.map(({ done }) => done));
  }
}
