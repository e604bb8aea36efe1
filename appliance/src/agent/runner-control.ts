import type { CodedError } from '@rookery/core';
import { RunnerErrors, type RunnerService } from '@rookery/runner';
import type { ProjectId } from '@rookery/core/contract';
import type { ProjectStores } from '../projects/backup-projects.js';
import type { ContainerControl } from '../projects/move-projects.js';
import type { HostWriters } from './host-writers.js';

/** The runner as moves and the hub's books need it. */
export class RunnerControl implements ContainerControl {
  constructor(
    private readonly runner: RunnerService,
    private readonly writers: HostWriters,
    private readonly stores: ProjectStores,
  ) {}

  stop(projectId: ProjectId): Promise<void> {
    return this.runner.stopContainer(projectId);
  }

  ensureRunning(projectId: ProjectId): Promise<void> {
    return this.runner.ensureRunning(projectId);
  }

  endWriters(projectId: ProjectId): Promise<void> {
    return this.shutOut(projectId, RunnerErrors.PROJECT_BUSY_MOVING({ projectId }));
  }

  /** New writers are refused already; ends those that came before, for this reason. */
  async shutOut(projectId: ProjectId, reason: CodedError): Promise<void> {
    this.runner.endSessions(projectId);
    await this.writers.end(projectId, reason);
    await this.stores.settle(projectId);
    // Whatever start, stop or repair was under way is over when this turn comes.
    await this.runner.runtime.exclusively(projectId, async () => undefined);
  }
}
