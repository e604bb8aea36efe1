import type { ProjectCopy } from '@rookery/fleet/contract';
import { CoreErrors, type Clock } from '@rookery/core';
import type { Fence, ProjectId } from '@rookery/core/contract';
import { isIncomingAlive, type MoveJournal } from '@rookery/move';
import { admitAttempt, refuseBusy } from '@rookery/runner';
import type { StorageDriver } from '@rookery/storage/contract';
import type { ProjectRow } from '../database/entities/project.entity.js';
import { KeptCopyRow } from '../database/entities/project.entity.js';
import type { HostDatabase } from '../database/host-database.js';
import { HostErrors } from '../host.errors.js';
import type { ContainerControl } from './move-projects.js';
import type { ProjectRepository } from './project.repository.js';

/** The volume is looked through this often at most for what heartbeats tell. */
const countEveryMs = 30_000;

export interface CopiesDependencies {
  readonly books: ProjectRepository;
  readonly database: HostDatabase;
  readonly storage: StorageDriver;
  readonly moves: MoveJournal;
  readonly containers: ContainerControl;
  /** Volumes that restores under way fill. */
  readonly restoring: () => Promise<readonly ProjectId[]>;
  /** What the hub said of reported projects that this host owns, with its generations. */
  readonly owned: () => ReadonlyMap<ProjectId, number>;
  readonly clock: Clock;
}

type Found = Pick<ProjectCopy, 'projectId' | 'generation'>;

/**
 * What lies on the host beside its own projects: strays that the hub disowned, a record of another
 * generation than the hub's, and volumes that no record speaks of. None of it runs, none of it is
 * removed unasked, and each is listed until somebody decides.
 */
export class HostCopies {
  private counted: { readonly count: number; readonly at: number } | undefined;

  constructor(private readonly parts: CopiesDependencies) {}

  async list(): Promise<ProjectCopy[]> {
    const kept = this.kept();
    const copies: ProjectCopy[] = [];
    for (const found of await this.find()) {
      const usedBytes = await this.usedBytes(found.projectId);
      const size = usedBytes === undefined ? {} : { usedBytes };
      copies.push({ ...found, ...size, kept: kept.has(found.projectId) });
    }
    return copies;
  }

  /** Those that nobody has decided to keep; a figure of the last half minute. */
  async count(): Promise<number> {
    const now = this.parts.clock.now();
    if (this.counted && this.counted.at + countEveryMs > now) return this.counted.count;
    const kept = this.kept();
    const count = (await this.find()).filter(({ projectId }) => !kept.has(projectId)).length;
    this.counted = { count, at: now };
    return count;
  }

  /** @throws COPY_NOT_HERE */
  async keep(projectId: ProjectId, kept: boolean): Promise<void> {
    await this.require(projectId);
    const { database, clock } = this.parts;
    database.write((rows) => {
      if (kept) rows.put(KeptCopyRow, { projectId, keptAt: clock.now() });
      else rows.delete(KeptCopyRow, { projectId });
    });
    this.counted = undefined;
  }

  /**
   * Repeating it finds the copy gone, which is no error.
   * @throws COPY_NOT_HERE for what is the host's own; STALE_GENERATION for a copy that is newer than
   * the fence; STALE_ATTEMPT, PROJECT_BUSY_MOVING, PROJECT_BUSY_RESTORING
   */
  async delete(fence: Fence): Promise<void> {
    const { projectId, generation } = fence;
    const { books, storage, containers, database } = this.parts;
    const row = await books.get(projectId);
    if (!row && !(await storage.volume(projectId))) return;
    await this.require(projectId);
    await containers.endWriters(projectId);
    await containers.stop(projectId);
    await books.change(projectId, (current, _save, attempts) => {
      const known = admitAttempt(attempts.known, fence, { exclusive: true });
      if (current && current.generation > generation) {
        throw CoreErrors.STALE_GENERATION({ given: generation, current: current.generation });
      }
      if (current) refuseBusy(current);
      attempts.note(known);
    });
    await storage.deleteVolume(projectId);
    // Last: what fails before is found again, and repeated.
    await books.remove(projectId);
    database.write((rows) => rows.delete(KeptCopyRow, { projectId }));
    this.counted = undefined;
  }

  private async require(projectId: ProjectId): Promise<void> {
    const found = await this.find();
    if (!found.some((each) => each.projectId === projectId)) {
      throw HostErrors.COPY_NOT_HERE({ projectId });
    }
  }

  private async find(): Promise<Found[]> {
    const { books, storage, restoring } = this.parts;
    const owned = this.parts.owned();
    // Claims first, volumes second: what a move or restore makes in between is claimed already.
    const claimed = new Set([...(await this.claimed()), ...(await restoring())]);
    const volumes = await storage.listVolumes();
    const rows = await books.list();
    const known = new Set(rows.map(({ projectId }) => projectId));
    return [
      ...rows
        .filter((row) => !claimed.has(row.projectId) && isCopy(row, owned))
        .map(({ projectId, generation }) => ({ projectId, generation })),
      ...volumes
        .filter(({ projectId }) => !claimed.has(projectId) && !known.has(projectId))
        .map(({ projectId }) => ({ projectId })),
    ];
  }

  /** Projects that a move is about to make, or has yet to remove. */
  private async claimed(): Promise<ProjectId[]> {
    const { moves } = this.parts;
    const outgoing = await moves.listOutgoing();
    const incoming = await moves.listIncoming();
    return [
      ...outgoing.filter(({ state }) => state !== 'undone' && state !== 'retired'),
      ...incoming.filter((move) => isIncomingAlive(move)),
    ].map(({ projectId }) => projectId);
  }

  private kept(): Set<ProjectId> {
    return new Set(this.parts.database.find(KeptCopyRow).map(({ projectId }) => projectId));
  }

  private async usedBytes(projectId: ProjectId): Promise<number | undefined> {
    // A record may be all that is left.
    const usage = await this.parts.storage.usage(projectId).catch(() => undefined);
    return usage?.usedBytes;
  }
}

/** A stray is one by what the hub said in two answers; another generation by the last answer. */
function isCopy(row: ProjectRow, owned: ReadonlyMap<ProjectId, number>): boolean {
  if (row.restoringBy !== null || row.fencedBy !== null || row.generation < 0) return false;
  const generation = owned.get(row.projectId);
  if (generation === undefined) return row.error?.code === 'PROJECT_NOT_OWNED';
  return generation !== row.generation;
}
