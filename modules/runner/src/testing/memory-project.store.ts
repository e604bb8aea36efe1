import { KeyedLock } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import {
  emptyRecord,
  ProjectStore,
  type ProjectChange,
  type ProjectRecord,
} from '../project.store.js';

/** Records in memory: what a host's database would keep. */
export class MemoryProjectStore extends ProjectStore {
  private readonly records = new Map<ProjectId, ProjectRecord>();
  private readonly locks = new KeyedLock();
  /** Every state that was written, in order. */
  readonly history: string[] = [];

  async get(id: ProjectId): Promise<ProjectRecord | undefined> {
    return this.records.get(id);
  }

  async list(): Promise<ProjectRecord[]> {
    return [...this.records.values()];
  }

  change<T>(
    id: ProjectId,
    task: (
      record: ProjectRecord | undefined,
      save: (change: ProjectChange) => Promise<ProjectRecord>,
    ) => Promise<T>,
  ): Promise<T> {
    return this.locks.run(id, () =>
      task(this.records.get(id), async (change) => {
        const before = this.records.get(id) ?? { projectId: id, ...emptyRecord };
        const record = { ...before, ...change } as ProjectRecord;
        this.records.set(id, record);
        if (change.state !== undefined) this.history.push(change.state);
        return record;
      }),
    );
  }

  async remove(id: ProjectId): Promise<void> {
    this.records.delete(id);
  }
}
