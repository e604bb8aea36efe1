import { CoreErrors } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import {
  emptyRecord,
  ProjectStore,
  type AttemptMemory,
  type ProjectChange,
  type ProjectRecord,
} from '../project.store.js';
import { noAttempts, type KnownAttempts } from '../attempts.js';

/** Records in memory: what a host's database would keep. */
export class MemoryProjectStore extends ProjectStore {
  private readonly records = new Map<ProjectId, ProjectRecord>();
  private readonly attempts = new Map<ProjectId, KnownAttempts>();
  /** Every state that was written, in order. */
  readonly history: string[] = [];

  async get(id: ProjectId): Promise<ProjectRecord | undefined> {
    return this.records.get(id);
  }

  async list(): Promise<ProjectRecord[]> {
    return [...this.records.values()];
  }

  async change<T>(
    id: ProjectId,
    task: (
      record: ProjectRecord | undefined,
      save: (change: ProjectChange) => ProjectRecord,
      attempts: AttemptMemory,
    ) => T,
  ): Promise<T> {
    const before = this.records.get(id);
    const states: string[] = [];
    let record = before;
    let known = this.attempts.get(id) ?? noAttempts;
    const save = (change: ProjectChange): ProjectRecord => {
      record = { projectId: id, ...emptyRecord, ...record, ...change } as ProjectRecord;
      if (change.state !== undefined) states.push(change.state);
      return record;
    };
    const result = task(before, save, { known, note: (next) => void (known = next) });
    if (result instanceof Promise) throw CoreErrors.INTERNAL({ reason: 'a change that waits' });
    // What the task throws leaves everything as it was.
    if (record) this.records.set(id, record);
    this.attempts.set(id, known);
    this.history.push(...states);
    return result;
  }

  async remove(id: ProjectId): Promise<void> {
    this.records.delete(id);
  }
}
