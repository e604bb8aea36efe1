import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { MoveId, ProjectId } from '@rookery/core/contract';
import { Reverter } from '@rookery/core';
import { ensureFolder, exists, isFolderAs, namesIn } from '../files.js';
import { containerRootId, homeMode, privateMode, type VolumeLayout } from '../layout.js';
import type { Sidecar, SidecarStore } from '../sidecar.js';
import type { ActivationPlan } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import type { TemporarySnapshots } from './temporary-snapshots.js';
import { subvolumeAt } from './ioctl.js';
import type { Landings } from './landings.js';
import { ensureProjectFolders } from './project-folders.js';
import type { Qgroups } from './qgroups.js';
import { SendStreamGuard } from './send-stream-guard.js';
import type { Subvolumes } from './subvolumes.js';

/** What a new volume is made of: nothing, or subvolumes that arrived. */
interface Origin {
  readonly live?: string;
  readonly persistence?: string;
  readonly snapshots?: readonly { readonly from: string; readonly name: string }[];
}

/**
 * Makes and removes whole volumes. The live subvolume gets its place last and loses it first, each
 * in one rename: a project is there or not. Callers hold the project's lock.
 */
export class Volumes {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly qgroups: Qgroups,
    private readonly subvolumes: Subvolumes,
    private readonly sidecars: SidecarStore,
    private readonly frozen: TemporarySnapshots,
    private readonly landings: Landings,
  ) {}

  async create(id: ProjectId, quotaBytes: number): Promise<void> {
    await using revert = new Reverter();
    revert.add(() => this.removeParts(id));
    await this.sidecars.update(id, (sidecar) => (sidecar.state = 'creating'));
    await this.qgroups.setLimit(id, quotaBytes);
    await this.build(id, {});
    revert.success();
  }

  /**
   * Copies through send and receive, which write new extents: a reflink would leave the clone's
   * bytes charged to its origin, and the origin's to the clone once one of them changes.
   */
  async clone(
    to: ProjectId,
    streams: { live: () => Readable; persistence?: () => Readable },
    options: { quotaBytes: number; origin: string; signal?: AbortSignal },
  ): Promise<void> {
    await using revert = new Reverter();
    revert.add(() => this.removeParts(to));
    await this.sidecars.update(to, (sidecar) => {
      sidecar.state = 'creating';
      sidecar.clonedFrom = options.origin;
    });
    const group = await this.qgroups.ensureGroup(to);
    // The limit comes first: a clone that does not fit ends early.
    await this.qgroups.setLimit(to, options.quotaBytes);
    const landing = this.layout.staging(`clone-${to}`);
    await this.subvolumes.discard(landing);
    await this.btrfs.createSubvolume(landing, group);
    const arrive = (stream: Readable, item: string): Promise<string> =>
      this.landings.receiveInto(landing, stream, new SendStreamGuard(item), options.signal);
    const live = await arrive(streams.live(), 'live');
    const persistence = streams.persistence && (await arrive(streams.persistence(), 'persistence'));
    await this.build(to, { live, ...(persistence !== undefined && { persistence }) });
    await this.subvolumes.discard(landing);
    revert.success();
  }

  /** @returns whether the project uses more than its quota. */
  async activate(moveId: MoveId, id: ProjectId, plan: ActivationPlan): Promise<boolean> {
    const before = await this.sidecars.read(id);
    const isBuilt = subvolumeAt(this.layout.live(id)) !== undefined;
    if (isBuilt) {
      if (before.activatedBy !== moveId) throw StorageErrors.VOLUME_EXISTS({ projectId: id });
    } else {
      const at = (item: string): string => this.landings.arrived(moveId, item);
      const origin: Origin = {
        live: at(plan.live),
        ...(plan.persistence !== undefined && { persistence: at(plan.persistence) }),
        snapshots: plan.snapshots.map(({ item, name }) => ({ from: at(item), name })),
      };
      await this.sidecars.update(id, (sidecar) => {
        sidecar.state = 'creating';
        sidecar.activatedBy = moveId;
        sidecar.snapshots = keptFacts(plan);
      });
      await this.qgroups.setLimit(id, undefined);
      await this.build(id, origin);
    }
    // A client may be waiting: another commit of the file system would be felt.
    const options = { allowBelowUse: true, committed: !isBuilt };
    return this.qgroups.setQuota(id, plan.quotaBytes, options);
  }

  private async build(id: ProjectId, origin: Origin): Promise<void> {
    const qgroup = await this.qgroups.ensureGroup(id);
    await this.buildPersistence(id, qgroup, origin.persistence);
    await this.buildScratch(id, qgroup);
    const staged = this.layout.staging(`create-${id}`);
    await this.subvolumes.discard(staged);
    if (origin.live === undefined) await this.btrfs.createSubvolume(staged, qgroup);
    else await this.btrfs.snapshot(origin.live, staged, { readOnly: false, qgroup });
    ensureProjectFolders(staged, { keepHome: false });
    // In place of the sender's snapshots there are empty folders.
    for (const name of await namesIn(join(staged, '.snapshots'))) {
      await this.subvolumes.deleteTree(join(staged, '.snapshots', name));
    }
    for (const { from, name } of origin.snapshots ?? []) {
      const to = join(staged, '.snapshots', name);
      await this.btrfs.snapshot(from, to, { readOnly: true, qgroup });
    }
    await this.btrfs.sync();
    await rename(staged, this.layout.live(id));
    await this.sidecars.update(id, (sidecar) => delete sidecar.state);
  }

  private async buildPersistence(id: ProjectId, qgroup: string, from?: string): Promise<void> {
    const path = this.layout.persistence(id);
    // There is no live volume yet: what lies here is of a try that died.
    await this.subvolumes.discard(path);
    if (from === undefined) await this.btrfs.createSubvolume(path, qgroup);
    else await this.btrfs.snapshot(from, path, { readOnly: false, qgroup });
    await ensureFolder(path, privateMode, { uid: 0, gid: 0 });
  }

  async buildScratch(id: ProjectId, qgroup: string): Promise<void> {
    const path = this.layout.scratch(id);
    const owner = { uid: containerRootId, gid: containerRootId };
    if (subvolumeAt(path) && (await isFolderAs(path, homeMode, owner))) return;
    // At its limit even another owner of a folder is refused.
    await this.qgroups.withSlack(id, async () => {
      if (!subvolumeAt(path)) await this.btrfs.createSubvolume(path, qgroup);
      await ensureFolder(path, homeMode, owner);
    });
  }

  /** A volume that lost its persistence or scratch (a crash, an operator) gets empty ones. */
  async ensureParts(id: ProjectId): Promise<void> {
    const qgroup = await this.qgroups.ensureGroup(id);
    await this.buildScratch(id, qgroup);
    if (subvolumeAt(this.layout.persistence(id))) return;
    await this.qgroups.withSlack(id, () => this.buildPersistence(id, qgroup));
  }

  async delete(id: ProjectId): Promise<void> {
    if (!(await this.hasParts(id))) return;
    await this.sidecars.update(id, (sidecar) => (sidecar.state = 'deleting'), { anew: true });
    await this.removeParts(id);
  }

  private async hasParts(id: ProjectId): Promise<boolean> {
    const parts = [
      this.layout.live(id),
      this.layout.persistence(id),
      this.layout.scratch(id),
      this.layout.frozenFolder(id),
      this.layout.sidecar(id),
    ];
    for (const part of parts) if (await exists(part)) return true;
    return false;
  }

  private async removeParts(id: ProjectId): Promise<void> {
    await this.subvolumes.discard(this.layout.live(id));
    for (const kind of ['restore', 'create', 'clone']) {
      await this.subvolumes.discard(this.layout.staging(`${kind}-${id}`));
    }
    await this.subvolumes.discard(this.layout.persistence(id));
    await this.subvolumes.discard(this.layout.scratch(id));
    for (const name of await this.frozen.names(id)) await this.frozen.release(id, name);
    await this.subvolumes.deleteTree(this.layout.frozenFolder(id));
    // The group goes with its last member, when the cleaner is done; a limit must not stay till
    // then, because the project may come back.
    if (this.qgroups.limit(id) !== undefined) await this.qgroups.setLimit(id, undefined);
    this.qgroups.giveUp(id);
    await this.sidecars.remove(id);
  }
}

function keptFacts(plan: ActivationPlan): Sidecar['snapshots'] {
  const facts: Sidecar['snapshots'] = {};
  for (const { name, locked, createdAt } of plan.snapshots) {
    facts[name] = { locked, ...(createdAt !== undefined && { createdAt }) };
  }
  return facts;
}
