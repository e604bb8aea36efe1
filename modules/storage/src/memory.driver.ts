import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { MoveId, ProjectId } from '@rookery/core/contract';
import {
  formatBytes,
  KeyedLock,
  newId,
  parseInput,
  SystemClock,
  SystemExec,
  type Clock,
} from '@rookery/core';
import { StoredSnapshotName, VolumeLayout } from './layout.js';
import { copy, copyLive, copyPath, layFolders, removeFolders, sizeOf } from './memory/files.js';
import { packFolder } from './memory/folder-stream.js';
import { freezeCopy, listCopies, releaseCopy } from './memory/temporary-snapshots.js';
import { MemoryImages } from './memory/images.js';
import { MemoryLandings } from './memory/landings.js';
import { reconcileMemory, type MemoryVolume } from './memory/reconcile.js';
import { findSource } from './memory/sources.js';
import { PathStagings } from './path-staging.js';
import { dropLayer } from './root-layer.js';
import { spaceOf } from './space.js';
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
  type StorageSpace,
  type StreamSource,
  type Volume,
} from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';

/**
 * For tests of what stands on storage: needs no root, no btrfs. Remembers everything in memory and
 * keeps files in a temporary folder that `close` removes. Quotas are counted, not enforced.
 */
export class MemoryStorageDriver extends StorageDriver {
  readonly capabilities: StorageCapabilities = {
    snapshots: true,
    quota: 'simple',
    sendReceive: true,
    sendProtocol: 1,
    reflink: false,
    reserveBytes: 0,
  };
  private readonly volumes = new Map<ProjectId, MemoryVolume>();
  private landings = new MemoryLandings(new VolumeLayout('/nonexistent'));
  private images = new MemoryImages(new VolumeLayout('/nonexistent'));
  private readonly locks = new KeyedLock();
  private readonly clock: Clock;
  private readonly snapshotsMax: number;
  private layout = new VolumeLayout('/nonexistent');
  private pathStagings = this.stagingsIn(this.layout);
  private generation = 0;
  private readonly id = newId();

  constructor(options: { snapshotsPerProjectMax?: number; clock?: Clock } = {}) {
    super();
    this.clock = options.clock ?? new SystemClock();
    this.snapshotsMax = options.snapshotsPerProjectMax ?? 100;
  }

  identity(): Promise<string> {
    return Promise.resolve(`memory ${this.id}`);
  }

  async open(): Promise<void> {
    this.layout = new VolumeLayout(await mkdtemp(join(tmpdir(), 'rookery-memory-')));
    this.images = new MemoryImages(this.layout);
    this.pathStagings = this.stagingsIn(this.layout);
    this.landings = new MemoryLandings(this.layout);
    for (const { path } of this.layout.folders()) await mkdir(path, { recursive: true });
  }

  async close(): Promise<void> {
    await rm(this.layout.volume, { recursive: true, force: true });
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  private stagingsIn(layout: VolumeLayout): PathStagings {
    return new PathStagings(new SystemExec(), layout, () => this.flush());
  }

  space(): Promise<StorageSpace> {
    return spaceOf(this.layout.volume);
  }

  createVolume(id: ProjectId, options: { quotaBytes: number }): Promise<Volume> {
    return this.locked(id, async () => {
      if (!this.volumes.has(id)) await this.build(id, options.quotaBytes, {});
      return this.layout.asVolume(id);
    });
  }

  async cloneVolume(
    from: { projectId: ProjectId; snapshot?: string },
    to: ProjectId,
    options: { quotaBytes: number; signal?: AbortSignal },
  ): Promise<Volume> {
    this.get(from.projectId);
    return this.locked(to, async () => {
      const clonedFrom = `${from.projectId}/${from.snapshot ?? ''}`;
      const there = this.volumes.get(to);
      if (there && there.clonedFrom !== clonedFrom) {
        throw StorageErrors.VOLUME_EXISTS({ projectId: to });
      }
      if (!there) {
        const { projectId, snapshot } = from;
        if (snapshot !== undefined) this.snapshotOf(projectId, snapshot);
        const live =
          snapshot === undefined
            ? this.layout.live(projectId)
            : this.layout.snapshot(projectId, snapshot);
        await this.build(to, options.quotaBytes, {
          live,
          ...(snapshot === undefined && { persistence: this.layout.persistence(projectId) }),
        });
        this.get(to).clonedFrom = clonedFrom;
      }
      return this.layout.asVolume(to);
    });
  }

  private async build(
    id: ProjectId,
    quotaBytes: number,
    origin: { live?: string; persistence?: string },
  ): Promise<void> {
    await layFolders(this.layout, id, origin);
    this.volumes.set(id, { quotaBytes, snapshots: new Map(), frozen: new Map() });
  }

  deleteVolume(id: ProjectId): Promise<void> {
    return this.locked(id, async () => {
      this.volumes.delete(id);
      await removeFolders(this.layout, id);
    });
  }

  async replaceVolume(
    from: ProjectId,
    to: ProjectId,
    { discard = false }: { discard?: boolean } = {},
  ): Promise<{ previous?: string }> {
    const source = this.volumes.get(from);
    if (!source) {
      this.get(to);
      return {};
    }
    const kept = this.volumes.get(to);
    const previous = `before-restore-${(this.generation += 1)}`;
    if (!kept) await this.build(to, source.quotaBytes, {});
    else if (!discard) await this.take(to, previous);
    for (const { name, locked } of discard && kept ? [...kept.snapshots.values()] : []) {
      if (!locked) await this.deleteSnapshot(to, name);
    }
    await copyLive(this.layout.live(from), this.layout.live(to));
    await rm(this.layout.persistence(to), { recursive: true, force: true });
    await rename(this.layout.persistence(from), this.layout.persistence(to));
    this.get(to).quotaBytes = source.quotaBytes;
    await this.deleteVolume(from);
    return kept && !discard ? { previous } : {};
  }

  volume(id: ProjectId): Promise<Volume | undefined> {
    return Promise.resolve(this.volumes.has(id) ? this.layout.asVolume(id) : undefined);
  }

  listVolumes(): Promise<Volume[]> {
    return Promise.resolve([...this.volumes.keys()].map((id) => this.layout.asVolume(id)));
  }

  createSnapshot(id: ProjectId, name: string): Promise<Snapshot> {
    return this.locked(id, async () => {
      const { snapshots } = this.get(id);
      parseInput(StoredSnapshotName, name);
      if (snapshots.has(name)) throw StorageErrors.SNAPSHOT_EXISTS({ name });
      if (snapshots.size >= this.snapshotsMax) {
        throw StorageErrors.SNAPSHOT_LIMIT({ count: snapshots.size });
      }
      return this.take(id, name);
    });
  }

  private async take(id: ProjectId, name: string): Promise<Snapshot> {
    await copyLive(this.layout.live(id), this.layout.snapshot(id, name));
    return this.remember(id, { name, locked: false, uuid: newId(), createdAt: this.clock.now() });
  }

  private remember(
    id: ProjectId,
    facts: { name: string; locked: boolean; uuid: string; createdAt: number },
  ): Snapshot {
    const snapshot = { projectId: id, generation: (this.generation += 1), ...facts };
    this.get(id).snapshots.set(facts.name, snapshot);
    return snapshot;
  }

  listSnapshots(id: ProjectId): Promise<Snapshot[]> {
    return this.locked(id, async () =>
      [...this.get(id).snapshots.values()].sort((a, b) => a.generation - b.generation),
    );
  }

  setSnapshotLocked(id: ProjectId, name: string, locked: boolean): Promise<Snapshot> {
    return this.locked(id, async () => {
      const snapshot = { ...this.snapshotOf(id, name), locked };
      this.get(id).snapshots.set(name, snapshot);
      return snapshot;
    });
  }

  deleteSnapshot(id: ProjectId, name: string): Promise<void> {
    return this.locked(id, async () => {
      const { snapshots } = this.get(id);
      if (snapshots.get(name)?.locked) throw StorageErrors.SNAPSHOT_LOCKED({ name });
      snapshots.delete(name);
      await rm(this.layout.snapshot(id, name), { recursive: true, force: true });
    });
  }

  restoreSnapshot(id: ProjectId, name: string): Promise<{ previous: string }> {
    return this.locked(id, async () => {
      this.snapshotOf(id, name);
      const previous = `before-restore-${(this.generation += 1)}`;
      await this.take(id, previous);
      await copyLive(this.layout.snapshot(id, name), this.layout.live(id));
      return { previous };
    });
  }

  resetLayer(id: ProjectId, layer: string, options: { keepAs?: string } = {}): Promise<void> {
    return this.locked(id, async () => {
      const { keepAs } = options;
      const { snapshots } = this.get(id);
      if (keepAs !== undefined && !snapshots.has(keepAs)) await this.take(id, keepAs);
      await dropLayer(this.layout, this.pathStagings, id, layer);
    });
  }

  restoreSnapshotPath(id: ProjectId, name: string, path: string): Promise<void> {
    return this.locked(id, async () => {
      this.snapshotOf(id, name);
      const from = join(this.layout.snapshot(id, name), 'home');
      await copyPath(from, this.layout.home(id), { name, path });
    });
  }

  stagePath(id: ProjectId, name: string): Promise<PathStaging> {
    return this.locked(id, async () => {
      this.get(id);
      return this.pathStagings.open(id, name);
    });
  }

  freeze(id: ProjectId, name: string): Promise<TemporarySnapshot> {
    return this.locked(id, () =>
      freezeCopy(id, name, this.get(id).frozen, { layout: this.layout, clock: this.clock }),
    );
  }

  async listTemporarySnapshots(
    id: ProjectId,
  ): Promise<{ name: string; uuid: string; createdAt: number }[]> {
    return listCopies(this.volumes.get(id)?.frozen);
  }

  setQuota(
    id: ProjectId,
    quotaBytes: number,
    options: { allowBelowUse?: boolean } = {},
  ): Promise<void> {
    return this.locked(id, async () => {
      const used = await this.used(id);
      if (used > quotaBytes && !options.allowBelowUse) {
        throw StorageErrors.QUOTA_BELOW_USE({
          used: formatBytes(used),
          wanted: formatBytes(quotaBytes),
        });
      }
      this.get(id).quotaBytes = quotaBytes;
    });
  }

  async usage(id: ProjectId): Promise<{ usedBytes: number; limitBytes?: number }> {
    const { quotaBytes } = this.get(id);
    return { usedBytes: await this.used(id), limitBytes: quotaBytes };
  }

  private async used(id: ProjectId): Promise<number> {
    return (await sizeOf(this.layout.live(id))) + (await sizeOf(this.layout.persistence(id)));
  }

  send(source: StreamSource, options: SendOptions = {}): Readable {
    return Readable.from(this.pack(source, options), { objectMode: false });
  }

  private async *pack(source: StreamSource, options: SendOptions): AsyncGenerator<Buffer> {
    const sources = {
      layout: this.layout,
      imageUuid: (digest: string) => this.images.uuid(digest),
      volume: (id: ProjectId) => this.get(id),
    };
    const { uuid, path } = findSource(source, sources);
    const parentUuid = options.parent && findSource(options.parent, sources).uuid;
    yield await packFolder(path, { uuid, ...(parentUuid !== undefined && { parentUuid }) });
  }

  async prepareLanding(moveId: MoveId, id: ProjectId): Promise<void> {
    if (this.volumes.has(id)) throw StorageErrors.VOLUME_EXISTS({ projectId: id });
    await this.landings.prepare(moveId);
  }

  receive(
    stream: Readable,
    landing: { moveId: MoveId; item: string },
    options: { signal?: AbortSignal } = {},
  ): Promise<ReceivedSubvolume> {
    return this.landings.receive(stream, landing, options.signal);
  }

  listLanding(moveId: MoveId): Promise<ReceivedSubvolume[]> {
    return Promise.resolve(this.landings.list(moveId));
  }

  activateLanding(
    moveId: MoveId,
    id: ProjectId,
    plan: ActivationPlan,
  ): Promise<{ overQuota: boolean }> {
    return this.locked(id, async () => {
      const there = this.volumes.get(id);
      if (there && there.activatedBy !== moveId) {
        throw StorageErrors.VOLUME_EXISTS({ projectId: id });
      }
      if (!there) await this.activate(moveId, id, plan);
      this.get(id).quotaBytes = plan.quotaBytes;
      return { overQuota: (await this.used(id)) > plan.quotaBytes };
    });
  }

  private async activate(moveId: MoveId, id: ProjectId, plan: ActivationPlan): Promise<void> {
    const at = (item: string): string => this.landings.arrived(moveId, item).path;
    const persistence = plan.persistence !== undefined && { persistence: at(plan.persistence) };
    const snapshots = plan.snapshots.map((each) => ({
      ...each,
      ...this.landings.arrived(moveId, each.item),
    }));
    await this.build(id, plan.quotaBytes, { live: at(plan.live), ...persistence });
    this.get(id).activatedBy = moveId;
    for (const { name, locked, uuid, path, createdAt = this.clock.now() } of snapshots) {
      await copy(path, this.layout.snapshot(id, name));
      this.remember(id, { name, locked, uuid, createdAt });
    }
  }

  dropLanding(moveId: MoveId): Promise<void> {
    return this.landings.drop(moveId);
  }

  stageImage(): Promise<StagedImage> {
    return this.images.stage();
  }

  adoptImage({ moveId, item, ...image }: LandedImage): Promise<void> {
    const arrived = () => this.landings.arrived(moveId, item);
    const drop = (): Promise<void> => this.landings.dropItem(moveId, item);
    return this.images.adopt({ ...image, path: () => arrived().path, drop }, () => arrived().uuid);
  }

  imageTree(digest: string): Promise<string | undefined> {
    return this.images.tree(digest);
  }

  imagePath(digest: string): Promise<string | undefined> {
    return Promise.resolve(this.images.path(digest));
  }

  listImages(): Promise<string[]> {
    return Promise.resolve(this.images.list());
  }

  deleteImage(digest: string): Promise<void> {
    return this.images.delete(digest);
  }

  reconcile(desired: StorageDesired): Promise<StorageRepair[]> {
    return reconcileMemory(desired, this.volumes, this.landings.ids, {
      stagedPaths: (id) => this.pathStagings.names(id),
      dropStagedPath: (id, name) => this.locked(id, () => this.pathStagings.drop(id, name)),
      deleteVolume: (id) => this.deleteVolume(id),
      releaseTemporarySnapshot: (id, name) =>
        releaseCopy(id, name, this.volumes.get(id)?.frozen, this.layout),
      dropLanding: (moveId) => this.dropLanding(moveId),
    });
  }

  /** Path checks of the real layout apply: a wrong id is refused before anything happens. */
  private async locked<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    this.layout.live(id);
    return this.locks.run(id, task);
  }

  private get(id: ProjectId): MemoryVolume {
    const volume = this.volumes.get(id);
    if (!volume) throw StorageErrors.VOLUME_NOT_FOUND({ projectId: id });
    return volume;
  }

  private snapshotOf(id: ProjectId, name: string): Snapshot {
    const snapshot = this.get(id).snapshots.get(name);
    if (!snapshot) throw StorageErrors.SNAPSHOT_NOT_FOUND({ name });
    return snapshot;
  }
}
