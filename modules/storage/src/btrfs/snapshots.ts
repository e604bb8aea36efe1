import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProjectId } from '@rookery/core/contract';
import { parseInput, type Clock } from '@rookery/core';
import { exchangePaths, ignoreMissing, namesIn } from '../files.js';
import { StoredSnapshotName, type VolumeLayout } from '../layout.js';
import type { Sidecar, SidecarStore } from '../sidecar.js';
import type { Snapshot } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';
import type { Qgroups } from './qgroups.js';
import type { Subvolumes } from './subvolumes.js';

/**
 * A project's snapshots: read-only subvolumes in `.snapshots` of its live one. Callers hold the
 * project's lock and have seen that it exists.
 */
export class Snapshots {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly qgroups: Qgroups,
    private readonly subvolumes: Subvolumes,
    private readonly sidecars: SidecarStore,
    private readonly clock: Clock,
    private readonly countMax: number,
  ) {}

  async create(id: ProjectId, name: string): Promise<Snapshot> {
    parseInput(StoredSnapshotName, name);
    const existing = await this.find(id, name);
    if (existing) throw StorageErrors.SNAPSHOT_EXISTS({ name });
    const count = (await namesIn(this.layout.snapshots(id))).length;
    if (count >= this.countMax) throw StorageErrors.SNAPSHOT_LIMIT({ count });
    await this.take(id, name);
    return this.get(id, name);
  }

  /** A read-only snapshot of what is live; one that is there already is left. */
  async take(id: ProjectId, name: string): Promise<void> {
    const group = await this.qgroups.ensureGroup(id);
    const path = this.layout.snapshot(id, name);
    if (subvolumeAt(path)) return;
    await this.btrfs.snapshot(this.layout.live(id), path, { readOnly: true, qgroup: group });
  }

  async list(id: ProjectId): Promise<Snapshot[]> {
    const sidecar = await this.sidecars.read(id);
    const names = await namesIn(this.layout.snapshots(id));
    return names
      .map((name) => this.view(id, name, sidecar))
      .filter((snapshot) => snapshot !== undefined)
      .sort((a, b) => a.generation - b.generation || a.createdAt - b.createdAt);
  }

  async find(id: ProjectId, name: string): Promise<Snapshot | undefined> {
    return this.view(id, name, await this.sidecars.read(id));
  }

  /** @throws SNAPSHOT_NOT_FOUND */
  async get(id: ProjectId, name: string): Promise<Snapshot> {
    const snapshot = await this.find(id, name);
    if (!snapshot) throw StorageErrors.SNAPSHOT_NOT_FOUND({ name });
    return snapshot;
  }

  private view(id: ProjectId, name: string, sidecar: Sidecar): Snapshot | undefined {
    if (!StoredSnapshotName.safeParse(name).success) return undefined;
    const subvolume = subvolumeAt(this.layout.snapshot(id, name));
    if (!subvolume) return undefined;
    const kept = sidecar.snapshots[name];
    const exclusiveBytes = this.qgroups.exclusiveBytes(subvolume.treeId);
    return {
      projectId: id,
      name,
      createdAt: kept?.createdAt ?? subvolume.createdAt,
      locked: kept?.locked ?? false,
      // The kernel puts the received UUID into a stream when a subvolume was itself received.
      uuid: subvolume.receivedUuid ?? subvolume.uuid,
      generation: subvolume.createdGeneration,
      ...(exclusiveBytes !== undefined && { exclusiveBytes }),
    };
  }

  async setLocked(id: ProjectId, name: string, locked: boolean): Promise<Snapshot> {
    await this.get(id, name);
    await this.sidecars.update(id, (sidecar) => {
      sidecar.snapshots[name] = { ...sidecar.snapshots[name], locked };
    });
    return this.get(id, name);
  }

  /** Deleting what is gone does no harm. */
  async delete(id: ProjectId, name: string): Promise<void> {
    const snapshot = await this.find(id, name);
    if (snapshot?.locked) throw StorageErrors.SNAPSHOT_LOCKED({ name });
    if (snapshot) await this.subvolumes.deleteTree(this.layout.snapshot(id, name));
    await this.sidecars.update(id, (sidecar) => {
      delete sidecar.snapshots[name];
    });
  }

  /**
   * Clones the snapshot, swaps the clone with the live subvolume in one step, then brings the
   * snapshots over. A crash leaves either the old live one or the new one with some snapshots still
   * in the old; {@link finishRestore} brings over the rest in both cases.
   */
  async restore(id: ProjectId, name: string): Promise<{ previous: string }> {
    await this.get(id, name);
    return this.qgroups.withSlack(id, async () => {
      await this.finishRestore(id);
      const previous = await this.freeName(id);
      await this.take(id, previous);
      const staged = this.layout.staging(`restore-${id}`);
      const qgroup = await this.qgroups.ensureGroup(id);
      await this.btrfs.snapshot(this.layout.snapshot(id, name), staged, {
        readOnly: false,
        qgroup,
      });
      exchangePaths(this.layout.volume, staged, this.layout.live(id));
      await this.finishRestore(id);
      // An exchange alone is committed later: until then a power cut would undo what was confirmed.
      await this.btrfs.sync();
      return { previous };
    });
  }

  /** Repeating does no harm; nothing to finish, nothing done. */
  async finishRestore(id: ProjectId): Promise<void> {
    const old = this.layout.staging(`restore-${id}`);
    if (!subvolumeAt(old)) return;
    for (const name of await namesIn(join(old, '.snapshots'))) {
      const from = join(old, '.snapshots', name);
      if (subvolumeAt(from)) {
        await this.subvolumes.moveReadOnly(from, this.layout.snapshots(id), name);
      }
    }
    // One that was brought over may not have been made read-only again.
    for (const name of await namesIn(this.layout.snapshots(id))) {
      const path = join(this.layout.snapshots(id), name);
      if (subvolumeAt(path)?.readOnly === false) await this.btrfs.setReadOnly(path, true);
    }
    await this.subvolumes.deleteTree(old);
    await this.dropPlaceholders(id);
  }

  /** A clone shows the snapshots that its origin held as empty folders. */
  async dropPlaceholders(id: ProjectId): Promise<void> {
    for (const name of await namesIn(this.layout.snapshots(id))) {
      const path = join(this.layout.snapshots(id), name);
      if (!subvolumeAt(path)) await rmdir(path).catch(ignoreMissing);
    }
  }

  /** For the snapshot that keeps what a restore replaces. */
  async freeName(id: ProjectId): Promise<string> {
    const stamp = new Date(this.clock.now()).toISOString().slice(0, 19).replaceAll(':', '');
    for (let n = 1; ; n += 1) {
      const name = `before-restore-${stamp}${n === 1 ? '' : `.${n}`}`;
      if (!(await this.find(id, name))) return name;
    }
  }
}
