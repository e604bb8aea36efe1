import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { MoveId, ProjectId } from '@rookery/core/contract';
import { CodedError, type Clock } from '@rookery/core';
import { ignoreMissing, namesIn } from '../files.js';
import { projectOfFolder, qgroupOf, type VolumeLayout } from '../layout.js';
import type { PathStagings } from '../path-staging.js';
import type { SidecarStore } from '../sidecar.js';
import type { StorageDesired, StorageRepair } from '../storage.driver.js';
import type { TemporarySnapshots } from './temporary-snapshots.js';
import type { Images } from './images.js';
import { subvolumeAt } from './ioctl.js';
import type { Landings } from './landings.js';
import type { Qgroups } from './qgroups.js';
import {
  planStorageRepairs,
  type StorageAction,
  type StorageActions,
  type StorageActual,
} from './reconcile-plan.js';
import type { Snapshots } from './snapshots.js';
import type { Subvolumes } from './subvolumes.js';
import type { Volumes } from './volumes.js';

/** The parts of the btrfs driver that reconcile looks at and acts through. */
export interface ReconcilerDependencies {
  readonly layout: VolumeLayout;
  readonly qgroups: Qgroups;
  readonly subvolumes: Subvolumes;
  readonly snapshots: Snapshots;
  readonly frozen: TemporarySnapshots;
  readonly images: Images;
  readonly landings: Landings;
  readonly volumes: Volumes;
  readonly sidecars: SidecarStore;
  readonly pathStagings: PathStagings;
  readonly clock: Clock;
  readonly graceMs: number;
  /** Runs with the project's lock; a restore that a crash left open is finished first. */
  readonly locked: <T>(id: ProjectId, task: () => Promise<T>) => Promise<T>;
  readonly isLocked: (id: ProjectId) => boolean;
}

type Perform = {
  [K in keyof StorageActions]: (
    action: { readonly kind: K } & Readonly<StorageActions[K]>,
  ) => Promise<StorageRepair[]>;
};

export class StorageReconciler {
  constructor(private readonly parts: ReconcilerDependencies) {}

  async reconcile(desired: StorageDesired): Promise<StorageRepair[]> {
    const { clock, graceMs } = this.parts;
    const actual = await this.actual();
    const plan = planStorageRepairs(desired, actual, { now: clock.now(), graceMs });
    const perform = this.perform(desired);
    const repairs: StorageRepair[] = actual.damaged.map((subject) => ({
      kind: 'sidecar-damaged',
      subject,
    }));
    const failures: unknown[] = [];
    for (const action of plan) {
      await performOne(perform, action).then(
        (done) => void repairs.push(...done),
        (error: unknown) => void failures.push(error),
      );
    }
    if (failures.length > 0) {
      const what = `${failures.length} of ${plan.length} repairs failed`;
      throw new AggregateError(failures, `${what}, ${repairs.length} were made`);
    }
    return repairs;
  }

  private perform(desired: StorageDesired): Perform {
    const { qgroups, snapshots, frozen, images, landings, volumes, subvolumes } = this.parts;
    const { locked, pathStagings } = this.parts;
    const keep = new Set(desired.projects.map(({ projectId }) => qgroupOf(projectId)));
    return {
      'finish-restore': async ({ projectId }) => {
        await locked(projectId, () => snapshots.finishRestore(projectId));
        return [{ kind: 'restore-finished', subject: projectId }];
      },
      'delete-unfinished': ({ projectId }) =>
        locked(projectId, async () => {
          // Looked at again: it may have been finished while we waited for the lock.
          const { state } = await this.parts.sidecars.read(projectId);
          const there = subvolumeAt(this.parts.layout.live(projectId)) !== undefined;
          if (state === undefined || (state === 'creating' && there)) return [];
          await volumes.delete(projectId);
          return [{ kind: 'leftover-dropped', subject: projectId }];
        }),
      'delete-retired': async ({ projectId }) => {
        await locked(projectId, () => volumes.delete(projectId));
        return [{ kind: 'retired-volume-deleted', subject: projectId }];
      },
      'report-unknown': ({ projectId }) =>
        Promise.resolve([{ kind: 'unknown-volume-found', subject: projectId }]),
      'drop-landing': async ({ moveId }) => {
        await landings.drop(moveId);
        return [{ kind: 'landing-dropped', subject: moveId }];
      },
      'drop-half-received': async ({ moveId }) => {
        const count = await landings.dropHalfReceivedIfIdle(moveId);
        return count > 0 ? [{ kind: 'half-received-dropped', subject: moveId }] : [];
      },
      'drop-frozen': async ({ projectId, name }) => {
        await locked(projectId, () => frozen.release(projectId, name));
        return [{ kind: 'frozen-dropped', subject: `${projectId}/${name}` }];
      },
      'drop-staged-path': async ({ projectId, name }) => {
        const dropped = await locked(projectId, () => pathStagings.drop(projectId, name));
        return dropped ? [{ kind: 'staged-path-dropped', subject: `${projectId}/${name}` }] : [];
      },
      'drop-leftover': async ({ path }) => {
        const projectId = builtProject(path);
        // What is being built belongs to whoever holds the lock.
        if (projectId === undefined) await subvolumes.deleteTree(path);
        else await locked(projectId, () => subvolumes.deleteTree(path));
        return [{ kind: 'leftover-dropped', subject: path }];
      },
      'drop-staged-image': async ({ name }) => {
        await images.dropOrphan(name);
        return [{ kind: 'staged-image-dropped', subject: name }];
      },
      'set-quota': async ({ projectId, quotaBytes }) => {
        await locked(projectId, () =>
          qgroups.setQuota(projectId, quotaBytes, { allowBelowUse: true }),
        );
        return [{ kind: 'quota-set', subject: projectId }];
      },
      'drop-qgroups': async () => {
        const repairs: StorageRepair[] = [];
        for (const qgroup of qgroups.stale(keep)) {
          if (await qgroups.destroy(qgroup))
            repairs.push({ kind: 'qgroup-dropped', subject: qgroup });
        }
        return repairs;
      },
    };
  }

  private async actual(): Promise<StorageActual & { readonly damaged: readonly ProjectId[] }> {
    const { layout, images } = this.parts;
    const ids = await this.projectIds();
    return {
      volumes: ids.map((projectId) => {
        const limitBytes = this.parts.qgroups.limit(projectId);
        return { projectId, ...(limitBytes !== undefined && { limitBytes }) };
      }),
      ...(await this.unfinished()),
      restores: (await namesIn(layout.staging('')))
        .filter((name) => name.startsWith('restore-'))
        .map((name) => ProjectId.safeParse(name.slice('restore-'.length)).data)
        .filter((id) => id !== undefined),
      landings: await this.landings(),
      frozen: await this.frozen(),
      stagedPaths: await this.stagedPaths(ids),
      leftovers: await this.leftovers(),
      stagedImages: await images.orphans(),
    };
  }

  private async projectIds(): Promise<ProjectId[]> {
    const names = await namesIn(this.parts.layout.volume);
    return names.map(projectOfFolder).filter((id) => id !== undefined);
  }

  /** Whose making or removal did not end, and of whom nobody can tell. */
  private async unfinished() {
    const { layout, sidecars, isLocked } = this.parts;
    const unfinished: StorageActual['unfinished'][number][] = [];
    const damaged: ProjectId[] = [];
    for (const name of await namesIn(join(layout.volume, '_meta'))) {
      const id = ProjectId.safeParse(name.replace(/\.json$/, '')).data;
      // Somebody is at it: it need not have died because it takes long.
      if (id === undefined || isLocked(id)) continue;
      const sidecar = await sidecars.read(id).catch((error: unknown) => {
        if (CodedError.is(error, 'SIDECAR_DAMAGED')) return undefined;
        throw error;
      });
      if (!sidecar) {
        damaged.push(id);
        continue;
      }
      const { state } = sidecar;
      const file = await stat(layout.sidecar(id)).catch(ignoreMissing);
      if (state && file) unfinished.push({ projectId: id, state, changedAt: file.mtimeMs });
    }
    return { unfinished, damaged };
  }

  private async landings(): Promise<StorageActual['landings']> {
    const { layout, landings } = this.parts;
    const found: StorageActual['landings'][number][] = [];
    for (const name of await namesIn(join(layout.volume, '_incoming'))) {
      const moveId = MoveId.safeParse(name).data;
      const subvolume = moveId && subvolumeAt(layout.landing(moveId));
      if (moveId === undefined || !subvolume) continue;
      found.push({
        moveId,
        createdAt: subvolume.createdAt,
        busy: landings.isBusy(moveId),
        halfReceived: await landings.hasHalfReceived(moveId),
      });
    }
    return found;
  }

  private async frozen(): Promise<StorageActual['frozen']> {
    const { layout, frozen, isLocked } = this.parts;
    const found: StorageActual['frozen'][number][] = [];
    for (const name of await namesIn(join(layout.volume, '_frozen'))) {
      const projectId = ProjectId.safeParse(name).data;
      if (projectId === undefined) continue;
      for (const picture of await frozen.names(projectId)) {
        const clone = picture.startsWith('clone-') ? builtProject(picture) : undefined;
        if (clone !== undefined && isLocked(clone)) continue;
        const paths = [
          layout.frozen(projectId, picture),
          layout.frozenPersistence(projectId, picture),
        ];
        const createdAt = Math.max(...paths.map((path) => subvolumeAt(path)?.createdAt ?? 0));
        found.push({ projectId, name: picture, createdAt });
      }
    }
    return found;
  }

  private async stagedPaths(ids: readonly ProjectId[]): Promise<StorageActual['stagedPaths']> {
    const { pathStagings, isLocked } = this.parts;
    const found: StorageActual['stagedPaths'][number][] = [];
    for (const projectId of ids) {
      for (const name of await pathStagings.names(projectId)) {
        const stats = await stat(pathStagings.path(projectId, name)).catch(ignoreMissing);
        // A long restore that holds the project's lock must not hold up everything else here.
        const busy = pathStagings.isInUse(projectId, name) || isLocked(projectId);
        if (stats) found.push({ projectId, name, createdAt: stats.mtimeMs, busy });
      }
    }
    return found;
  }

  /** Trash, and half-built parts; a project's own are removed with it or by its next try. */
  private async leftovers(): Promise<StorageActual['leftovers']> {
    const { layout, isLocked } = this.parts;
    const paths = (await namesIn(layout.staging('')))
      .filter((name) => !name.startsWith('restore-'))
      .map((name) => layout.staging(name));
    const found: StorageActual['leftovers'][number][] = [];
    for (const path of paths) {
      const projectId = builtProject(path);
      // A clone may take longer than any grace.
      if (projectId !== undefined && isLocked(projectId)) continue;
      const createdAt =
        subvolumeAt(path)?.createdAt ?? (await stat(path).catch(ignoreMissing))?.mtimeMs;
      if (createdAt !== undefined) found.push({ path, createdAt });
    }
    return found;
  }
}

/** The project whose new volume is built at this path, or from this temporary snapshot, if any. */
function builtProject(path: string): ProjectId | undefined {
  return ProjectId.safeParse(basename(path).replace(/^(create|clone)-/, '')).data;
}

function performOne<K extends keyof StorageActions>(
  perform: Perform,
  action: Extract<StorageAction, { kind: K }>,
): Promise<StorageRepair[]> {
  const run = perform[action.kind] as (a: typeof action) => Promise<StorageRepair[]>;
  return run(action);
}
