import type { ProjectId } from '@rookery/core/contract';
import { ensureFolder, namesIn } from '../files.js';
import { FrozenName, privateMode, type VolumeLayout } from '../layout.js';
import type { FrozenVolume } from '../storage.driver.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';
import type { Subvolumes } from './subvolumes.js';

/** A picture in the list of a project's. */
export interface FrozenEntry {
  readonly name: string;
  readonly uuid: string;
  readonly createdAt: number;
}

/**
 * Read-only pictures of live and persistence in `_frozen/<project>`, outside the project's group: at
 * its limit a snapshot inside would fail, and a full project must still be backed up and moved.
 */
export class FrozenVolumes {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly subvolumes: Subvolumes,
  ) {}

  /** The caller holds the project's lock. Persistence comes first: it may lag, never lead. */
  async freeze(id: ProjectId, name: string): Promise<FrozenVolume> {
    const root = this.layout.frozen(id, name);
    const persistence = this.layout.frozenPersistence(id, name);
    await ensureFolder(this.layout.frozenFolder(id), privateMode);
    if (!subvolumeAt(persistence)) {
      await this.btrfs.snapshot(this.layout.persistence(id), persistence, { readOnly: true });
    }
    if (!subvolumeAt(root)) {
      await this.btrfs.snapshot(this.layout.live(id), root, { readOnly: true });
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
  async list(id: ProjectId): Promise<FrozenEntry[]> {
    const entries: { entry: FrozenEntry; generation: number }[] = [];
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
      (name) => FrozenName.safeParse(name).success,
    );
  }
}
