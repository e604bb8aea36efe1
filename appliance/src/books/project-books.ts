import type { Clock } from '@rookery/core';
import type { Fence, ProjectId, ProjectSpec } from '@rookery/core/contract';
import { emptyRecord, FenceGuard, ProjectStore, type ProjectRecord } from '@rookery/runner';
import { MovedProjectRow, ProjectRow } from '../database/entities/project.entity.js';
import type { HostDatabase } from '../database/host-database.js';

/** How long a project that left is remembered, so that late requests learn its new address. */
const movedKeptMs = 24 * 3_600_000;

type Save = (change: Partial<Omit<ProjectRow, 'projectId'>>) => ProjectRow;

/**
 * The host's books about its projects: the one place that writes their rows, in one process. Every
 * change is one transaction, on disk when its promise resolves, and told to listeners (the ingress,
 * the hub) after that alone.
 */
export class ProjectBooks extends ProjectStore {
  private readonly listeners = new Set<(id: ProjectId) => void>();
  private readonly guard = new FenceGuard(this);

  constructor(
    private readonly database: HostDatabase,
    private readonly clock: Clock,
  ) {
    super();
  }

  onChange(listener: (id: ProjectId) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  async get(projectId: ProjectId): Promise<ProjectRow | undefined> {
    return this.database.findOne(ProjectRow, { projectId });
  }

  async list(): Promise<ProjectRow[]> {
    return this.database.find(ProjectRow);
  }

  /**
   * What every call with effects on a project must pass.
   * @throws PROJECT_NOT_HERE, STALE_GENERATION, STALE_ATTEMPT, PROJECT_BUSY_MOVING,
   * PROJECT_BUSY_RESTORING
   */
  admit(fence: Fence): Promise<ProjectRecord> {
    return this.guard.admit(fence);
  }

  async change<T>(
    projectId: ProjectId,
    task: (row: ProjectRow | undefined, save: Save) => T,
  ): Promise<T> {
    let changed = false;
    const result = this.database.write((rows) => {
      let row = rows.findOne(ProjectRow, { projectId });
      return task(row, (change) => {
        row = { ...emptyRow(projectId), ...row, ...change, updatedAt: this.clock.now() };
        rows.put(ProjectRow, row);
        changed = true;
        return row;
      });
    });
    if (changed) this.tell(projectId);
    return result;
  }

  async remove(projectId: ProjectId): Promise<void> {
    this.database.write((rows) => rows.delete(ProjectRow, { projectId }));
    this.tell(projectId);
  }

  /** Drops a project that lives elsewhere now; late requests are told where for a while. */
  async leave(projectId: ProjectId, newUrl: string | undefined): Promise<void> {
    this.database.write((rows) => {
      rows.delete(ProjectRow, { projectId });
      rows.put(MovedProjectRow, this.gone(projectId, newUrl));
    });
    this.tell(projectId);
  }

  /** Requests to a project are sent to its new address, though its files are still here. */
  async redirect(projectId: ProjectId, newUrl: string | undefined): Promise<void> {
    this.database.write((rows) => {
      rows.put(MovedProjectRow, this.gone(projectId, newUrl));
      const row = rows.findOne(ProjectRow, { projectId });
      if (row) rows.put(ProjectRow, { ...row, ingressState: 'moved' });
    });
    this.tell(projectId);
  }

  /** Forgets those who left long ago, or are back. */
  async expireMoved(): Promise<void> {
    const oldest = this.clock.now() - movedKeptMs;
    this.database.write((rows) => {
      for (const { projectId, movedAt } of rows.find(MovedProjectRow)) {
        const row = rows.findOne(ProjectRow, { projectId });
        const isBack = row !== undefined && row.ingressState !== 'moved';
        if (movedAt < oldest || isBack) rows.delete(MovedProjectRow, { projectId });
      }
    });
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
