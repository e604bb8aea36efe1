import { mkdir, readdir, readlink, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { isThere } from './is-there.js';
import { withMachineLock } from './machine-lock.js';

/** Where the hosts of a machine note which user ids are theirs; all must look in the same place. */
export const idClaimsDir = '/var/lib/rookery-ids';

/** Ids in each range, on every host. */
export const idsPerProject = 65_536;

/**
 * Which ranges of user ids the hosts of one machine have given to projects: a link a range, named by
 * its first id, that leads to the host's own note of it. A claim lasts while that note is there,
 * whether or not anything runs. Without it the projects of two clusters on one machine would run as
 * the same users.
 */
export class IdClaims {
  constructor(private readonly folder: string = idClaimsDir) {}

  /** Runs a task that reads and takes claims while no one else on the machine does. */
  exclusively<T>(task: (locked: LockedIdClaims) => Promise<T>): Promise<T> {
    return withMachineLock(this.folder, 'the user ids’', async () => {
      const names = (await readdir(this.folder)).filter((name) => /^\d+$/.test(name));
      return task(new LockedIdClaims(this.folder, new Set(names.map(Number))));
    });
  }

  /** Gives back one range, if it is the note's. */
  async release(firstId: number, note: string): Promise<void> {
    await mkdir(this.folder, { recursive: true, mode: 0o755 });
    const path = join(this.folder, String(firstId));
    if ((await targetOf(path)) === note) await rm(path, { force: true });
  }

  /** Gives back all that is noted in a folder, or deeper. */
  releaseWithin(folder: string): Promise<void> {
    return this.exclusively((locked) => locked.releaseWithin(folder));
  }
}

/** The claims while their lock is held. */
export class LockedIdClaims {
  constructor(
    private readonly folder: string,
    private readonly firstIds: Set<number>,
  ) {}

  /** Takes the range from `firstId` on; false when a part of it is somebody else's. */
  async claim(firstId: number, note: string): Promise<boolean> {
    for (const taken of this.firstIds) {
      if (Math.abs(taken - firstId) >= idsPerProject) continue;
      const holder = await this.holderOf(taken);
      if (holder === undefined) continue;
      if (holder !== note) return false;
      if (taken === firstId) return true;
    }
    await symlink(note, this.pathOf(firstId));
    this.firstIds.add(firstId);
    return true;
  }

  async releaseWithin(folder: string): Promise<void> {
    for (const firstId of [...this.firstIds]) {
      const note = await targetOf(this.pathOf(firstId));
      if (note?.startsWith(`${folder}/`) === true) await this.drop(firstId);
    }
  }

  /** Whose the claim is; one whose note is gone is nobody's, and goes. */
  private async holderOf(firstId: number): Promise<string | undefined> {
    const note = await targetOf(this.pathOf(firstId));
    if (note !== undefined && (await isThere(note))) return note;
    await this.drop(firstId);
    return undefined;
  }

  private async drop(firstId: number): Promise<void> {
    await rm(this.pathOf(firstId), { force: true });
    this.firstIds.delete(firstId);
  }

  private pathOf(firstId: number): string {
    return join(this.folder, String(firstId));
  }
}

const targetOf = (path: string): Promise<string | undefined> =>
  readlink(path).catch(() => undefined);
