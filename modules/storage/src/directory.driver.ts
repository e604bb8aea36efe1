import { lstat, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { MoveId, ProjectId } from '@rookery/core/contract';
import { newId, parseInput, type CodedError, type Exec } from '@rookery/core';
import { ensureFolder, exists, identifyFolder, ignoreMissing, namesIn } from './files.js';
import { ImageTrees } from './image-tree/image-trees.js';
import {
  containerRootId,
  TemporarySnapshotName,
  homeMode,
  privateMode,
  projectOfFolder,
  rootOwnedMode,
  VolumeLayout,
} from './layout.js';
import { PathStagings } from './path-staging.js';
import { ProjectLocks } from './project-locks.js';
import { dropLayer } from './root-layer.js';
import { requireFree, spaceErrorOf, spaceOf } from './space.js';
import {
  StorageDriver,
  type TemporarySnapshot,
  type PathStaging,
  type ReceivedSubvolume,
  type Snapshot,
  type StagedImage,
  type StorageCapabilities,
  type StorageDesired,
  type StorageRepair,
  type StorageSpace,
  type Volume,
} from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';
import type { ResolvedStorageOptions } from './storage.options.js';
import { VolumeMark } from './volume-mark.js';

const copyTimeoutMs = 6 * 60 * 60_000;
const stagingPrefix = '.staging-';

/**
 * Keeps projects as plain folders, for hosts without btrfs: no quota, no snapshots, no moves. What
 * needs them fails with a code; a picture is the live files, and says so.
 */
export class DirectoryStorageDriver extends StorageDriver {
  readonly capabilities: StorageCapabilities = {
    snapshots: false,
    quota: 'none',
    sendReceive: false,
    sendProtocol: 0,
    reflink: false,
    reserveBytes: 0,
  };
  private readonly layout: VolumeLayout;
  private readonly mark: VolumeMark;
  private readonly trees: ImageTrees;
  private readonly locks = new ProjectLocks();
  private readonly staged = new Set<string>();
  private readonly pathStagings: PathStagings;

  constructor(
    private readonly exec: Exec,
    private readonly options: ResolvedStorageOptions,
  ) {
    super();
    this.layout = new VolumeLayout(options.volume);
    this.mark = new VolumeMark(options);
    this.trees = new ImageTrees({ layout: this.layout, identify: identifyFolder });
    this.pathStagings = new PathStagings(exec, this.layout, () => this.flush());
  }

  async open(): Promise<void> {
    const { volume, create } = this.options;
    if (!create && !(await exists(volume))) {
      throw StorageErrors.VOLUME_ABSENT({ reason: `there is no folder ${volume}` });
    }
    await ensureFolder(volume, privateMode);
    await this.mark.ensure();
    for (const { path, mode } of this.layout.folders()) await ensureFolder(path, mode);
  }

  identity(): Promise<string> {
    return this.mark.read();
  }

  async close(): Promise<void> {
    await this.trees.close();
  }

  async flush(): Promise<void> {
    await this.exec.run(['sync', '-f', this.options.volume], { timeoutMs: copyTimeoutMs });
  }

  space(): Promise<StorageSpace> {
    return spaceOf(this.options.volume);
  }

  async createVolume(id: ProjectId, _options: { quotaBytes: number }): Promise<Volume> {
    // Checked before anything is made.
    this.layout.live(id);
    return this.locks.run(id, async () => {
      if (!(await this.volume(id))) {
        // What is there already needs no room: a project starts on a full volume too.
        requireFree(await this.space(), this.options);
        await this.build(id, {});
      }
      return this.layout.asVolume(id);
    });
  }

  async cloneVolume(
    from: { projectId: ProjectId; snapshot?: string },
    to: ProjectId,
    options: { quotaBytes: number; signal?: AbortSignal },
  ): Promise<Volume> {
    if (from.snapshot !== undefined) throw StorageErrors.SNAPSHOTS_UNSUPPORTED();
    requireFree(await this.space(), this.options);
    await this.require(from.projectId);
    return this.locks.run(to, async () => {
      const mark = join(this.layout.live(to), '.cloned-from', from.projectId);
      if (await this.volume(to)) {
        if (!(await exists(mark))) throw StorageErrors.VOLUME_EXISTS({ projectId: to });
        return this.layout.asVolume(to);
      }
      await this.build(to, { from: from.projectId, signal: options.signal });
      return this.layout.asVolume(to);
    });
  }

  private async build(
    id: ProjectId,
    origin: { from?: ProjectId; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const staged = this.layout.staging(`create-${id}`);
    await this.remove(staged);
    await this.remove(this.layout.persistence(id));
    try {
      if (origin.from === undefined) {
        await ensureFolder(this.layout.persistence(id), privateMode);
        await ensureFolder(staged, rootOwnedMode);
      } else {
        await this.copy(this.layout.persistence(origin.from), this.layout.persistence(id), origin);
        await this.copy(this.layout.live(origin.from), staged, origin);
        await this.remove(join(staged, '.cloned-from'));
        await ensureFolder(join(staged, '.cloned-from', origin.from), privateMode);
      }
      const owner = { uid: containerRootId, gid: containerRootId };
      await ensureFolder(this.layout.scratch(id), homeMode, owner);
      for (const part of ['.snapshots', '.local', '.local/share', '.local/share/overlay']) {
        await ensureFolder(join(staged, part), rootOwnedMode);
      }
      await ensureFolder(join(staged, 'home'), homeMode, owner);
      await rename(staged, this.layout.live(id));
    } catch (error) {
      for (const path of [staged, this.layout.persistence(id), this.layout.scratch(id)]) {
        await this.remove(path);
      }
      throw error;
    }
  }

  private async copy(
    from: string,
    to: string,
    options: { signal?: AbortSignal | undefined },
  ): Promise<void> {
    try {
      await this.exec.run(['cp', '-a', '--reflink=auto', '-T', '--', from, to], {
        timeoutMs: copyTimeoutMs,
        ...(options.signal && { signal: options.signal }),
      });
    } catch (error) {
      const text = String((error as CodedError).details['stderr'] ?? '');
      throw spaceErrorOf(text, this.options.volume, error) ?? error;
    }
  }

  /** `rm` walks by descriptors: what a project swaps meanwhile leads it nowhere. */
  private async remove(path: string): Promise<void> {
    if (!(await exists(path))) return;
    await this.exec.run(['rm', '-rf', '--one-file-system', '--', path], {
      timeoutMs: copyTimeoutMs,
    });
  }

  async deleteVolume(id: ProjectId): Promise<void> {
    const live = this.layout.live(id);
    await this.locks.run(id, async () => {
      const trash = this.layout.staging(`trash-${newId()}`);
      await rename(live, trash).catch(ignoreMissing);
      const parts = [trash, this.layout.persistence(id), this.layout.scratch(id)];
      for (const path of parts) await this.remove(path);
    });
  }

  /** There are no snapshots here to keep anything in. */
  async replaceVolume(from: ProjectId, to: ProjectId): Promise<{ previous?: string }> {
    if (!(await this.volume(from))) await this.require(to);
    await this.locks.run(to, async () => {
      for (const at of ['persistence', 'live'] as const) {
        const [source, target] = [this.layout[at](from), this.layout[at](to)];
        if (!(await exists(source))) continue;
        const trash = this.layout.staging(`trash-${newId()}`);
        await rename(target, trash).catch(ignoreMissing);
        await rename(source, target);
        await this.remove(trash);
      }
    });
    await this.deleteVolume(from);
    return {};
  }

  async volume(id: ProjectId): Promise<Volume | undefined> {
    const there = await lstat(this.layout.live(id)).catch(ignoreMissing);
    return there?.isDirectory() ? this.layout.asVolume(id) : undefined;
  }

  async listVolumes(): Promise<Volume[]> {
    const ids = (await namesIn(this.options.volume)).map(projectOfFolder);
    return ids.filter((id) => id !== undefined).map((id) => this.layout.asVolume(id));
  }

  createSnapshot(): Promise<Snapshot> {
    return Promise.reject(StorageErrors.SNAPSHOTS_UNSUPPORTED());
  }

  async listSnapshots(id: ProjectId): Promise<Snapshot[]> {
    await this.require(id);
    return [];
  }

  setSnapshotLocked(): Promise<Snapshot> {
    return Promise.reject(StorageErrors.SNAPSHOTS_UNSUPPORTED());
  }

  deleteSnapshot(): Promise<void> {
    return Promise.reject(StorageErrors.SNAPSHOTS_UNSUPPORTED());
  }

  restoreSnapshot(): Promise<{ previous: string }> {
    return Promise.reject(StorageErrors.SNAPSHOTS_UNSUPPORTED());
  }

  async resetLayer(id: ProjectId, layer: string, options: { keepAs?: string } = {}): Promise<void> {
    await this.require(id);
    if (options.keepAs !== undefined) throw StorageErrors.RESET_NEEDS_DISCARD({ projectId: id });
    await this.locks.run(id, () => dropLayer(this.layout, this.pathStagings, id, layer));
    await this.flush();
  }

  restoreSnapshotPath(): Promise<void> {
    return Promise.reject(StorageErrors.SNAPSHOTS_UNSUPPORTED());
  }

  async stagePath(id: ProjectId, name: string): Promise<PathStaging> {
    await this.require(id);
    return this.locks.run(id, () => this.pathStagings.open(id, name));
  }

  async freeze(id: ProjectId, name: string): Promise<TemporarySnapshot> {
    parseInput(TemporarySnapshotName, name);
    await this.require(id);
    const nothing = (): Promise<void> => Promise.resolve();
    return {
      projectId: id,
      name,
      live: true,
      uuid: '',
      persistenceUuid: '',
      root: this.layout.live(id),
      persistence: this.layout.persistence(id),
      release: nothing,
      [Symbol.asyncDispose]: nothing,
    };
  }

  listTemporarySnapshots(): Promise<{ name: string; uuid: string; createdAt: number }[]> {
    return Promise.resolve([]);
  }

  setQuota(): Promise<void> {
    return Promise.reject(StorageErrors.QUOTA_UNSUPPORTED());
  }

  /** Walks all files: no limit stands behind it, so it is asked for rarely. */
  async usage(id: ProjectId): Promise<{ usedBytes: number }> {
    await this.require(id);
    const parts = [this.layout.live(id), this.layout.persistence(id), this.layout.scratch(id)];
    const { stdout } = await this.exec.run(['du', '-s', '-c', '-B1', '-x', '--', ...parts], {
      timeoutMs: copyTimeoutMs,
      // 1: a file went away meanwhile.
      okExits: [0, 1],
    });
    const total = stdout.trimEnd().split('\n').at(-1) ?? '';
    return { usedBytes: Number.parseInt(total, 10) || 0 };
  }

  send(): Readable {
    return new Readable({
      read() {
        this.destroy(StorageErrors.MOVE_UNSUPPORTED());
      },
    });
  }

  prepareLanding(): Promise<void> {
    return Promise.reject(StorageErrors.MOVE_UNSUPPORTED());
  }

  receive(stream: Readable): Promise<ReceivedSubvolume> {
    stream.destroy();
    return Promise.reject(StorageErrors.MOVE_UNSUPPORTED());
  }

  listLanding(): Promise<ReceivedSubvolume[]> {
    return Promise.resolve([]);
  }

  activateLanding(): Promise<{ overQuota: boolean }> {
    return Promise.reject(StorageErrors.MOVE_UNSUPPORTED());
  }

  dropLanding(_moveId: MoveId): Promise<void> {
    return Promise.resolve();
  }

  async stageImage(): Promise<StagedImage> {
    requireFree(await this.space(), this.options);
    const name = stagingPrefix + newId();
    const path = join(this.imagesFolder, name);
    this.staged.add(name);
    await ensureFolder(path, rootOwnedMode);
    const abort = async (): Promise<void> => {
      await this.remove(path);
      this.staged.delete(name);
    };
    const commit = async (digest: string): Promise<void> => {
      const target = this.layout.image(digest);
      if (!(await exists(target))) {
        await this.flush();
        await rename(path, target).catch(async (error: unknown) => {
          if (!(await exists(target))) throw error;
        });
      }
      await abort();
    };
    return { path, commit, abort, [Symbol.asyncDispose]: abort };
  }

  adoptImage(): Promise<void> {
    return Promise.reject(StorageErrors.MOVE_UNSUPPORTED());
  }

  async imageTree(digest: string): Promise<string | undefined> {
    const path = await this.imagePath(digest);
    return path === undefined ? undefined : this.trees.of(digest, path);
  }

  async imagePath(digest: string): Promise<string | undefined> {
    const path = this.layout.image(digest);
    return (await exists(path)) ? path : undefined;
  }

  async listImages(): Promise<string[]> {
    const digests = (await namesIn(this.imagesFolder)).map((name) => this.layout.imageDigest(name));
    return digests.filter((digest) => digest !== undefined).sort();
  }

  async deleteImage(digest: string): Promise<void> {
    const trash = this.layout.staging(`trash-${newId()}`);
    await this.trees.forget(digest);
    await rename(this.layout.image(digest), trash).catch(ignoreMissing);
    await this.remove(trash);
  }

  async reconcile(desired: StorageDesired): Promise<StorageRepair[]> {
    const repairs: StorageRepair[] = [];
    const wanted = new Set(desired.projects.map(({ projectId }) => projectId));
    for (const { projectId } of await this.listVolumes()) {
      if (wanted.has(projectId)) continue;
      if (desired.retired.includes(projectId)) {
        await this.deleteVolume(projectId);
        repairs.push({ kind: 'retired-volume-deleted', subject: projectId });
      } else {
        repairs.push({ kind: 'unknown-volume-found', subject: projectId });
      }
    }
    repairs.push(...(await this.dropStagedPaths(desired)));
    for (const name of await namesIn(this.layout.staging(''))) {
      // A half-made volume is removed by its next try; it may be under way now.
      if (!name.startsWith('trash-')) continue;
      await this.remove(this.layout.staging(name));
      repairs.push({ kind: 'leftover-dropped', subject: name });
    }
    for (const name of await namesIn(this.imagesFolder)) {
      if (!name.startsWith(stagingPrefix) || this.staged.has(name)) continue;
      await this.remove(join(this.imagesFolder, name));
      repairs.push({ kind: 'staged-image-dropped', subject: name });
    }
    return repairs;
  }

  private async dropStagedPaths(desired: StorageDesired): Promise<StorageRepair[]> {
    const claimed = desired.stagedPaths ?? [];
    const repairs: StorageRepair[] = [];
    for (const { projectId } of await this.listVolumes()) {
      for (const name of await this.pathStagings.names(projectId)) {
        const wanted = claimed.some((each) => each.projectId === projectId && each.name === name);
        if (wanted || this.locks.isHeld(projectId)) continue;
        const drop = (): Promise<boolean> => this.pathStagings.drop(projectId, name);
        if (await this.locks.run(projectId, drop)) {
          repairs.push({ kind: 'staged-path-dropped', subject: `${projectId}/${name}` });
        }
      }
    }
    return repairs;
  }

  private get imagesFolder(): string {
    return join(this.options.volume, 'images');
  }

  private async require(id: ProjectId): Promise<void> {
    if (!(await this.volume(id))) throw StorageErrors.VOLUME_NOT_FOUND({ projectId: id });
  }
}
