import type { ProjectId } from '@rookery/core/contract';
import { ensureFolder, namesIn } from '../files.js';
import { TemporarySnapshotName, privateMode, type VolumeLayout } from '../layout.js';
import type { TemporarySnapshot } from '../storage.driver.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';
import type { Qgroups } from './qgroups.js';
import type { Subvolumes } from './subvolumes.js';

/** A picture in the list of a project's. */
export interface TemporarySnapshotEntry {
  readonly name: string;
  readonly uuid: string;
  readonly createdAt: number;
}

/**
 * Read-only pictures of live and persistence in `_frozen/<project>`, outside the project's group: at
 * its limit a snapshot inside would fail, and a full project must still be backed up and moved.
 * Classic quotas stop counting anything once a snapshot leaves its origin's group, until all is
 * scanned anew; there the pictures are inside, made with some room above the limit.
 */
export class TemporarySnapshots {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly qgroups: Qgroups,
    private readonly subvolumes: Subvolumes,
  ) {}

  /** The caller holds the project's lock. Persistence comes first: it may lag, never lead. */
  async freeze(id: ProjectId, name: string): Promise<TemporarySnapshot> {
    const root = this.layout.frozen(id, name);
    const persistence = this.layout.frozenPersistence(id, name);
    await ensureFolder(this.layout.frozenFolder(id), privateMode);
    const classic = this.qgroups.mode === 'classic';
    const qgroup = classic ? { qgroup: await this.qgroups.ensureGroup(id) } : {};
    const take = async (from: string, to: string): Promise<void> => {
      if (!subvolumeAt(to)) await this.btrfs.snapshot(from, to, { readOnly: true, ...qgroup });
    };
    const takeBoth = async (): Promise<void> => {
      await take(this.layout.persistence(id), persistence);
      await take(this.layout.live(id), root);
    };
    if (!subvolumeAt(root) || !subvolumeAt(persistence)) {
      await (classic ? this.qgroups.withSlack(id, takeBoth) : takeBoth());
    }
    const release = (): Promise<void> => this.release(id, name);
    return {
      projectId: id,
      name,
      uuid: subvolumeAt(root)?.uuid ?? '',
      persistenceUuid: subvolumeAt(persistence)?.uuid ?? '',
      root,
      persistence,
      release,
      [Symbol.asyncDispose]: release,
    };
  }

  async release(id: ProjectId, name: string): Promise<void> {
    await this.subvolumes.deleteTree(this.layout.frozen(id, name));
    await this.subvolumes.deleteTree(this.layout.frozenPersistence(id, name));
  }

  /** Complete pictures, oldest first. */
  async list(id: ProjectId): Promise<TemporarySnapshotEntry[]> {
    const entries: { entry: TemporarySnapshotEntry; generation: number }[] = [];
    for (const name of await this.names(id)) {
      const subvolume = subvolumeAt(this.layout.frozen(id, name));
      if (!subvolume) continue;
      entries.push({
        entry: { name, uuid: subvolume.uuid, createdAt: subvolume.createdAt },
        generation: subvolume.createdGeneration,
      });
    }
    return entries.sort((a, b) => a.generation - b.generation).map(({ entry }) => entry);
  }

  /** Names of all pictures, half made ones included. */
  async names(id: ProjectId): Promise<string[]> {
    const names = await namesIn(this.layout.frozenFolder(id));
    return [...new Set(names.map((name) => name.replace(/\.persistence$/, '')))].filter(
      (name) => TemporarySnapshotName.safeParse(name).success,
    );
  }
}
