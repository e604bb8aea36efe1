import type { Clock } from '@rookery/core';
import type { Fence, ProjectId, ProjectSpec } from '@rookery/core/contract';
import {
  emptyRecord,
  FenceGuard,
  newestClaim,
  noAttempts,
  ProjectStore,
  type AttemptMemory,
  type KnownAttempts,
  type ProjectRecord,
} from '@rookery/runner';
import { AttemptsRow } from '../database/entities/attempts.entity.js';
import { MovedProjectRow, ProjectRow } from '../database/entities/project.entity.js';
import type { HostDatabase, Rows, WritableRows } from '../database/host-database.js';

/** How long a project that left is remembered, so that late requests learn its new address. */
const movedKeptMs = 24 * 3_600_000;
/** How long the operations of a project that is not here are remembered one by one. */
const attemptsKeptMs = 7 * 24 * 3_600_000;
/** Of all projects that are remembered no more. */
const allForgotten = '';

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
   * What every call with effects on a project must pass that may run beside other operations.
   * @throws PROJECT_NOT_HERE, STALE_GENERATION, STALE_ATTEMPT, PROJECT_BUSY_MOVING,
   * PROJECT_BUSY_RESTORING
   */
  admit(fence: Fence): Promise<ProjectRecord> {
    return this.guard.admit(fence, { exclusive: false });
  }

  async change<T>(
    projectId: ProjectId,
    task: (row: ProjectRow | undefined, save: Save, attempts: AttemptMemory) => T,
  ): Promise<T> {
    let changed = false;
    const result = this.database.write((rows) => {
      let row = rows.findOne(ProjectRow, { projectId });
      const save: Save = (change) => {
        row = { ...emptyRow(projectId), ...row, ...change, updatedAt: this.clock.now() };
        rows.put(ProjectRow, row);
        changed = true;
        return row;
      };
      return task(row, save, this.attempts(rows, projectId));
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
  async expire(): Promise<void> {
    this.expireMoved();
    this.expireAttempts();
  }

  private expireMoved(): void {
    const oldest = this.clock.now() - movedKeptMs;
    this.database.write((rows) => {
      for (const { projectId, movedAt } of rows.find(MovedProjectRow)) {
        const row = rows.findOne(ProjectRow, { projectId });
        const isBack = row !== undefined && row.ingressState !== 'moved';
        if (movedAt < oldest || isBack) rows.delete(MovedProjectRow, { projectId });
      }
    });
  }

  /** Claims that are forgotten with their projects stay refused: nothing stale comes in by that. */
  private expireAttempts(): void {
    const oldest = this.clock.now() - attemptsKeptMs;
    this.database.write((rows) => {
      for (const row of rows.find(AttemptsRow)) {
        const { projectId } = row;
        if (projectId === allForgotten || row.heardAt >= oldest) continue;
        if (rows.findOne(ProjectRow, { projectId })) continue;
        const known = knownIn(rows, allForgotten);
        const forgottenClaim = Math.max(newestClaim(known), newestClaim(row));
        rows.put(AttemptsRow, this.attemptsRow(allForgotten, { ...known, forgottenClaim }));
        rows.delete(AttemptsRow, { projectId });
      }
    });
  }

  private attempts(rows: WritableRows, projectId: ProjectId): AttemptMemory {
    const known = knownIn(rows, projectId);
    return {
      known,
      note: (next) => {
        if (next !== known) rows.put(AttemptsRow, this.attemptsRow(projectId, next));
      },
    };
  }

  private attemptsRow(projectId: string, known: KnownAttempts): AttemptsRow {
    const { operations, exclusiveClaim, forgottenClaim } = known;
    const heardAt = this.clock.now();
    return { projectId, operations: [...operations], exclusiveClaim, forgottenClaim, heardAt };
  }

  private gone(projectId: ProjectId, newUrl: string | undefined): MovedProjectRow {
    return { projectId, newUrl: newUrl ?? null, movedAt: this.clock.now() };
  }

  private tell(id: ProjectId): void {
    for (const listener of this.listeners) listener(id);
  }
}

function knownIn(rows: Rows, projectId: string): KnownAttempts {
  const row =
    rows.findOne(AttemptsRow, { projectId }) ??
    rows.findOne(AttemptsRow, { projectId: allForgotten });
  return row ?? noAttempts;
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
