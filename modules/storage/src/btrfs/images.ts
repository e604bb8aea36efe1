import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@rookery/core';
import { ensureFolder, namesIn } from '../files.js';
import { ImageTrees, type ArrivedImage } from '../image-tree/image-trees.js';
import { rootOwnedMode, type VolumeLayout } from '../layout.js';
import type { StagedImage } from '../storage.driver.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';
import type { Qgroups } from './qgroups.js';
import type { Subvolumes } from './subvolumes.js';

/** Beside the images, since a read-only subvolume cannot change its folder. */
const stagingPrefix = '.staging-';

/** Root filesystems: read-only subvolumes that all projects share. */
export class Images {
  /** Staged by this process and not yet committed: nobody else's to remove. */
  private readonly staged = new Set<string>();
  private readonly trees: ImageTrees;

  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly subvolumes: Subvolumes,
    private readonly qgroups: Pick<Qgroups, 'leaveGroup'>,
  ) {
    const identify = (path: string): string => subvolumeAt(path)?.uuid ?? '';
    this.trees = new ImageTrees({ layout, identify });
  }

  async stage(): Promise<StagedImage> {
    const name = stagingPrefix + newId();
    const path = join(this.folder, name);
    this.staged.add(name);
    try {
      await this.btrfs.createSubvolume(path);
      await ensureFolder(path, rootOwnedMode);
    } catch (error) {
      this.staged.delete(name);
      throw error;
    }
    const abort = async (): Promise<void> => {
      await this.subvolumes.deleteTree(path);
      this.staged.delete(name);
    };
    const commit = async (digest: string): Promise<void> => {
      const target = this.layout.image(digest);
      if (!subvolumeAt(target) && subvolumeAt(path)) {
        // On disk before it has its name: an image is complete or absent after a crash.
        await this.btrfs.sync();
        await this.btrfs.setReadOnly(path, true);
        await rename(path, target).catch(async (error: unknown) => {
          if (!subvolumeAt(target)) throw error;
        });
        await this.btrfs.sync();
      }
      await abort();
    };
    return { path, commit, abort, [Symbol.asyncDispose]: abort };
  }

  /**
   * A received subvolume becomes an image, if it is the right one: same content, a UUID and life of
   * its own. @throws IMAGE_DIFFERS
   */
  async adopt(received: ArrivedImage, signal?: AbortSignal): Promise<void> {
    const { digest } = received;
    const adopt = (path: string): Promise<void> => this.take(path, this.layout.image(digest));
    await this.trees.admit(received, { present: () => this.path(digest), adopt }, signal);
  }

  async close(): Promise<void> {
    await this.trees.close();
  }

  private async take(received: string, target: string): Promise<void> {
    // It landed in a project's group, and a simple quota would charge its extents there for good.
    await this.qgroups.leaveGroup(received);
    await this.btrfs.snapshot(received, target, { readOnly: true });
  }

  path(digest: string): string | undefined {
    const path = this.layout.image(digest);
    return subvolumeAt(path)?.readOnly ? path : undefined;
  }

  async list(): Promise<string[]> {
    const digests = (await namesIn(this.folder)).map((name) => this.layout.imageDigest(name));
    return digests.filter((digest) => digest !== undefined).sort();
  }

  /** What the image holds, as one digest. */
  async tree(digest: string): Promise<string | undefined> {
    const path = this.path(digest);
    return path === undefined ? undefined : this.trees.of(digest, path);
  }

  async delete(digest: string): Promise<void> {
    await this.trees.forget(digest);
    await this.subvolumes.deleteTree(this.layout.image(digest));
  }

  /** Staged images that a dead process left. */
  async orphans(): Promise<string[]> {
    const names = await namesIn(this.folder);
    return names.filter((name) => name.startsWith(stagingPrefix) && !this.staged.has(name));
  }

  async dropOrphan(name: string): Promise<void> {
    await this.subvolumes.deleteTree(join(this.folder, name));
  }

  private get folder(): string {
    return join(this.layout.volume, 'images');
  }
}
