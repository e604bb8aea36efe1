import { CoreErrors } from '@rookery/core';
import type { Fence } from '@rookery/core/contract';
import type { ProjectRecord, ProjectStore } from './project.store.js';
import { RunnerErrors } from './runner.errors.js';

/** The one place that decides whether a call with effects may touch a project. */
export class FenceGuard {
  constructor(private readonly store: ProjectStore) {}

  /**
   * The project is here at exactly this generation, the attempt is not an older one of its
   * operation, and neither a move nor a restore has shut out writers. Notes the attempt, durably.
   * @throws PROJECT_NOT_HERE, STALE_GENERATION, STALE_ATTEMPT, PROJECT_BUSY_MOVING,
   * PROJECT_BUSY_RESTORING
   */
  async admit(fence: Fence): Promise<ProjectRecord> {
    const { projectId, operationId, attempt } = fence;
    return this.store.change(projectId, (record, save) => {
      if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId });
      refuseStale(record, fence);
      refuseBusy(record);
      if (record.operationId === operationId && record.attempt === attempt) return record;
      return save({ operationId, attempt });
    });
  }

  /**
   * The same for a call that may bring the project here: an unknown one passes, and so does a newer
   * generation, since the hub has placed the project anew.
   */
  async admitNew(fence: Fence, change: Pick<ProjectRecord, 'spec'>): Promise<ProjectRecord> {
    const { projectId, generation, operationId, attempt } = fence;
    return this.store.change(projectId, (record, save) => {
      if (record) {
        if (record.generation >= generation) refuseStale(record, fence);
        refuseBusy(record);
      }
      return save({ ...change, generation, operationId, attempt });
    });
  }

  /**
   * The same for a call that takes the project away: a newer generation passes, since the hub says
   * with it that this copy is of the past (its content was restored elsewhere).
   */
  async admitRemoval(fence: Fence): Promise<ProjectRecord> {
    const { projectId, operationId, attempt } = fence;
    return this.store.change(projectId, (record, save) => {
      if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId });
      if (record.generation >= fence.generation) refuseStale(record, fence);
      refuseBusy(record);
      return save({ operationId, attempt });
    });
  }
}

function refuseStale(record: ProjectRecord, fence: Fence): void {
  // A newer generation is no better: this copy is then not the one that the caller means.
  if (record.generation !== fence.generation) {
    throw CoreErrors.STALE_GENERATION({ given: fence.generation, current: record.generation });
  }
  if (record.operationId === fence.operationId && record.attempt > fence.attempt) {
    throw CoreErrors.STALE_ATTEMPT({ given: fence.attempt, current: record.attempt });
  }
}

/** @throws PROJECT_BUSY_MOVING, PROJECT_BUSY_RESTORING */
export function refuseBusy(record: ProjectRecord): void {
  const { projectId } = record;
  if (record.fencedBy !== null) throw RunnerErrors.PROJECT_BUSY_MOVING({ projectId });
  if (record.restoringBy !== null) throw RunnerErrors.PROJECT_BUSY_RESTORING({ projectId });
}
