import type { MoveId, ProjectId } from '@rookery/core/contract';
import type { Snapshot, StorageDesired, StorageRepair } from '../storage.driver.js';

/** What the memory driver remembers of a project. */
export interface MemoryVolume {
  quotaBytes: number;
  snapshots: Map<string, Snapshot>;
  frozen: Map<string, { uuid: string; persistenceUuid: string; createdAt: number }>;
  clonedFrom?: string;
  activatedBy?: string;
}

/** How reconcile changes something. */
interface MemoryActs {
  deleteVolume(id: ProjectId): Promise<void>;
  releaseTemporarySnapshot(id: ProjectId, name: string): Promise<void>;
  dropLanding(moveId: MoveId): Promise<void>;
  stagedPaths(id: ProjectId): Promise<string[]>;
  dropStagedPath(id: ProjectId, name: string): Promise<boolean>;
}

/** As the btrfs driver's plan says, for the few kinds that memory can hold. */
export async function reconcileMemory(
  desired: StorageDesired,
  volumes: ReadonlyMap<ProjectId, MemoryVolume>,
  moves: readonly MoveId[],
  act: MemoryActs,
): Promise<StorageRepair[]> {
  const repairs: StorageRepair[] = [];
  const wanted = new Map(desired.projects.map((each) => [each.projectId, each.quotaBytes]));
  for (const [id, volume] of [...volumes]) {
    const quotaBytes = wanted.get(id);
    if (quotaBytes === undefined && desired.retired.includes(id)) {
      await act.deleteVolume(id);
      repairs.push({ kind: 'retired-volume-deleted', subject: id });
      continue;
    }
    if (quotaBytes === undefined) {
      repairs.push({ kind: 'unknown-volume-found', subject: id });
    } else if (quotaBytes !== volume.quotaBytes) {
      volume.quotaBytes = quotaBytes;
      repairs.push({ kind: 'quota-set', subject: id });
    }
    for (const name of [...volume.frozen.keys()]) {
      if (desired.frozen.some((each) => each.projectId === id && each.name === name)) continue;
      await act.releaseTemporarySnapshot(id, name);
      repairs.push({ kind: 'frozen-dropped', subject: `${id}/${name}` });
    }
    for (const name of await act.stagedPaths(id)) {
      const claimed = desired.stagedPaths ?? [];
      if (claimed.some((each) => each.projectId === id && each.name === name)) continue;
      if (!(await act.dropStagedPath(id, name))) continue;
      repairs.push({ kind: 'staged-path-dropped', subject: `${id}/${name}` });
    }
  }
  for (const moveId of moves) {
    if (desired.moves.includes(moveId)) continue;
    await act.dropLanding(moveId);
    repairs.push({ kind: 'landing-dropped', subject: moveId });
  }
  return repairs;
}
