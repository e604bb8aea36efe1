import { KeyedLock, type Clock } from '@rookery/core';
import type { Fence, ProjectId, ProjectSpec } from '@rookery/core/contract';
import { emptyRecord, FenceGuard, ProjectStore, type ProjectRecord } from '@rookery/runner';
import { In, type DataSource } from 'typeorm';
import { MovedProjectRow, ProjectRow } from '../database/entities/project.entity.js';

/** How long a project that left is remembered, so that late requests learn its new address. */
const movedKeptMs = 24 * 3_600_000;

type Save = (change: Partial<Omit<ProjectRow, 'projectId'>>) => Promise<ProjectRow>;

/**
 * The host's books about its projects: the one place that writes their rows, in one process. Every
 * change is on disk when its promise resolves, and then told to listeners (the ingress, the hub).
 */
export class ProjectBooks extends ProjectStore {
  private readonly locks = new KeyedLock();
  private readonly listeners = new Set<(id: ProjectId) => void>();
  private readonly guard = new FenceGuard(this);

  constructor(
    private readonly database: DataSource,
    private readonly clock: Clock,
  ) {
    super();
  }

  onChange(listener: (id: ProjectId) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async get(projectId: ProjectId): Promise<ProjectRow | undefined> {
    return (await this.database.manager.findOneBy(ProjectRow, { projectId })) ?? undefined;
  }

  list(): Promise<ProjectRow[]> {
    return this.database.manager.find(ProjectRow, { order: { projectId: 'ASC' } });
  }

  /**
   * What every call with effects on a project must pass.
   * @throws PROJECT_NOT_HERE, STALE_GENERATION, STALE_ATTEMPT, PROJECT_BUSY_MOVING,
   * PROJECT_BUSY_RESTORING
   */
  admit(fence: Fence): Promise<ProjectRecord> {
    return this.guard.admit(fence);
  }

  change<T>(
    projectId: ProjectId,
    task: (row: ProjectRow | undefined, save: Save) => Promise<T>,
  ): Promise<T> {
    return this.locks.run(projectId, async () => {
      const { manager } = this.database;
      let row = (await manager.findOneBy(ProjectRow, { projectId })) ?? undefined;
      let changed = false;
      const save: Save = async (change) => {
        row = { ...emptyRow(projectId), ...row, ...change, updatedAt: this.clock.now() };
        await manager.upsert(ProjectRow, row, ['projectId']);
        changed = true;
        return row;
      };
      try {
        return await task(row, save);
      } finally {
        if (changed) this.tell(projectId);
      }
    });
  }

  async remove(projectId: ProjectId): Promise<void> {
    await this.locks.run(projectId, () => this.database.manager.delete(ProjectRow, { projectId }));
    this.tell(projectId);
  }

  /** Drops a project that lives elsewhere now; late requests are told where for a while. */
  async leave(projectId: ProjectId, newUrl: string | undefined): Promise<void> {
    await this.locks.run(projectId, () =>
      this.database.transaction(async (manager) => {
        await manager.delete(ProjectRow, { projectId });
        await manager.upsert(MovedProjectRow, this.gone(projectId, newUrl), ['projectId']);
      }),
    );
    this.tell(projectId);
  }

  /** Requests to a project are sent to its new address, though its files are still here. */
  async redirect(projectId: ProjectId, newUrl: string | undefined): Promise<void> {
    await this.locks.run(projectId, () =>
      this.database.transaction(async (manager) => {
        await manager.upsert(MovedProjectRow, this.gone(projectId, newUrl), ['projectId']);
        await manager.update(ProjectRow, { projectId }, { ingressState: 'moved' });
      }),
    );
    this.tell(projectId);
  }

  /** Forgets those who left long ago, or are back. */
  async expireMoved(): Promise<void> {
    const rows = await this.database.manager.find(MovedProjectRow);
    const back = await this.list();
    const here = new Set(
      back.filter(({ ingressState }) => ingressState !== 'moved').map((row) => row.projectId),
    );
    const oldest = this.clock.now() - movedKeptMs;
    const expired = rows.filter((row) => row.movedAt < oldest || here.has(row.projectId));
    if (expired.length === 0) return;
    const projectId = In(expired.map((row) => row.projectId));
    await this.database.manager.delete(MovedProjectRow, { projectId });
  }

  private gone(projectId: ProjectId, newUrl: string | undefined): MovedProjectRow {
    return { projectId, newUrl: newUrl ?? null, movedAt: this.clock.now() };
  }

  private tell(id: ProjectId): void {
    for (const listener of this.listeners) listener(id);
  }
}

function emptyRow(projectId: ProjectId): ProjectRow {
  return {
    ...emptyRecord,
    projectId,
    generation: 0,
    // Whoever makes a record gives these; the table refuses one without.
    spec: undefined as unknown as ProjectSpec,
    ingressState: 'open',
    updatedAt: 0,
  };
}
