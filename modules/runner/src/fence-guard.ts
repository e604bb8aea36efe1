import { CoreErrors } from '@rookery/core';
import type { Fence } from '@rookery/core/contract';
import { admitAttempt } from './attempts.js';
import type { ProjectChange, ProjectRecord, ProjectStore } from './project.store.js';
import { RunnerErrors } from './runner.errors.js';

/** A call of an operation that no other may run beside, or of one that may. */
export interface Admission {
  readonly exclusive: boolean;
}

/**
 * The one place that decides whether a call with effects may touch a project. What the call changes
 * in the record first is written with its admission, in one transaction: no other call comes between.
 */
export class FenceGuard {
  constructor(private readonly store: ProjectStore) {}

  /**
   * The project is here at exactly this generation, the call was not overtaken, and neither a move
   * nor a restore has shut out writers. Notes the attempt, durably.
   * @throws PROJECT_NOT_HERE, STALE_GENERATION, STALE_ATTEMPT, PROJECT_BUSY_MOVING,
   * PROJECT_BUSY_RESTORING, PROJECT_BUSY_ARCHIVING
   */
  async admit(fence: Fence, admission: Admission, change?: ProjectChange): Promise<ProjectRecord> {
    const { projectId } = fence;
    return this.store.change(projectId, (record, save, attempts) => {
      if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId });
      refuseOtherGeneration(record, fence);
      const known = admitAttempt(attempts.known, fence, admission);
      const opened = openTo(record, fence, admission);
      attempts.note(known);
      return change || opened ? save({ ...opened, ...change }) : record;
    });
  }

  /**
   * The same for a call that may bring the project here: an unknown one passes, and so does a newer
   * generation, since the hub has placed the project anew.
   */
  async admitNew(fence: Fence, change: Pick<ProjectRecord, 'spec'>): Promise<ProjectRecord> {
    const { projectId, generation } = fence;
    return this.store.change(projectId, (record, save, attempts) => {
      if (record && record.generation >= generation) refuseOtherGeneration(record, fence);
      const known = admitAttempt(attempts.known, fence, { exclusive: true });
      const opened = record && openTo(record, fence, { exclusive: true });
      attempts.note(known);
      return save({ ...opened, ...change, generation });
    });
  }

  /**
   * The same for a call that takes the project away: a newer generation passes, since the hub says
   * with it that this copy is of the past (its content was restored elsewhere).
   */
  async admitRemoval(fence: Fence, change: ProjectChange): Promise<ProjectRecord> {
    const { projectId } = fence;
    return this.store.change(projectId, (record, save, attempts) => {
      if (!record) throw RunnerErrors.PROJECT_NOT_HERE({ projectId });
      if (record.generation >= fence.generation) refuseOtherGeneration(record, fence);
      const known = admitAttempt(attempts.known, fence, { exclusive: true });
      const opened = openTo(record, fence, { exclusive: true });
      attempts.note(known);
      return save({ ...opened, ...change });
    });
  }
}

function refuseOtherGeneration(record: ProjectRecord, fence: Fence): void {
  // A newer generation is no better: this copy is then not the one that the caller means.
  if (record.generation === fence.generation) return;
  throw CoreErrors.STALE_GENERATION({ given: fence.generation, current: record.generation });
}

/**
 * Who shut the others out has the project for itself. Another such operation begins only when that
 * one has ended, however it ended: what it left shut is open again.
 * @returns what is to be written with the admission
 */
function openTo(
  record: ProjectRecord,
  fence: Fence,
  { exclusive }: Admission,
): ProjectChange | undefined {
  const isOwn = record.shutOutBy === fence.operationId;
  refuseBusy(isOwn || exclusive ? { ...record, shutOutBy: null } : record);
  return record.shutOutBy === null || isOwn ? undefined : { shutOutBy: null };
}

/** @throws PROJECT_BUSY_MOVING, PROJECT_BUSY_RESTORING, PROJECT_BUSY_ARCHIVING */
export function refuseBusy(record: ProjectRecord): void {
  const { projectId } = record;
  if (record.fencedBy !== null) throw RunnerErrors.PROJECT_BUSY_MOVING({ projectId });
  if (record.restoringBy !== null) throw RunnerErrors.PROJECT_BUSY_RESTORING({ projectId });
  if (record.shutOutBy !== null) throw RunnerErrors.PROJECT_BUSY_ARCHIVING({ projectId });
}
