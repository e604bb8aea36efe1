import type { RunnerService } from '@rookery/runner';
import type { ProjectId } from '@rookery/core/contract';
import type { ProjectStores } from '../books/backup-projects.js';
import type { ContainerControl } from '../books/move-projects.js';
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

  async endWriters(projectId: ProjectId): Promise<void> {
    this.runner.endSessions(projectId);
    await this.writers.end(projectId);
    await this.stores.settle(projectId);
    // Whatever start, stop or repair was under way is over when this turn comes.
    await this.runner.runtime.exclusively(projectId, async () => undefined);
  }
}
