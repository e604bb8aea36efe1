import { BackupProjects } from '@rookery/backup';
import { CoreErrors } from '@rookery/core';
import type { Fence, ProjectId, ProjectSpec } from '@rookery/core/contract';
import { admitAttempt, RunnerErrors } from '@rookery/runner';
import type { ProjectRepository } from './project.repository.js';

/** Brings a project's persistence in line with the books. */
export interface ProjectStores {
  settle(projectId: ProjectId): Promise<void>;
}

/** The books as backups and restores need them. */
export class SqliteBackupProjects extends BackupProjects {
  constructor(
    private readonly books: ProjectRepository,
    private readonly stores: ProjectStores,
  ) {
    super();
  }

  async authorize(fence: Fence): Promise<void> {
    await this.books.admit(fence);
  }

  async beginRestore(fence: Fence, spec: ProjectSpec): Promise<void> {
    const { projectId, generation, operationId } = fence;
    await this.books.change(projectId, (row, save, attempts) => {
      const known = admitAttempt(attempts.known, fence, { exclusive: true });
      if (row) {
        if (row.generation > generation) {
          throw CoreErrors.STALE_GENERATION({ given: generation, current: row.generation });
        }
        if (row.fencedBy !== null) throw RunnerErrors.PROJECT_BUSY_MOVING({ projectId });
        if (row.restoringBy !== null && row.restoringBy !== operationId) {
          throw RunnerErrors.PROJECT_BUSY_RESTORING({ projectId });
        }
        if (row.state === 'running' || row.state === 'starting' || row.state === 'stopping') {
          throw RunnerErrors.PROJECT_NOT_STOPPED({ projectId, state: row.state });
        }
      }
      // A row that was not there before is marked by generation -1 until it is adopted.
      const fresh = row ? {} : { spec, generation: -1, desiredState: 'stopped' as const };
      attempts.note(known);
      save({ ...fresh, restoringBy: operationId, shutOutBy: null });
    });
    // What a restore replaces must not be written to meanwhile.
    await this.stores.settle(projectId);
  }

  async adoptRestored(fence: Fence, spec: ProjectSpec): Promise<void> {
    await this.books.change(fence.projectId, (row, save) => {
      if (row && row.generation > fence.generation) return;
      save({
        generation: fence.generation,
        spec,
        desiredState: 'stopped',
        state: 'stopped',
        restoringBy: null,
        // The reference is resolved anew, or taken from the spec's pin.
        imageRef: null,
        imageDigest: null,
        error: null,
      });
    });
  }

  async abandonRestore({ projectId, operationId }: Fence): Promise<void> {
    const drop = await this.books.change(projectId, (row, save) => {
      if (row?.restoringBy !== operationId) return false;
      if (row.generation === -1) return true;
      save({ restoringBy: null });
      return false;
    });
    if (drop) await this.books.remove(projectId);
  }
}
