import { setImmediate } from 'node:timers/promises';
import type { Clock } from '@rookery/core';
import type { Fence, ProjectId, ProjectSpec } from '@rookery/core/contract';
import {
  emptyRecord,
  FenceGuard,
  newestClaim,
  ProjectStore,
  type AttemptMemory,
  type ProjectRecord,
} from '@rookery/runner';
import { AttemptsRow } from '../database/entities/attempts.entity.js';
import { MovedProjectRow, ProjectRow } from '../database/entities/project.entity.js';
import type { HostDatabase, WritableRows } from '../database/host-database.js';
import { allForgotten, knownIn, noteAttempts } from './attempt-rows.js';

/** How long a project that left is remembered, so that late requests learn its new address. */
const movedKeptMs = 24 * 3_600_000;
/** How long the operations of a project that is not here are remembered one by one. */
const attemptsKeptMs = 7 * 24 * 3_600_000;
/** So many rows are looked at in one transaction at most: others write in between. */
const rowsAtOnce = 200;

type Save = (change: Partial<Omit<ProjectRow, 'projectId'>>) => ProjectRow;

/**
 * The host's books about its projects: the one place that writes their rows, in one process. Every
 * change is one transaction, on disk when its promise resolves, and told to listeners (the ingress,
 * the hub) after that alone.
 */
export class ProjectRepository extends ProjectStore {
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
    const moved = this.database.find(MovedProjectRow).map(({ projectId }) => projectId);
    await this.inParts(moved, (rows, projectId) => this.expireMoved(rows, projectId));
    const oldest = this.clock.now() - attemptsKeptMs;
    const here = new Set(this.database.find(ProjectRow).map(({ projectId }) => projectId));
    const silent = this.database
      .find(AttemptsRow)
      .filter(({ projectId, heardAt }) => heardAt < oldest && !here.has(projectId))
      .map(({ projectId }) => projectId);
    await this.inParts(silent, (rows, projectId) => this.expireAttempts(rows, projectId));
  }

  /** Looks at each again in a transaction, of which none is long. */
  private async inParts(
    ids: readonly string[],
    task: (rows: WritableRows, id: string) => void,
  ): Promise<void> {
    for (let at = 0; at < ids.length; at += rowsAtOnce) {
      const some = ids.slice(at, at + rowsAtOnce);
      this.database.write((rows) => some.forEach((id) => task(rows, id)));
      await setImmediate();
    }
  }

  private expireMoved(rows: WritableRows, projectId: string): void {
    const moved = rows.findOne(MovedProjectRow, { projectId });
    const row = rows.findOne(ProjectRow, { projectId });
    const isBack = row !== undefined && row.ingressState !== 'moved';
    if (!moved || (moved.movedAt >= this.clock.now() - movedKeptMs && !isBack)) return;
    rows.delete(MovedProjectRow, { projectId });
  }

  /** Claims that are forgotten with their projects stay refused: nothing stale comes in by that. */
  private expireAttempts(rows: WritableRows, projectId: string): void {
    const row = rows.findOne(AttemptsRow, { projectId });
    const isOld = row !== undefined && row.heardAt < this.clock.now() - attemptsKeptMs;
    if (!isOld || projectId === allForgotten || rows.findOne(ProjectRow, { projectId })) return;
    const known = knownIn(rows, allForgotten);
    const forgottenClaim = Math.max(newestClaim(known), newestClaim(row));
    noteAttempts(rows, allForgotten, { ...known, forgottenClaim }, this.clock.now());
    rows.delete(AttemptsRow, { projectId });
  }

  private attempts(rows: WritableRows, projectId: ProjectId): AttemptMemory {
    const known = knownIn(rows, projectId);
    return {
      known,
      note: (next) => {
        if (next !== known) noteAttempts(rows, projectId, next, this.clock.now());
      },
    };
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
