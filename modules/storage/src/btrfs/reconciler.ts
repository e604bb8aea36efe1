import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MoveId, ProjectId } from '@rookery/core/contract';
import type { Clock } from '@rookery/core';
import { ignoreMissing, namesIn } from '../files.js';
import { projectOfFolder, qgroupOf, type VolumeLayout } from '../layout.js';
import { restoreStagingPrefix } from '../restore-path.js';
import type { SidecarStore } from '../sidecar.js';
import type { StorageDesired, StorageRepair } from '../storage.driver.js';
import type { FrozenVolumes } from './frozen.js';
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
export interface ReconcilerParts {
  readonly layout: VolumeLayout;
  readonly qgroups: Qgroups;
  readonly subvolumes: Subvolumes;
  readonly snapshots: Snapshots;
  readonly frozen: FrozenVolumes;
  readonly images: Images;
  readonly landings: Landings;
  readonly volumes: Volumes;
  readonly sidecars: SidecarStore;
  readonly clock: Clock;
  readonly graceMs: number;
  /** Runs with the project's lock; a restore that a crash left open is finished first. */
  readonly locked: <T>(id: ProjectId, task: () => Promise<T>) => Promise<T>;
}

type Perform = {
  [K in keyof StorageActions]: (
    action: { readonly kind: K } & Readonly<StorageActions[K]>,
  ) => Promise<StorageRepair[]>;
};

export class StorageReconciler {
  constructor(private readonly parts: ReconcilerParts) {}

  async reconcile(desired: StorageDesired): Promise<StorageRepair[]> {
    const { clock, graceMs } = this.parts;
    const plan = planStorageRepairs(desired, await this.actual(), { now: clock.now(), graceMs });
    const perform = this.perform(desired);
    const repairs: StorageRepair[] = [];
    for (const action of plan) repairs.push(...(await performOne(perform, action)));
    return repairs;
  }

  private perform(desired: StorageDesired): Perform {
    const { qgroups, snapshots, frozen, images, landings, volumes, subvolumes, locked } =
      this.parts;
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
      'drop-leftover': async ({ path }) => {
        await subvolumes.deleteTree(path);
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

  private async actual(): Promise<StorageActual> {
    const { layout, images } = this.parts;
    const ids = await this.projectIds();
    return {
      volumes: ids.map((projectId) => {
        const limitBytes = this.parts.qgroups.limit(projectId);
        return { projectId, ...(limitBytes !== undefined && { limitBytes }) };
      }),
      unfinished: await this.unfinished(),
      restores: (await namesIn(layout.staging('')))
        .filter((name) => name.startsWith('restore-'))
        .map((name) => ProjectId.safeParse(name.slice('restore-'.length)).data)
        .filter((id) => id !== undefined),
      landings: await this.landings(),
      frozen: await this.frozen(),
      leftovers: await this.leftovers(ids),
      stagedImages: await images.orphans(),
    };
  }

  private async projectIds(): Promise<ProjectId[]> {
    const names = await namesIn(this.parts.layout.volume);
    return names.map(projectOfFolder).filter((id) => id !== undefined);
  }

  private async unfinished(): Promise<StorageActual['unfinished']> {
    const { layout, sidecars } = this.parts;
    const found: StorageActual['unfinished'][number][] = [];
    for (const name of await namesIn(join(layout.volume, '_meta'))) {
      const id = ProjectId.safeParse(name.replace(/\.json$/, '')).data;
      if (id === undefined) continue;
      const { state } = await sidecars.read(id);
      const file = await stat(layout.sidecar(id)).catch(ignoreMissing);
      if (state && file) found.push({ projectId: id, state, changedAt: file.mtimeMs });
    }
    return found;
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
    const { layout, frozen } = this.parts;
    const found: StorageActual['frozen'][number][] = [];
    for (const name of await namesIn(join(layout.volume, '_frozen'))) {
      const projectId = ProjectId.safeParse(name).data;
      if (projectId === undefined) continue;
      for (const picture of await frozen.names(projectId)) {
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

  /** Trash, and half-built parts; a project's own are removed with it or by its next try. */
  private async leftovers(ids: readonly ProjectId[]): Promise<StorageActual['leftovers']> {
    const { layout } = this.parts;
    const paths = (await namesIn(layout.staging('')))
      .filter((name) => !name.startsWith('restore-'))
      .map((name) => layout.staging(name));
    for (const id of ids) {
      const names = await namesIn(layout.live(id));
      const restores = names.filter((name) => name.startsWith(restoreStagingPrefix));
      paths.push(...restores.map((name) => join(layout.live(id), name)));
    }
    const found: StorageActual['leftovers'][number][] = [];
    for (const path of paths) {
      const createdAt =
        subvolumeAt(path)?.createdAt ?? (await stat(path).catch(ignoreMissing))?.mtimeMs;
      if (createdAt !== undefined) found.push({ path, createdAt });
    }
    return found;
  }
}

function performOne<K extends keyof StorageActions>(
  perform: Perform,
  action: Extract<StorageAction, { kind: K }>,
): Promise<StorageRepair[]> {
  const run = perform[action.kind] as (a: typeof action) => Promise<StorageRepair[]>;
  return run(action);
}
