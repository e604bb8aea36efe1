import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProjectId } from '@rookery/core/contract';
import { exchangePaths, namesIn } from '../files.js';
import type { VolumeLayout } from '../layout.js';
import type { SidecarStore } from '../sidecar.js';
import type { BtrfsProgram } from './btrfs-program.js';
import { subvolumeAt } from './ioctl.js';
import type { Qgroups } from './qgroups.js';
import type { Snapshots } from './snapshots.js';
import type { Subvolumes } from './subvolumes.js';
import type { Volumes } from './volumes.js';

interface Marks {
  readonly from: ProjectId;
  /** UUID of the subvolume that comes: tells whether the exchange has happened. */
  readonly arriving: string;
  readonly previous?: string | undefined;
}

/**
 * One project's volume takes the place of another's, which keeps its snapshots. Every step is found
 * done when it is repeated: what comes is known by its UUID, which is written down first. Callers
 * hold the lock of `to`.
 */
export class Replacement {
  constructor(
    private readonly btrfs: BtrfsProgram,
    private readonly layout: VolumeLayout,
    private readonly qgroups: Qgroups,
    private readonly subvolumes: Subvolumes,
    private readonly sidecars: SidecarStore,
    private readonly snapshots: Snapshots,
    private readonly volumes: Volumes,
  ) {}

  async replace(
    from: ProjectId,
    to: ProjectId,
    options: { discard: boolean },
  ): Promise<{ previous?: string }> {
    // Both contents are in the group for a while; the caller sets the limit when this has ended.
    await this.qgroups.setLimit(to, undefined);
    const marks = await this.marks(from, to, options);
    if (marks) await this.replaceLive(marks, to, options);
    await this.replacePersistence(from, to);
    await this.volumes.buildScratch(to, await this.qgroups.ensureGroup(to));
    await this.btrfs.sync();
    await this.volumes.delete(from);
    const previous = marks?.previous;
    return previous === undefined ? {} : { previous };
  }

  /** Undefined when nothing comes any more: an earlier try went past the live volume. */
  private async marks(
    from: ProjectId,
    to: ProjectId,
    { discard }: { discard: boolean },
  ): Promise<Marks | undefined> {
    const { replacing } = await this.sidecars.read(to);
    if (replacing?.from === from) return { ...replacing, from };
    const arriving = subvolumeAt(this.layout.live(from));
    if (!arriving) return undefined;
    const keeps = subvolumeAt(this.layout.live(to)) !== undefined && !discard;
    const marks: Marks = {
      from,
      arriving: arriving.uuid,
      ...(keeps && { previous: await this.snapshots.freeName(to) }),
    };
    await this.sidecars.update(to, (sidecar) => {
      sidecar.replacing = marks;
      // What told a repeated clone or activation that it is done speaks of what was here before.
      delete sidecar.clonedFrom;
      delete sidecar.activatedBy;
    });
    return marks;
  }

  private async replaceLive(
    marks: Marks,
    to: ProjectId,
    { discard }: { discard: boolean },
  ): Promise<void> {
    const [arriving, live] = [this.layout.live(marks.from), this.layout.live(to)];
    if (subvolumeAt(live)?.uuid !== marks.arriving) {
      if (subvolumeAt(live)) {
        if (marks.previous !== undefined) await this.snapshots.take(to, marks.previous);
        exchangePaths(this.layout.volume, arriving, live);
      } else {
        await rename(arriving, live);
      }
    }
    await this.qgroups.moveMember(live, to);
    // What was live and holds the snapshots; from its new name on every task of `to` finishes this.
    if (subvolumeAt(arriving)) {
      if (discard) await this.dropUnlocked(to, arriving);
      await rename(arriving, this.layout.staging(`restore-${to}`));
    }
    await this.snapshots.finishRestore(to);
    await this.btrfs.sync();
    await this.sidecars.update(to, (sidecar) => delete sidecar.replacing);
  }

  private async dropUnlocked(to: ProjectId, old: string): Promise<void> {
    const { snapshots } = await this.sidecars.read(to);
    for (const name of await namesIn(join(old, '.snapshots'))) {
      if (snapshots[name]?.locked === true) continue;
      await this.subvolumes.deleteTree(join(old, '.snapshots', name));
      await this.sidecars.update(to, (sidecar) => delete sidecar.snapshots[name]);
    }
  }

  /** A snapshot holds no persistence: what was there is gone. */
  private async replacePersistence(from: ProjectId, to: ProjectId): Promise<void> {
    const [source, target] = [this.layout.persistence(from), this.layout.persistence(to)];
    if (subvolumeAt(source)) {
      await this.subvolumes.discard(target);
      await rename(source, target);
    }
    await this.qgroups.moveMember(target, to);
  }
}
