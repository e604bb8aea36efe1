import { KeyedLock } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';

/** One change at a time a project. */
export class ProjectLocks {
  private readonly lock = new KeyedLock();
  private readonly users = new Map<ProjectId, number>();

  async run<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    this.users.set(id, (this.users.get(id) ?? 0) + 1);
    try {
      return await this.lock.run(id, task);
    } finally {
      const left = (this.users.get(id) ?? 1) - 1;
      if (left > 0) this.users.set(id, left);
      else this.users.delete(id);
    }
  }

  /** Whether somebody holds the lock or waits for it. */
  isHeld(id: ProjectId): boolean {
    return this.users.has(id);
  }
}
