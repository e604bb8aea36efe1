import { rename, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError, newId } from '@rookery/core';
import { exists, ignoreMissing } from '../files.js';
import type { VolumeLayout } from '../layout.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { childSubvolumes, subvolumeAt, withFolder } from './ioctl.js';
import type { Qgroups } from './qgroups.js';

/** Deep nests are hostile; a project cannot make one, but a received stream's sender may try. */
const nestingMax = 64;

export class Subvolumes {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly qgroups: Qgroups,
  ) {}

  /**
   * Deletes a subvolume and all that is nested in it, by tree ids: no name that a user chose is
   * ever a path or parsed.
   */
  async deleteTree(path: string): Promise<void> {
    const root = subvolumeAt(path);
    if (!root) {
      // What a hostile stream made beside its subvolume, or a folder in place of a nested one. Only
      // ever called beneath folders of the host's root, where nobody swaps names meanwhile.
      await rm(path, { recursive: true, force: true });
      return;
    }
    await this.deleteById(root.treeId, root.parentTreeId, 0);
  }

  /** Moves a writable subvolume out of sight in one step, then deletes it. */
  async discard(path: string): Promise<void> {
    if (!(await exists(path))) return;
    const subvolume = subvolumeAt(path);
    if (!subvolume || subvolume.readOnly) {
      await this.deleteTree(path);
      return;
    }
    const trash = this.layout.staging(`trash-${newId()}`);
    await rename(path, trash).catch(ignoreMissing);
    await this.deleteTree(trash);
  }

  private async deleteById(treeId: number, parent: number, depth: number): Promise<void> {
    if (depth < nestingMax) {
      const children = withFolder(this.layout.volume, (fd) => childSubvolumes(fd, treeId));
      for (const child of children) await this.deleteById(child, treeId, depth + 1);
    }
    try {
      await this.btrfs.deleteSubvolumeById(treeId);
    } catch (error) {
      // A full project must be able to get rid of something.
      if (!CodedError.is(error, 'QUOTA_EXCEEDED') && !CodedError.is(error, 'DISK_FULL'))
        throw error;
      await this.qgroups.withSlackAround(parent, () => this.btrfs.deleteSubvolumeById(treeId));
    }
  }

  /** Moves a read-only subvolume to another folder, for which it must be writable a moment. */
  async moveReadOnly(from: string, toFolder: string, name: string): Promise<void> {
    const subvolume = subvolumeAt(from);
    if (!subvolume) return;
    const target = join(toFolder, name);
    // A snapshot of the parent shows each nested subvolume as an empty folder.
    await rmdir(target).catch(ignoreMissing);
    if (subvolume.readOnly) await this.btrfs.setReadOnly(from, false);
    await rename(from, target);
    await this.btrfs.setReadOnly(target, true);
  }
}
