import { chmod, mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { release } from 'node:os';
import type { MoveId, ProjectId } from '@rookery/core/contract';
import { SystemClock, type Clock, type Exec } from '@rookery/core';
import { subvolumeAt } from './btrfs/ioctl.js';
import { btrfsParts, type BtrfsDependencies } from './btrfs/parts.js';
import { atLeast } from './btrfs/qgroups.js';
import { StorageReconciler } from './btrfs/reconciler.js';
import { ensureSafeMount, isBtrfs } from './btrfs/volume-mount.js';
import { ensureFolder, exists, namesIn, withFolderLock } from './files.js';
import { projectOfFolder, type VolumeLayout } from './layout.js';
import { LoopbackVolume } from './loopback.js';
import { restorePath } from './restore-path.js';
import { dropLayer } from './root-layer.js';
import {
  StorageDriver,
  type ActivationPlan,
  type TemporarySnapshot,
  type LandedImage,
  type PathStaging,
  type ReceivedSubvolume,
  type SendOptions,
  type Snapshot,
  type StagedImage,
  type StorageCapabilities,
  type StorageDesired,
  type StorageRepair,
  type StorageRoom,
  type StorageSpace,
  type StreamSource,
  type Volume,
} from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';
import type { ResolvedStorageOptions } from './storage.options.js';
import { ProjectLocks } from './project-locks.js';
import { requireFree, spaceOf } from './space.js';

/** Send protocol 2 (compressed data) came with Linux 6.0 and btrfs-progs 6.0. */
const sendV2Since: readonly [number, number] = [6, 0];
/** Making a file system and mounting one that was not unmounted both take a while. */
const openTimeoutMs = 10 * 60_000;
/** Containers get what is theirs by mounts: nobody but root walks in here. */
const volumeMode = 0o700;

/** Keeps projects as btrfs subvolumes: snapshots, quotas and streams are the file system's own. */
export class BtrfsStorageDriver extends StorageDriver {
  private readonly layout: VolumeLayout;
  private readonly parts: BtrfsDependencies;
  private readonly loopback: LoopbackVolume | undefined;
  private readonly locks = new ProjectLocks();

  constructor(
    private readonly exec: Exec,
    private readonly options: ResolvedStorageOptions,
    private readonly clock: Clock = new SystemClock(),
  ) {
    super();
    const { volume, btrfsProgram, loopback } = options;
    this.parts = btrfsParts(exec, options, clock);
    this.layout = this.parts.layout;
    this.loopback =
      loopback &&
      new LoopbackVolume(exec, { ...loopback, volume, btrfsProgram, create: options.create });
  }

  get capabilities(): StorageCapabilities {
    return {
      snapshots: true,
      quota: this.parts.qgroups.mode,
      sendReceive: true,
      sendProtocol: this.parts.sender.protocol,
      reflink: true,
      reserveBytes: this.parts.reserve.bytes,
    };
  }

  /** Two processes of a host (and a restarted one beside the old) may open it at the same time. */
  async open(): Promise<void> {
    const folder = dirname(this.options.volume);
    await mkdir(folder, { recursive: true });
    await withFolderLock(folder, openTimeoutMs, () => this.openLocked());
  }

  private async openLocked(): Promise<void> {
    const { volume, quota } = this.options;
    await this.loopback?.open();
    if (!this.options.create && !(await exists(volume))) {
      throw StorageErrors.VOLUME_ABSENT({ reason: `there is no folder ${volume}` });
    }
    await this.refuseOther();
    if (!(await isBtrfs(volume))) {
      throw StorageErrors.VOLUME_UNUSABLE({ volume, reason: 'it is not btrfs' });
    }
    await ensureSafeMount(this.exec, volume);
    await chmod(volume, volumeMode);
    for (const { path, mode } of this.layout.folders()) await ensureFolder(path, mode);
    await this.parts.qgroups.enable(quota, release());
    await this.parts.reserve.open();
    this.parts.sender.protocol = atLeast(await this.parts.btrfs.version(), sendV2Since) ? 2 : 1;
  }

  async identity(): Promise<string> {
    return `btrfs ${await this.parts.btrfs.uuid()}`;
  }

  /** Before anything is made on it. @throws VOLUME_FOREIGN */
  private async refuseOther(): Promise<void> {
    const { volume, identity: expected } = this.options;
    if (expected === undefined) return;
    const found = (await isBtrfs(volume)) ? await this.identity() : 'no btrfs';
    if (found === expected) return;
    // What was just mounted must not hide the right one when that comes back.
    await this.loopback?.unmount();
    throw StorageErrors.VOLUME_FOREIGN({ volume, found, expected });
  }

  async close(): Promise<void> {
    await this.parts.images.close();
    if (this.options.unmountOnClose) await this.loopback?.unmount();
  }

  /** Makes a loopback volume larger; others grow with their disk. */
  async growTo(sizeBytes: number): Promise<void> {
    await this.loopback?.growTo(sizeBytes);
  }

  flush(): Promise<void> {
    return this.parts.btrfs.sync();
  }

  /** What projects may still take: the reserve is not free. */
  async space(): Promise<StorageSpace> {
    const { volume, loopback } = this.options;
    const { totalBytes, freeBytes } = await spaceOf(volume, loopback?.imageFile);
    return { totalBytes, freeBytes: Math.max(0, freeBytes - this.parts.reserve.bytes) };
  }

  override keepReserve(): Promise<void> {
    return this.parts.reserve.keep();
  }

  async createVolume(id: ProjectId, options: { quotaBytes: number }): Promise<Volume> {
    return this.locked(id, async () => {
      if (this.isThere(id)) {
        await this.parts.volumes.ensureParts(id);
      } else {
        // What is there already needs no room: a project starts on a full volume too.
        requireFree(await this.space(), this.options);
        await this.parts.volumes.create(id, options.quotaBytes);
      }
      return this.layout.asVolume(id);
    });
  }

  async cloneVolume(
    from: { projectId: ProjectId; snapshot?: string },
    to: ProjectId,
    options: { quotaBytes: number; signal?: AbortSignal },
  ): Promise<Volume> {
    requireFree(await this.space(), this.options);
    const origin = `${from.projectId}/${from.snapshot ?? ''}`;
    // Before the clone's own lock: no task ever waits for one lock while it holds another.
    await using source = await this.cloneSource(from, to);
    return await this.locked(to, async () => {
      if (this.isThere(to)) {
        const { clonedFrom } = await this.parts.sidecars.read(to);
        if (clonedFrom !== origin) throw StorageErrors.VOLUME_EXISTS({ projectId: to });
        return this.layout.asVolume(to);
      }
      const signal = options.signal && { signal: options.signal };
      const { live, persistence } = source;
      await this.parts.volumes.clone(
        to,
        {
          live: () => this.send(live, signal),
          ...(persistence && { persistence: () => this.send(persistence, signal) }),
        },
        { quotaBytes: options.quotaBytes, origin, ...signal },
      );
      return this.layout.asVolume(to);
    });
  }

  /** A snapshot holds no persistence, so its clone begins with an empty one. */
  private async cloneSource(
    from: { projectId: ProjectId; snapshot?: string },
    to: ProjectId,
  ): Promise<AsyncDisposable & { live: StreamSource; persistence?: StreamSource }> {
    const { projectId, snapshot } = from;
    const nothing = (): Promise<void> => Promise.resolve();
    return this.lockedVolume(projectId, async () => {
      if (snapshot !== undefined) {
        await this.parts.snapshots.get(projectId, snapshot);
        const live: StreamSource = { kind: 'snapshot', projectId, name: snapshot };
        return { live, [Symbol.asyncDispose]: nothing };
      }
      const name = `clone-${to}`;
      const frozen = await this.parts.frozen.freeze(projectId, name);
      return {
        live: { kind: 'frozen', projectId, name },
        persistence: { kind: 'persistence', projectId, name },
        [Symbol.asyncDispose]: () => frozen.release(),
      };
    });
  }

  async deleteVolume(id: ProjectId): Promise<void> {
    await this.locked(id, () => this.parts.volumes.delete(id));
  }

  override replaceVolume(
    from: ProjectId,
    to: ProjectId,
    options: { discard?: boolean } = {},
  ): Promise<{ previous?: string }> {
    // One lock at a time: `from` is a stand-in that nobody else knows.
    return this.locked(to, async () => {
      if (!this.isThere(from) && !this.isThere(to)) {
        throw StorageErrors.VOLUME_NOT_FOUND({ projectId: from });
      }
      return this.parts.replacement.replace(from, to, { discard: options.discard ?? false });
    });
  }

  volume(id: ProjectId): Promise<Volume | undefined> {
    return Promise.resolve(this.isThere(id) ? this.layout.asVolume(id) : undefined);
  }

  async listVolumes(): Promise<Volume[]> {
    const ids = (await namesIn(this.options.volume)).map(projectOfFolder);
    return ids
      .filter((id) => id !== undefined)
      .filter((id) => this.isThere(id))
      .map((id) => this.layout.asVolume(id));
  }

  createSnapshot(id: ProjectId, name: string): Promise<Snapshot> {
    return this.lockedVolume(id, () => this.parts.snapshots.create(id, name));
  }

  listSnapshots(id: ProjectId): Promise<Snapshot[]> {
    return this.lockedVolume(id, () => this.parts.snapshots.list(id));
  }

  setSnapshotLocked(id: ProjectId, name: string, locked: boolean): Promise<Snapshot> {
    return this.lockedVolume(id, () => this.parts.snapshots.setLocked(id, name, locked));
  }

  deleteSnapshot(id: ProjectId, name: string): Promise<void> {
    return this.lockedVolume(id, () => this.parts.snapshots.delete(id, name));
  }

  restoreSnapshot(id: ProjectId, name: string): Promise<{ previous: string }> {
    return this.lockedVolume(id, () => {
      if (this.parts.sender.readsSnapshots(id)) {
        throw StorageErrors.VOLUME_BUSY({ projectId: id, what: 'sent' });
      }
      return this.parts.snapshots.restore(id, name);
    });
  }

  resetLayer(id: ProjectId, layer: string, options: { keepAs?: string } = {}): Promise<void> {
    const { snapshots, qgroups, pathStagings } = this.parts;
    return this.lockedVolume(id, () =>
      qgroups.withSlack(id, async () => {
        if (options.keepAs !== undefined) await snapshots.take(id, options.keepAs);
        await dropLayer(this.layout, pathStagings, id, layer);
        await this.flush();
      }),
    );
  }

  restoreSnapshotPath(id: ProjectId, name: string, path: string): Promise<void> {
    return this.lockedVolume(id, async () => {
      await this.parts.snapshots.get(id, name);
      await restorePath(this.exec, this.parts.pathStagings, {
        projectId: id,
        snapshotName: name,
        path,
        volume: this.options.volume,
        snapshotHome: `${this.layout.snapshot(id, name)}/home`,
      });
    });
  }

  stagePath(id: ProjectId, name: string): Promise<PathStaging> {
    return this.lockedVolume(id, () => this.parts.pathStagings.open(id, name));
  }

  freeze(id: ProjectId, name: string): Promise<TemporarySnapshot> {
    return this.lockedVolume(id, () => this.parts.frozen.freeze(id, name));
  }

  listTemporarySnapshots(
    id: ProjectId,
  ): Promise<{ name: string; uuid: string; createdAt: number }[]> {
    return this.parts.frozen.list(id);
  }

  async setQuota(
    id: ProjectId,
    quotaBytes: number,
    options: { allowBelowUse?: boolean } = {},
  ): Promise<void> {
    await this.lockedVolume(id, () =>
      this.parts.qgroups.setQuota(id, quotaBytes, {
        allowBelowUse: options.allowBelowUse ?? false,
      }),
    );
  }

  async usage(
    id: ProjectId,
    options: { committed?: boolean } = {},
  ): Promise<{ usedBytes: number; limitBytes?: number }> {
    this.require(id);
    const { qgroups } = this.parts;
    const { referencedBytes, limitBytes } =
      options.committed === true ? await qgroups.committedUsage(id) : await qgroups.freshUsage(id);
    return { usedBytes: referencedBytes, ...(limitBytes !== undefined && { limitBytes }) };
  }

  override withRoom<T>(id: ProjectId, task: (room: StorageRoom) => Promise<T>): Promise<T> {
    this.require(id);
    return this.parts.qgroups.withRoom(id, task);
  }

  send(source: StreamSource, options: SendOptions = {}): Readable {
    return this.parts.sender.send(source, options);
  }

  async prepareLanding(moveId: MoveId, id: ProjectId): Promise<void> {
    requireFree(await this.space(), this.options);
    await this.locked(id, async () => {
      if (this.isThere(id)) throw StorageErrors.VOLUME_EXISTS({ projectId: id });
      await this.parts.landings.prepare(moveId, id);
    });
  }

  receive(
    stream: Readable,
    landing: { moveId: MoveId; item: string },
    options: { signal?: AbortSignal } = {},
  ): Promise<ReceivedSubvolume> {
    return this.parts.landings.receive(stream, landing.moveId, landing.item, options.signal);
  }

  listLanding(moveId: MoveId): Promise<ReceivedSubvolume[]> {
    return this.parts.landings.list(moveId);
  }

  activateLanding(
    moveId: MoveId,
    id: ProjectId,
    plan: ActivationPlan,
  ): Promise<{ overQuota: boolean }> {
    return this.locked(id, async () => ({
      overQuota: await this.parts.volumes.activate(moveId, id, plan),
    }));
  }

  dropLanding(moveId: MoveId): Promise<void> {
    return this.parts.landings.drop(moveId);
  }

  async stageImage(): Promise<StagedImage> {
    requireFree(await this.space(), this.options);
    return this.parts.images.stage();
  }

  adoptImage(
    { moveId, item, ...image }: LandedImage,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const { images, landings } = this.parts;
    const path = (): string => landings.arrived(moveId, item);
    const drop = (): Promise<void> => landings.dropItem(moveId, item);
    return images.adopt({ ...image, path, drop }, options.signal);
  }

  imageTree(digest: string): Promise<string | undefined> {
    return this.parts.images.tree(digest);
  }

  imagePath(digest: string): Promise<string | undefined> {
    return Promise.resolve(this.parts.images.path(digest));
  }

  listImages(): Promise<string[]> {
    return this.parts.images.list();
  }

  deleteImage(digest: string): Promise<void> {
    return this.parts.images.delete(digest);
  }

  async reconcile(desired: StorageDesired): Promise<StorageRepair[]> {
    const reconciler = new StorageReconciler({
      ...this.parts,
      clock: this.clock,
      graceMs: this.options.reconcileGraceMs,
      locked: (id, task) => this.locked(id, task),
      isLocked: (id) => this.locks.isHeld(id),
    });
    await this.parts.qgroups.settle({ wait: false });
    await this.parts.reserve.adopt();
    return reconciler.reconcile(desired);
  }

  private isThere(id: ProjectId): boolean {
    return subvolumeAt(this.layout.live(id)) !== undefined;
  }

  private require(id: ProjectId): void {
    if (!this.isThere(id)) throw StorageErrors.VOLUME_NOT_FOUND({ projectId: id });
  }

  /** One change at a time a project; a restore that a crash left open is finished first. */
  private locked<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    return this.locks.run(id, async () => {
      if (this.isThere(id)) await this.parts.snapshots.finishRestore(id);
      return task();
    });
  }

  private lockedVolume<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    return this.locked(id, () => {
      this.require(id);
      return task();
    });
  }
}
