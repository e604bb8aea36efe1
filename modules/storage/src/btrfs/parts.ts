import type { Clock, Exec } from '@rookery/core';
import { VolumeLayout } from '../layout.js';
import { PathStagings } from '../path-staging.js';
import { SidecarStore } from '../sidecar.js';
import { spaceOf } from '../space.js';
import type { ResolvedStorageOptions } from '../storage.options.js';
import { BtrfsProgram } from './btrfs-program.js';
import { DiskReserve } from './disk-reserve.js';
import { TemporarySnapshots } from './temporary-snapshots.js';
import { Images } from './images.js';
import { Landings } from './landings.js';
import { Qgroups } from './qgroups.js';
import { Replacement } from './replacement.js';
import { Sender } from './sender.js';
import { Snapshots } from './snapshots.js';
import { Subvolumes } from './subvolumes.js';
import { Volumes } from './volumes.js';

/** What the btrfs driver is made of; each part looks after one kind of thing on the volume. */
export interface BtrfsDependencies {
  readonly layout: VolumeLayout;
  readonly btrfs: BtrfsProgram;
  readonly qgroups: Qgroups;
  readonly reserve: DiskReserve;
  readonly subvolumes: Subvolumes;
  readonly sidecars: SidecarStore;
  readonly snapshots: Snapshots;
  readonly frozen: TemporarySnapshots;
  readonly images: Images;
  readonly landings: Landings;
  readonly volumes: Volumes;
  readonly replacement: Replacement;
  readonly sender: Sender;
  readonly pathStagings: PathStagings;
}

export function btrfsParts(
  exec: Exec,
  options: ResolvedStorageOptions,
  clock: Clock,
): BtrfsDependencies {
  const { volume, btrfsProgram, snapshotsPerProjectMax, reserveBytes, loopback } = options;
  const layout = new VolumeLayout(volume);
  const btrfs = new BtrfsProgram(exec, btrfsProgram, volume);
  const space = () => spaceOf(volume, loopback?.imageFile);
  const reserve = new DiskReserve(btrfs, volume, reserveBytes, space);
  const qgroups = new Qgroups(btrfs, volume, clock, reserve);
  const subvolumes = new Subvolumes(btrfs, layout, qgroups);
  const sidecars = new SidecarStore(layout);
  const snapshots = new Snapshots(
    btrfs,
    layout,
    qgroups,
    subvolumes,
    sidecars,
    clock,
    snapshotsPerProjectMax,
  );
  const frozen = new TemporarySnapshots(btrfs, layout, qgroups, subvolumes);
  const landings = new Landings(btrfs, layout, qgroups, subvolumes, reserve);
  const volumes = new Volumes(btrfs, layout, qgroups, subvolumes, sidecars, frozen, landings);
  return {
    layout,
    btrfs,
    qgroups,
    reserve,
    subvolumes,
    sidecars,
    snapshots,
    frozen,
    images: new Images(btrfs, layout, subvolumes, qgroups),
    landings,
    volumes,
    replacement: new Replacement(btrfs, layout, qgroups, subvolumes, sidecars, snapshots, volumes),
    sender: new Sender(btrfs, layout),
    pathStagings: new PathStagings(exec, layout, () => btrfs.sync()),
  };
}
