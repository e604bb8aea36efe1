import type { ProjectId } from '@rookery/core/contract';
import { CodedError, formatBytes } from '@rookery/core';
import { isProjectQgroup, qgroupOf } from '../layout.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import {
  qgroupRelations,
  qgroups,
  qgroupUsage,
  quotaMode,
  subvolumeExists,
  subvolumeAt,
  withFolder,
  type QgroupUsage,
} from './ioctl.js';

/** Simple quotas came with Linux 6.7 and btrfs-progs 6.7. */
const simpleSince: readonly [number, number] = [6, 7];

/**
 * One level-1 qgroup a project. Simple quotas put a new subvolume into the group of the subvolume
 * that it is made in; classic ones do not, so every subvolume is made with its group named.
 */
export class Qgroups {
  mode: 'simple' | 'classic' = 'simple';

  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly volume: string,
  ) {}

  /** Keeps the quota that the volume has; on a fresh one the best that both sides know. */
  async enable(wanted: 'auto' | 'classic', kernelRelease: string): Promise<void> {
    let mode = withFolder(this.volume, quotaMode);
    if (mode === 'none') {
      const simple =
        wanted === 'auto' &&
        atLeast(versionOf(kernelRelease), simpleSince) &&
        atLeast(await this.btrfs.version(), simpleSince);
      await this.btrfs.enableQuota(simple);
      mode = withFolder(this.volume, quotaMode);
    }
    if (mode === 'none') {
      throw StorageErrors.VOLUME_UNUSABLE({ volume: this.volume, reason: 'no quota' });
    }
    this.mode = mode;
  }

  /** Makes the project's group, unlimited; it may be there already. */
  async ensureGroup(id: ProjectId): Promise<string> {
    const group = qgroupOf(id);
    if (this.read(group)) return group;
    try {
      await this.btrfs.createQgroup(group);
    } catch (error) {
      if (!this.read(group)) throw error;
    }
    return group;
  }

  /** Puts a subvolume into the project's group unless it is there. */
  async ensureMember(id: ProjectId, path: string): Promise<void> {
    const subvolume = subvolumeAt(path);
    if (!subvolume) return;
    const member = `0/${subvolume.treeId}`;
    const group = await this.ensureGroup(id);
    const inside = withFolder(this.volume, qgroupRelations).some(
      (relation) => relation.member === member && relation.group === group,
    );
    if (!inside) await this.btrfs.assignQgroup(member, group);
  }

  async setLimit(id: ProjectId, bytes: number | undefined): Promise<void> {
    await this.btrfs.limitQgroup(await this.ensureGroup(id), bytes);
  }

  /** @throws QUOTA_BELOW_USE unless `allowBelowUse` */
  async setQuota(id: ProjectId, bytes: number, allowBelowUse: boolean): Promise<boolean> {
    const { referencedBytes } = await this.freshUsage(id);
    const below = referencedBytes > bytes;
    if (below && !allowBelowUse) {
      throw StorageErrors.QUOTA_BELOW_USE({
        used: formatBytes(referencedBytes),
        wanted: formatBytes(bytes),
      });
    }
    await this.setLimit(id, bytes);
    return below;
  }

  /** Usage as of now: what is not committed yet is not counted by the kernel's tree. */
  async freshUsage(id: ProjectId): Promise<QgroupUsage> {
    await this.btrfs.sync();
    return (
      this.read(qgroupOf(id)) ?? { referencedBytes: 0, exclusiveBytes: 0, limitBytes: undefined }
    );
  }

  limit(id: ProjectId): number | undefined {
    return this.read(qgroupOf(id))?.limitBytes;
  }

  /** Bytes that only this subvolume holds; simple quotas do not know. */
  exclusiveBytes(treeId: number): number | undefined {
    return this.mode === 'classic' ? this.read(`0/${treeId}`)?.exclusiveBytes : undefined;
  }

  /**
   * At the limit not even a snapshot can be made inside the group; what replaces one state by
   * another lifts the limit meanwhile. A crash in between is mended by reconcile.
   */
  async withoutLimit<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    const limit = this.limit(id);
    if (limit === undefined) return task();
    await this.setLimit(id, undefined);
    try {
      return await task();
    } finally {
      await this.setLimit(id, limit);
    }
  }

  /**
   * Qgroups that nothing needs: of subvolumes that are gone and hold no bytes any more, and of
   * projects that have no member left.
   */
  stale(keep: ReadonlySet<string>): string[] {
    return withFolder(this.volume, (fd) => {
      const relations = qgroupRelations(fd);
      const stale: string[] = [];
      for (const qgroup of qgroups(fd)) {
        if (qgroup.startsWith('0/')) {
          const treeId = Number(qgroup.slice(2));
          const used = qgroupUsage(fd, qgroup)?.referencedBytes ?? 0;
          if (treeId >= 256 && !subvolumeExists(fd, treeId) && used === 0) stale.push(qgroup);
        } else if (isProjectQgroup(qgroup) && !keep.has(qgroup)) {
          const members = relations.filter((relation) => relation.group === qgroup);
          if (members.every((relation) => stale.includes(relation.member))) stale.push(qgroup);
        }
      }
      return stale;
    });
  }

  /** Removes one of {@link stale}; one that came into use meanwhile stays. */
  async destroy(qgroup: string): Promise<boolean> {
    if (!this.read(qgroup)) return false;
    try {
      await this.btrfs.destroyQgroup(qgroup);
      return true;
    } catch (error) {
      // EBUSY: the cleaner still holds bytes of it; the next round tries again.
      if (CodedError.is(error, 'COMMAND_FAILED')) return false;
      throw error;
    }
  }

  private read(qgroup: string): QgroupUsage | undefined {
    return withFolder(this.volume, (fd) => qgroupUsage(fd, qgroup));
  }
}

/** `6.18.44-x` → [6, 18]. */
function versionOf(text: string): readonly [number, number] {
  const match = /^(\d+)\.(\d+)/.exec(text);
  return [Number(match?.[1] ?? 0), Number(match?.[2] ?? 0)];
}

export function atLeast(
  version: readonly [number, number],
  least: readonly [number, number],
): boolean {
  return version[0] > least[0] || (version[0] === least[0] && version[1] >= least[1]);
}
