import { CoreErrors } from '@rookery/core';
import type { Fence, ProjectSpec } from '@rookery/core/contract';
import { BackupJournal, BackupProjects, type BackupJob } from '../backup.ports.js';

/** A journal that lasts as long as the process. */
export class MemoryBackupJournal extends BackupJournal {
  private readonly jobs = new Map<string, BackupJob>();
  private repository: string | undefined;

  async repositoryId(): Promise<string | undefined> {
    return this.repository;
  }

  async rememberRepository(id: string): Promise<void> {
    this.repository = id;
  }

  async get(operationId: string): Promise<BackupJob | undefined> {
    return this.jobs.get(operationId);
  }

  async put(job: BackupJob): Promise<void> {
    this.jobs.set(job.fence.operationId, structuredClone(job));
  }

  async active(): Promise<BackupJob[]> {
    return [...this.jobs.values()].filter(
      ({ state }) => state === 'pending' || state === 'running',
    );
  }
}

/** Books of a host that has what a test says it has. */
export class MemoryBackupProjects extends BackupProjects {
  readonly generations = new Map<string, number>();
  readonly restoring = new Map<string, Fence>();

  async authorize(fence: Fence): Promise<void> {
    const current = this.generations.get(fence.projectId);
    if (current === undefined) throw CoreErrors.NOT_FOUND({ what: 'project', id: fence.projectId });
    this.refuseOlder(fence, current);
  }

  async beginRestore(fence: Fence): Promise<void> {
    this.refuseOlder(fence, this.generations.get(fence.projectId) ?? 0);
    this.restoring.set(fence.projectId, fence);
  }

  async adoptRestored(fence: Fence, _spec: ProjectSpec): Promise<void> {
    this.restoring.delete(fence.projectId);
    this.generations.set(fence.projectId, fence.generation);
  }

  async abandonRestore(fence: Fence): Promise<void> {
    this.restoring.delete(fence.projectId);
  }

  private refuseOlder(fence: Fence, current: number): void {
    if (fence.generation < current) {
      throw CoreErrors.STALE_GENERATION({ given: fence.generation, current });
    }
  }
}
