import type { MoveId, ProjectId } from '@rookery/core/contract';
import type { StorageDesired } from '../storage.driver.js';

/** Everything on the volume that reconcile may act on. Times in milliseconds since the epoch. */
export interface StorageActual {
  /** Volumes that are there, with the limit of their group. */
  readonly volumes: readonly { readonly projectId: ProjectId; readonly limitBytes?: number }[];
  /** Projects whose making or removal did not end. */
  readonly unfinished: readonly {
    readonly projectId: ProjectId;
    readonly state: 'creating' | 'deleting';
    readonly changedAt: number;
  }[];
  /** Whole restores whose snapshots did not all come over. */
  readonly restores: readonly ProjectId[];
  readonly landings: readonly {
    readonly moveId: MoveId;
    readonly createdAt: number;
    /** A receive is under way. */
    readonly busy: boolean;
    readonly halfReceived: boolean;
  }[];
  readonly frozen: readonly {
    readonly projectId: ProjectId;
    readonly name: string;
    readonly createdAt: number;
  }[];
  readonly stagedPaths: readonly {
    readonly projectId: ProjectId;
    readonly name: string;
    readonly createdAt: number;
    /** A restore of this process fills it, or the project is being changed now. */
    readonly busy: boolean;
  }[];
  /** Half-built and half-removed subvolumes that no one waits for. */
  readonly leftovers: readonly { readonly path: string; readonly createdAt: number }[];
  readonly stagedImages: readonly string[];
}

/** What each kind of action needs; an executor without one of them does not compile. */
export interface StorageActions {
  'finish-restore': { projectId: ProjectId };
  'delete-unfinished': { projectId: ProjectId };
  'delete-retired': { projectId: ProjectId };
  'report-unknown': { projectId: ProjectId };
  'drop-landing': { moveId: MoveId };
  'drop-half-received': { moveId: MoveId };
  'drop-frozen': { projectId: ProjectId; name: string };
  'drop-staged-path': { projectId: ProjectId; name: string };
  'drop-leftover': { path: string };
  'drop-staged-image': { name: string };
  'set-quota': { projectId: ProjectId; quotaBytes: number };
  'drop-qgroups': Record<never, never>;
}

export type StorageAction = {
  [K in keyof StorageActions]: { readonly kind: K } & Readonly<StorageActions[K]>;
}[keyof StorageActions];

/**
 * Whole desired against whole actual state. Removes only what is known to be nobody's: a volume that
 * no one named is reported, and what is younger than `graceMs` may have been made after `desired`
 * was collected.
 */
export function planStorageRepairs(
  desired: StorageDesired,
  actual: StorageActual,
  clock: { now: number; graceMs: number },
): StorageAction[] {
  const old = (at: number): boolean => clock.now - at >= clock.graceMs;
  const wanted = new Map(desired.projects.map((project) => [project.projectId, project]));
  const moves = new Set(desired.moves);
  const frozen = new Set(desired.frozen.map(({ projectId, name }) => `${projectId}/${name}`));
  const claimed = (desired.stagedPaths ?? []).map(({ projectId, name }) => `${projectId}/${name}`);
  const stagedPaths = new Set(claimed);
  const retired = new Set(desired.retired.filter((id) => !wanted.has(id)));
  const deleting = new Set<ProjectId>();
  const actions: StorageAction[] = [];

  for (const projectId of actual.restores) actions.push({ kind: 'finish-restore', projectId });
  for (const { projectId, state, changedAt } of actual.unfinished) {
    const there = actual.volumes.some((volume) => volume.projectId === projectId);
    // A volume in its place is whole, even if its maker died before it said so.
    if (state === 'creating' && there) continue;
    if (!old(changedAt)) continue;
    deleting.add(projectId);
    actions.push({ kind: 'delete-unfinished', projectId });
  }
  for (const { projectId, limitBytes } of actual.volumes) {
    if (deleting.has(projectId)) continue;
    const project = wanted.get(projectId);
    if (retired.has(projectId)) {
      deleting.add(projectId);
      actions.push({ kind: 'delete-retired', projectId });
    } else if (!project) {
      actions.push({ kind: 'report-unknown', projectId });
    } else if (limitBytes !== project.quotaBytes) {
      actions.push({ kind: 'set-quota', projectId, quotaBytes: project.quotaBytes });
    }
  }
  for (const { moveId, createdAt, busy, halfReceived } of actual.landings) {
    if (busy) continue;
    if (!moves.has(moveId)) {
      if (old(createdAt)) actions.push({ kind: 'drop-landing', moveId });
    } else if (halfReceived) {
      actions.push({ kind: 'drop-half-received', moveId });
    }
  }
  for (const { projectId, name, createdAt } of actual.frozen) {
    if (deleting.has(projectId) || frozen.has(`${projectId}/${name}`) || !old(createdAt)) continue;
    actions.push({ kind: 'drop-frozen', projectId, name });
  }
  for (const { projectId, name, createdAt, busy } of actual.stagedPaths) {
    const kept = busy || stagedPaths.has(`${projectId}/${name}`) || !old(createdAt);
    if (!kept && !deleting.has(projectId)) {
      actions.push({ kind: 'drop-staged-path', projectId, name });
    }
  }
  for (const { path, createdAt } of actual.leftovers) {
    if (old(createdAt)) actions.push({ kind: 'drop-leftover', path });
  }
  for (const name of actual.stagedImages) actions.push({ kind: 'drop-staged-image', name });
  // Last: what went above leaves its groups.
  actions.push({ kind: 'drop-qgroups' });
  return actions;
}
