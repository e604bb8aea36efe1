import type { ProjectId } from '@rookery/core/contract';
import { CodedError, formatBytes, KeyedLock, MiB, type Clock } from '@rookery/core';
import { isProjectQgroup, qgroupOf } from '../layout.js';
import type { StorageRoom } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import type { DiskReserve } from './disk-reserve.js';
import {
  qgroupRelations,
  qgroups,
  qgroupUsage,
  quotaStatus,
  subvolumeExists,
  subvolumeAt,
  withFolder,
  type QgroupUsage,
} from './ioctl.js';
import { projectsAreFull } from './projects-full.js';

/** Metadata that making or deleting a snapshot reserves, with a good margin. */
const slackBytes = 32 * MiB;
const nothingUsed: QgroupUsage = {
  referencedBytes: 0,
  exclusiveBytes: 0,
  limitBytes: undefined,
};
/** A few folders and what an overlay writes when it is mounted. */
const roomBytes = 4 * MiB;
/** What is written and not yet committed shows in no count: below this a project may be full. */
const scarceBytes = 64 * MiB;
/** A group is made for a member that comes at once; without one for so long it is nobody's. */
const memberComesMs = 60_000;
/** Simple quotas came with Linux 6.7 and btrfs-progs 6.7. */
const simpleSince: readonly [number, number] = [6, 7];

/**
 * One level-1 qgroup a project. Simple quotas put a new subvolume into the group of the subvolume
 * that it is made in; classic ones do not, so every subvolume is made with its group named.
 */
export class Qgroups {
  mode: 'simple' | 'classic' = 'simple';
  /** Groups whose limit is raised now, and what it will be again. */
  private readonly slack = new Map<string, Slack>();

  /** When groups were last asked for by who makes a member of them. */
  private readonly asked = new Map<string, number>();
  private readonly making = new KeyedLock();

  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly volume: string,
    private readonly clock: Clock,
    private readonly reserve: DiskReserve,
  ) {}

  /** Keeps the quota that the volume has; on a fresh one the best that both sides know. */
  async enable(wanted: 'auto' | 'classic', kernelRelease: string): Promise<void> {
    let { mode } = withFolder(this.volume, quotaStatus);
    if (mode === 'none') {
      const simple =
        wanted === 'auto' &&
        atLeast(versionOf(kernelRelease), simpleSince) &&
        atLeast(await this.btrfs.version(), simpleSince);
      await this.btrfs.enableQuota(simple);
      ({ mode } = withFolder(this.volume, quotaStatus));
    }
    if (mode === 'none') {
      throw StorageErrors.VOLUME_UNUSABLE({ volume: this.volume, reason: 'no quota' });
    }
    this.mode = mode;
  }

  /** Makes the project's group, unlimited; it may be there already. */
  async ensureGroup(id: ProjectId): Promise<string> {
    const group = qgroupOf(id);
    this.asked.set(group, this.clock.now());
    return this.making.run(group, async () => {
      if (this.read(group)) return group;
      try {
        await this.btrfs.createQgroup(group);
        await this.reserve.join(group);
      } catch (error) {
        if (!this.read(group)) throw error;
      }
      return group;
    });
  }

  /**
   * Puts what was received into the group of the folder that it arrived in. Simple quotas do that by
   * themselves. With classic ones a delta is made as a snapshot that leaves its parent's group, and
   * all is counted anew.
   */
  async joinGroupOf(folder: string, received: string): Promise<void> {
    if (this.mode === 'simple') return;
    const group = this.groupOf(subvolumeAt(folder)?.treeId ?? 0);
    const subvolume = subvolumeAt(received);
    if (group === undefined || !subvolume) return;
    await this.btrfs.assignQgroup(`0/${subvolume.treeId}`, group);
    await this.settle({ wait: false });
  }

  private groupOf(treeId: number): string | undefined {
    const member = `0/${treeId}`;
    return withFolder(this.volume, qgroupRelations).find(
      (relation) => relation.member === member && isProjectQgroup(relation.group),
    )?.group;
  }

  /** Takes a subvolume out of whichever project's group it is in, into this one's. */
  async moveMember(path: string, to: ProjectId): Promise<void> {
    const subvolume = subvolumeAt(path);
    if (!subvolume) return;
    const member = `0/${subvolume.treeId}`;
    const [before, group] = [this.groupOf(subvolume.treeId), await this.ensureGroup(to)];
    if (before === group) return;
    if (before !== undefined) await this.btrfs.removeQgroup(member, before);
    await this.btrfs.assignQgroup(member, group);
    await this.settle({ wait: false });
  }

  /** Takes a subvolume out of whichever project's group it is in: nobody is charged for it. */
  async leaveGroup(path: string): Promise<void> {
    const treeId = subvolumeAt(path)?.treeId;
    const group = treeId === undefined ? undefined : this.groupOf(treeId);
    if (treeId === undefined || group === undefined) return;
    await this.btrfs.removeQgroup(`0/${treeId}`, group);
    await this.settle({ wait: false });
  }

  async setLimit(id: ProjectId, bytes: number | undefined): Promise<void> {
    const group = await this.ensureGroup(id);
    const slack = this.slack.get(group);
    // Whoever has room now gives the limit back when it ends: this one.
    if (slack) slack.limitBytes = bytes;
    else await this.btrfs.limitQgroup(group, bytes);
  }

  /**
   * @param options.committed the caller has just synced: simple quotas count right then.
   * @throws QUOTA_BELOW_USE unless `allowBelowUse`
   */
  async setQuota(
    id: ProjectId,
    bytes: number,
    options: { readonly allowBelowUse: boolean; readonly committed?: boolean },
  ): Promise<boolean> {
    const counted = options.committed === true && this.mode === 'simple';
    const usage = counted ? this.read(qgroupOf(id)) : await this.freshUsage(id);
    const referencedBytes = usage?.referencedBytes ?? 0;
    const below = referencedBytes > bytes;
    if (below && !options.allowBelowUse) {
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
    await this.settle({ wait: true });
    return this.read(qgroupOf(id)) ?? nothingUsed;
  }

  /** Usage as of the last commit, whoever made it: costs no more than to ask. */
  async committedUsage(id: ProjectId): Promise<QgroupUsage> {
    await this.recount({ wait: false });
    return this.read(qgroupOf(id)) ?? nothingUsed;
  }

  /**
   * Commits. Classic quotas stop counting when a large subvolume is deleted or a snapshot changes
   * its group: then a rescan starts. Simple quotas never need one.
   */
  async settle(options: { wait: boolean }): Promise<void> {
    await this.btrfs.sync();
    await this.recount(options);
  }

  private async recount(options: { wait: boolean }): Promise<void> {
    if (this.mode === 'simple') return;
    if (withFolder(this.volume, quotaStatus).inconsistent) await this.btrfs.rescanQuota(options);
  }

  limit(id: ProjectId): number | undefined {
    const group = qgroupOf(id);
    return (this.slack.get(group) ?? this.read(group))?.limitBytes;
  }

  /** Bytes that only this subvolume holds; simple quotas do not know. */
  exclusiveBytes(treeId: number): number | undefined {
    return this.mode === 'classic' ? this.read(`0/${treeId}`)?.exclusiveBytes : undefined;
  }

  /**
   * At the limit a snapshot can neither be made inside the group nor deleted from it. What replaces
   * one state by another, or frees bytes, gets some room meanwhile: bounded, since the project may
   * be writing. What a crash in between leaves, reconcile sets right.
   */
  async withSlack<T>(id: ProjectId, task: () => Promise<T>): Promise<T> {
    return this.withGroupSlack(qgroupOf(id), task);
  }

  /** {@link withSlack} for the project that holds this subvolume. */
  async withSlackAround<T>(treeId: number, task: () => Promise<T>): Promise<T> {
    const group = this.groupOf(treeId);
    return group === undefined ? task() : this.withGroupSlack(group, task);
  }

  /** {@link withSlack} for what a host writes into a project that is about to run. */
  async withRoom<T>(id: ProjectId, task: (room: StorageRoom) => Promise<T>): Promise<T> {
    const group = qgroupOf(id);
    const usage = this.read(group);
    const full = projectsAreFull(this.volume);
    if (usage?.limitBytes === undefined && !full) return task({ scarce: false, end: nothing });
    const limitBytes = usage?.limitBytes ?? Infinity;
    const scarce = full || (usage?.referencedBytes ?? 0) + scarceBytes > limitBytes;
    const end = await this.holdSlack(group, roomBytes);
    try {
      return await task({ scarce, end });
    } finally {
      await end();
    }
  }

  private async withGroupSlack<T>(group: string, task: () => Promise<T>): Promise<T> {
    const end = await this.holdSlack(group, slackBytes);
    try {
      return await task();
    } finally {
      await end();
    }
  }

  /** Of the project, and of what all projects may use. @returns gives both back, once */
  private async holdSlack(group: string, bytes: number): Promise<() => Promise<void>> {
    const giveBack = await this.reserve.lend(bytes);
    try {
      const end = await this.holdGroupSlack(group, bytes);
      return async () => {
        await end();
        await giveBack();
      };
    } catch (error) {
      await giveBack();
      throw error;
    }
  }

  /** @returns what gives the limit back, once however often it is called */
  private async holdGroupSlack(group: string, bytes: number): Promise<() => Promise<void>> {
    const usage = this.read(group);
    let slack = this.slack.get(group);
    if (!slack) {
      if (usage?.limitBytes === undefined) return nothing;
      slack = { users: 0, bytes: 0, limitBytes: usage.limitBytes };
      this.slack.set(group, slack);
    }
    const held = slack;
    held.users += 1;
    held.bytes = Math.max(held.bytes, bytes);
    let ended: Promise<void> | undefined;
    const end = (): Promise<void> => (ended ??= this.endSlack(group, held));
    try {
      if (usage) {
        const room = Math.max(held.limitBytes ?? 0, usage.referencedBytes) + held.bytes;
        await this.btrfs.limitQgroup(group, room);
      }
      return end;
    } catch (error) {
      await end();
      throw error;
    }
  }

  private async endSlack(group: string, slack: Slack): Promise<void> {
    slack.users -= 1;
    if (slack.users > 0) return;
    this.slack.delete(group);
    await this.btrfs.limitQgroup(group, slack.limitBytes);
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
    // Who asks for the group meanwhile waits, and makes it again.
    return this.making.run(qgroup, async () => {
      if (this.isAwaited(qgroup) || !this.read(qgroup)) return false;
      try {
        await this.btrfs.destroyQgroup(qgroup);
        return true;
      } catch (error) {
        // EBUSY: the cleaner still holds bytes of it; the next round tries again.
        if (CodedError.is(error, 'COMMAND_FAILED')) return false;
        throw error;
      }
    });
  }

  /** Nobody makes members of the project's group any more: it goes with its last one. */
  giveUp(id: ProjectId): void {
    this.asked.delete(qgroupOf(id));
  }

  /** {@link giveUp} for the project that a subvolume is charged to. */
  giveUpAround(path: string): void {
    const subvolume = subvolumeAt(path);
    const group = subvolume && this.groupOf(subvolume.treeId);
    if (group !== undefined) this.asked.delete(group);
  }

  /** Between the making of a group and that of its first member nothing else shows that it is used. */
  private isAwaited(qgroup: string): boolean {
    const askedAt = this.asked.get(qgroup);
    if (askedAt === undefined) return false;
    if (this.clock.now() - askedAt < memberComesMs) return true;
    this.asked.delete(qgroup);
    return false;
  }

  private read(qgroup: string): QgroupUsage | undefined {
    return withFolder(this.volume, (fd) => qgroupUsage(fd, qgroup));
  }
}

interface Slack {
  users: number;
  /** The most that any of them was given. */
  bytes: number;
  limitBytes: number | undefined;
}

const nothing = (): Promise<void> => Promise.resolve();

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
