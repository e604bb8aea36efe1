import type { MoveId, ProjectId, ProjectListener, ProjectSpec } from '@rookery/core/contract';
import { HostProjects, IngressGate, MoveErrors, type HostProject } from '@rookery/move';
import type { ProjectRepository } from './project.repository.js';

/** What the books cannot do themselves: containers, and ending writers that are under way. */
export interface ContainerControl {
  /** Ends the container whatever the wish is. */
  stop(projectId: ProjectId): Promise<void>;
  /** Starts it when it is wanted; resolves when it runs. */
  ensureRunning(projectId: ProjectId): Promise<void>;
  /** Ends writers on this host's side (snapshots, restores, backups) and waits for them. */
  endWriters(projectId: ProjectId): Promise<void>;
}

/** The books as a move needs them. */
export class SqliteHostProjects extends HostProjects {
  constructor(
    private readonly books: ProjectRepository,
    private readonly containers: ContainerControl,
  ) {
    super();
  }

  async get(projectId: ProjectId): Promise<HostProject | undefined> {
    const row = await this.books.get(projectId);
    // A restore that has not ended is not a project yet.
    if (!row || row.generation < 0) return undefined;
    return {
      projectId,
      generation: row.generation,
      spec: row.spec,
      state: row.state,
      ...(row.imageDigest !== null && { imageDigest: row.imageDigest }),
      desiredRunning: row.desiredState === 'running',
      listeners: row.listeners,
    };
  }

  async fenceForMove(projectId: ProjectId, moveId: MoveId): Promise<void> {
    await this.books.change(projectId, (row, save) => {
      if (!row) throw MoveErrors.MOVE_NOT_OWNER({ projectId });
      if (row.fencedBy === moveId) return;
      if (row.fencedBy !== null || row.restoringBy !== null) throw MoveErrors.PROJECT_MOVING();
      save({ fencedBy: moveId, shutOutBy: null });
    });
    // New writers are refused from here on; those that came before are waited for.
    await this.containers.endWriters(projectId);
  }

  async unfence(projectId: ProjectId, moveId: MoveId): Promise<void> {
    await this.books.change(projectId, (row, save) => {
      if (row?.fencedBy === moveId) save({ fencedBy: null });
    });
  }

  async isFencedBy(projectId: ProjectId): Promise<MoveId | undefined> {
    return (await this.books.get(projectId))?.fencedBy ?? undefined;
  }

  async stopContainer(projectId: ProjectId): Promise<void> {
    await this.containers.stop(projectId);
  }

  async startContainer(projectId: ProjectId): Promise<void> {
    const row = await this.books.get(projectId);
    if (row?.desiredState === 'running') await this.containers.ensureRunning(projectId);
  }

  async adopt(
    projectId: ProjectId,
    generation: number,
    spec: ProjectSpec,
    desiredRunning: boolean,
    listeners: readonly ProjectListener[] = [],
  ): Promise<void> {
    await this.books.change(projectId, (row, save) => {
      if (row && row.generation >= generation) return;
      save({
        generation,
        spec,
        desiredState: desiredRunning ? 'running' : 'stopped',
        state: 'stopped',
        imageRef: null,
        imageDigest: null,
        address: null,
        linkIndex: null,
        startedAt: null,
        listeners,
        startsAgainBy: null,
        error: null,
        fencedBy: null,
        restoringBy: null,
        shutOutBy: null,
        // Requests go on waiting until the project runs here: `release` follows.
        ingressState: 'held',
      });
    });
  }

  async forget(projectId: ProjectId, newUrl?: string): Promise<void> {
    if (!(await this.books.get(projectId))) return;
    await this.containers.stop(projectId);
    await this.books.leave(projectId, newUrl);
  }
}

/** The ingress reads the books at each request: what is written here holds at once. */
export class SqliteIngressGate extends IngressGate {
  constructor(private readonly books: ProjectRepository) {
    super();
  }

  async hold(projectId: ProjectId): Promise<void> {
    await this.books.change(projectId, (row, save) => {
      if (row && row.ingressState !== 'held') save({ ingressState: 'held' });
    });
  }

  async release(projectId: ProjectId): Promise<void> {
    await this.books.change(projectId, (row, save) => {
      if (row && row.ingressState !== 'open') save({ ingressState: 'open' });
    });
  }

  async moved(projectId: ProjectId, newUrl?: string): Promise<void> {
    await this.books.redirect(projectId, newUrl);
  }
}
