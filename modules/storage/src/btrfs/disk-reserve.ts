import { GiB, KeyedLock, MiB } from '@rookery/core';
import { isProjectQgroup, projectsQgroup } from '../layout.js';
import type { StorageSpace } from '../storage.driver.js';
import { StorageErrors } from '../storage.errors.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { qgroupRelations, qgroups, qgroupUsage, withFolder, type QgroupUsage } from './ioctl.js';

/** Of the volume, where no size is set; within these bounds. */
const defaultPart = 0.02;
const defaultBytesMin = 64 * MiB;
const defaultBytesMax = 4 * GiB;
/** What is written and not committed shows in no count: with less left than this it is committed. */
const scarceBytes = 256 * MiB;
/** Deleting frees bytes, and needs some first: never less is lent, or a full volume stayed full. */
const lentBytesMin = 4 * MiB;

/** How much of a volume projects can never use, where nobody says it. */
function defaultReserveBytes(totalBytes: number): number {
  return Math.min(Math.max(Math.floor(totalBytes * defaultPart), defaultBytesMin), defaultBytesMax);
}

/**
 * Room on the volume that all projects together cannot take, however much their quotas allow: their
 * qgroups are in one group, whose limit is what they use and what is free, less the reserve.
 *
 * A full volume would stop the host's own books, logs and temporary snapshots too, and without room
 * for metadata nothing could be deleted. The host itself is in no group, so the reserve is its own. The
 * limit is no fixed number, because what projects leave free depends on images, metadata and on what
 * lies beside a volume in a file: {@link keep} sets it again, and is called every few seconds.
 */
export class DiskReserve {
  private readonly turn = new KeyedLock();
  private reserveBytes = 0;
  /** How many have been lent room now: the last one gives it back. */
  private borrowers = 0;

  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly volume: string,
    private readonly wantedBytes: number | undefined,
    /** All that is free, the reserve included. */
    private readonly space: () => Promise<StorageSpace>,
  ) {}

  get bytes(): number {
    return this.reserveBytes;
  }

  /** Makes the group and puts projects' groups of earlier releases into it. Quotas are on by now. */
  async open(): Promise<void> {
    this.reserveBytes = this.wantedBytes ?? defaultReserveBytes((await this.space()).totalBytes);
    if (!this.read()) await this.btrfs.createQgroup(projectsQgroup);
    await this.adopt();
    if (this.reserveBytes === 0 && this.read()?.limitBytes !== undefined) {
      await this.btrfs.limitQgroup(projectsQgroup, undefined);
    }
  }

  /** Puts every project's group that is not in yet. */
  async adopt(): Promise<void> {
    const { groups, relations } = withFolder(this.volume, (fd) => ({
      groups: qgroups(fd).filter(isProjectQgroup),
      relations: qgroupRelations(fd),
    }));
    const members = new Set(
      relations.filter(({ group }) => group === projectsQgroup).map(({ member }) => member),
    );
    for (const group of groups) if (!members.has(group)) await this.join(group);
  }

  join(group: string): Promise<void> {
    return this.btrfs.assignQgroup(group, projectsQgroup);
  }

  /** Sets the limit to what is free now. */
  async keep(): Promise<void> {
    if (this.reserveBytes === 0) return;
    await this.turn.run('limit', async () => {
      if (this.borrowers === 0) await this.setLimit();
    });
  }

  /** What arrives is in no project's group yet: it may not take the reserve either. @throws DISK_FULL */
  async requireRoom(): Promise<void> {
    if (this.reserveBytes === 0) return;
    const { freeBytes } = await this.space();
    if (freeBytes < this.reserveBytes) throw StorageErrors.DISK_FULL({ volume: this.volume });
  }

  /**
   * Lends what the host must write in a project's name, where the projects have nothing left.
   * @returns gives it back, once however often it is called
   */
  async lend(bytes: number): Promise<() => Promise<void>> {
    return this.turn.run('limit', async () => {
      const usage = await this.exactUsage(bytes);
      if (usage?.limitBytes === undefined) return nothing;
      if (usage.limitBytes - usage.referencedBytes >= bytes) return nothing;
      const { freeBytes } = await this.space();
      // Projects write meanwhile: half of the reserve is nobody's but the host's.
      const spare = freeBytes - this.reserveBytes / 2;
      const lent = Math.floor(Math.max(Math.min(bytes, spare), lentBytesMin));
      await this.btrfs.limitQgroup(projectsQgroup, usage.referencedBytes + lent);
      this.borrowers += 1;
      return this.ending();
    });
  }

  private ending(): () => Promise<void> {
    let ended: Promise<void> | undefined;
    const give = async (): Promise<void> => {
      this.borrowers -= 1;
      if (this.borrowers === 0) await this.setLimit({ anew: true });
    };
    return () => (ended ??= this.turn.run('limit', give));
  }

  private async setLimit(options: { anew?: boolean } = {}): Promise<void> {
    const [before, { freeBytes }] = [this.read(), await this.space()];
    const wanted = limitFor(before, freeBytes, this.reserveBytes);
    const off = Math.abs(wanted - (before?.limitBytes ?? Infinity));
    // Near the end every byte counts; before it a commit every few seconds would cost more.
    const tolerance = Math.max(this.reserveBytes / 4, (freeBytes - this.reserveBytes) / 8);
    if (options.anew !== true && off <= tolerance) return;
    await this.btrfs.sync();
    const now = await this.space();
    const limit = limitFor(this.read(), now.freeBytes, this.reserveBytes);
    await this.btrfs.limitQgroup(projectsQgroup, limit);
  }

  private async exactUsage(bytes: number): Promise<QgroupUsage | undefined> {
    const usage = this.read();
    if (usage?.limitBytes === undefined) return usage;
    if (usage.limitBytes - usage.referencedBytes >= bytes + scarceBytes) return usage;
    await this.btrfs.sync();
    return this.read();
  }

  private read(): QgroupUsage | undefined {
    return withFolder(this.volume, (fd) => qgroupUsage(fd, projectsQgroup));
  }
}

const limitFor = (
  usage: QgroupUsage | undefined,
  freeBytes: number,
  reserveBytes: number,
): number => Math.max(1, Math.floor((usage?.referencedBytes ?? 0) + freeBytes - reserveBytes));

const nothing = (): Promise<void> => Promise.resolve();
