import { rm } from 'node:fs/promises';
import {
  CodedError,
  hostCgroup,
  hostNetworkNames,
  hostRouteProtocol,
  ipRange,
  ipText,
  NetworkClaims,
  rangesOverlap,
  readMounts,
  waitFor,
  type Exec,
  type Mount,
} from '@rookery/core';
import { z } from 'zod';
import { sweepCgroups } from './cgroup-sweep.js';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterFile, ClusterHost } from './cluster-file.js';
import {
  holdersOf,
  holderText,
  otherMountNamespaces,
  stillAlive,
  unmountWithin,
  type Holder,
  type MountNamespace,
} from './mount-namespaces.js';
import { parseJson } from './preflight.js';
import { serviceCgroup } from './service-cgroup.js';

/** What goes by itself when somebody who is none of the cluster lets go of it. */
export interface Leftovers {
  readonly loopDevices: readonly LoopDevice[];
  /** Those who were in the cluster's mounts, as far as they are known and still run. */
  readonly holders: readonly Holder[];
}

/** A line for each device that is left: why, and that nothing needs to be done. */
export function leftoverText({ loopDevices: left, holders }: Leftovers): string[] {
  const who = holders.map(holderText).join(', ');
  return left.map(({ name, file }) =>
    who === ''
      ? `${name} over ${file} is being released by the kernel; it goes by itself`
      : `${name} over ${file} is held by ${who}; it goes when that ends`,
  );
}

export interface SweepOptions {
  /** How long the kernel may take to let a device go. Default 15 s. */
  readonly loopWaitMs?: number;
}

const loopWaitMs = 15_000;

/**
 * Takes a cluster's traces off the machine: mounts in every namespace, loop devices, network, cgroups.
 * Works from what the kernel shows, so it needs no record and no living process; repeating it does no
 * harm. Nothing of the cluster may run any more. What fails keeps nothing else from being done.
 */
export async function sweepMachine(
  exec: Exec,
  dataDir: string,
  cluster: ClusterFile | undefined,
  options: SweepOptions = {},
): Promise<Leftovers> {
  const failures: unknown[] = [];
  const attempt = <T>(work: Promise<T>, otherwise: T): Promise<T> =>
    work.catch((error: unknown) => {
      failures.push(error);
      return otherwise;
    });
  const holders = await attempt(sweepMounts(exec, dataDir), []);
  for (const host of cluster?.hosts ?? []) {
    await attempt(sweepNetwork(exec, host), undefined);
    await attempt(sweepCgroups(hostCgroup(host.key)), undefined);
  }
  await attempt(sweepCgroups(serviceCgroup(dataDir)), undefined);
  const waitMs = options.loopWaitMs ?? loopWaitMs;
  const left = await attempt(sweepLoopDevices(exec, dataDir, waitMs), []);
  if (failures.length > 0) throw failures[0];
  return { loopDevices: left, holders: left.length > 0 ? await stillAlive(holders) : [] };
}

/** Mounts in the folder, of its files, or over its layers; in the order they were made. */
export async function clusterMounts(exec: Exec, dataDir: string): Promise<Mount[]> {
  const devices = new Set((await loopDevices(exec, dataDir)).map((one) => one.name));
  return (await readMounts()).filter(
    (mount) =>
      mount.path.startsWith(`${dataDir}/`) ||
      devices.has(mount.source) ||
      namesFolder(mount, dataDir),
  );
}

function namesFolder({ source, superOptions }: Mount, dataDir: string): boolean {
  const inside = `${dataDir}/`;
  // A host's run folder lies in /run, and its source names the host's data folder.
  return source.startsWith(`rookery:${inside}`) || superOptions.includes(`dir=${inside}`);
}

/** In all other namespaces. What somebody has mounted beneath the folder is none of the cluster's there. */
async function mountsElsewhere(
  exec: Exec,
  dataDir: string,
): Promise<{ namespace: MountNamespace; mounts: Mount[] }[]> {
  const devices = new Set((await loopDevices(exec, dataDir)).map((one) => one.name));
  const own = (await clusterMounts(exec, dataDir)).filter(
    (mount) => devices.has(mount.source) || namesFolder(mount, dataDir),
  );
  const fileSystems = new Set(own.map((mount) => mount.device));
  return (await otherMountNamespaces()).flatMap((namespace) => {
    const mounts = namespace.mounts.filter(
      (mount) =>
        devices.has(mount.source) ||
        fileSystems.has(mount.device) ||
        // Paths of another root say nothing: it may be a machine of its own, with its own cluster.
        (namespace.sharesRoot && namesFolder(mount, dataDir)),
    );
    return mounts.length > 0 ? [{ namespace, mounts }] : [];
  });
}

/** @returns who was in the mounts */
async function sweepMounts(exec: Exec, dataDir: string): Promise<Holder[]> {
  const elsewhere = await mountsElsewhere(exec, dataDir);
  const own = (await clusterMounts(exec, dataDir)).reverse();
  for (const { path } of own) await exec.run(['umount', path], { okExits: [0, 1, 32] });
  // Where a detached mount was is no longer to be seen, so these are looked for before.
  const busy = (await clusterMounts(exec, dataDir)).map((mount) => mount.path);
  const paths = [...busy, ...elsewhere.flatMap(({ mounts }) => mounts.map((mount) => mount.path))];
  const holders = await holdersOf(paths);
  await detachOwn(exec, dataDir);
  for (const { path, source } of own) {
    if (source.startsWith('rookery:')) await rm(path, { recursive: true, force: true });
  }
  for (const { namespace, mounts } of elsewhere) await unmountWithin(exec, namespace, mounts);
  return holders;
}

/** A lazy unmount hides a mount at once; of stacked ones the next shows then. */
async function detachOwn(exec: Exec, dataDir: string): Promise<void> {
  for (let pass = 0; pass < 3; pass += 1) {
    for (const { path } of (await clusterMounts(exec, dataDir)).reverse()) {
      await exec.run(['umount', '--lazy', path], { okExits: [0, 1, 32] });
    }
  }
  const [left] = await clusterMounts(exec, dataDir);
  if (left) throw ClusterErrors.STILL_MOUNTED({ path: left.path });
}

export interface LoopDevice {
  readonly name: string;
  readonly file: string;
}

const LoopDevices = z.object({
  loopdevices: z.array(z.looseObject({ name: z.string(), 'back-file': z.string().nullable() })),
});

/** Loop devices over files of the folder, deleted files included. */
export async function loopDevices(exec: Exec, dataDir: string): Promise<LoopDevice[]> {
  const { stdout } = await exec.run(['losetup', '--json', '--list', '--output', 'NAME,BACK-FILE']);
  if (stdout.trim() === '') return [];
  return LoopDevices.parse(JSON.parse(stdout))
    .loopdevices.map((one) => ({ name: one.name, file: one['back-file'] ?? '' }))
    .filter((one) => one.file.startsWith(`${dataDir}/`));
}

/**
 * Detaches them. The kernel takes a device that is in use away with its last user, and writes a large
 * volume back first: what is left after a while needs nobody's help.
 * @returns those
 */
async function sweepLoopDevices(
  exec: Exec,
  dataDir: string,
  timeoutMs: number,
): Promise<LoopDevice[]> {
  let left: LoopDevice[] = [];
  await waitFor(
    `the loop devices of ${dataDir} are free`,
    async () => {
      left = await loopDevices(exec, dataDir);
      for (const { name } of left) {
        // One that went meanwhile is fine.
        await exec.run(['losetup', '--detach', name], { okExits: [0, 1] });
      }
      return left.length === 0;
    },
    { timeoutMs, everyMs: 100 },
  ).catch((error: unknown) => {
    if (!CodedError.is(error, 'TIMEOUT')) throw error;
  });
  return left;
}

const Links = z.array(z.looseObject({ ifname: z.string() }));
const Addresses = z.array(
  z.looseObject({
    addr_info: z
      .array(z.looseObject({ local: z.string(), label: z.string().optional() }))
      .default([]),
  }),
);

/**
 * Links, table, addresses and route of one host's network: only what carries the host's own tag, or
 * lies in a range that nobody else holds. Another cluster of this machine may be near.
 */
async function sweepNetwork(exec: Exec, { key, cidr }: ClusterHost): Promise<void> {
  const names = hostNetworkNames(key);
  const links = await exec.run(['ip', '-json', 'link', 'show', 'type', 'veth']);
  for (const { ifname } of Links.parse(parseJson(links.stdout))) {
    if (!ifname.startsWith(names.linkPrefix)) continue;
    await exec.run(['ip', 'link', 'delete', ifname], { okExits: [0, 1] });
  }
  await sweepTable(exec, names.table);
  const { stdout } = await exec.run(['ip', '-json', '-4', 'address', 'show', 'dev', 'lo']);
  const isShared = (await new NetworkClaims().exclusively((locked) => locked.list())).some(
    (claim) => claim.hostKey !== key && rangesOverlap(claim.cidr, cidr),
  );
  const gateway = ipText((ipRange(cidr)?.start ?? 0) + 1);
  for (const { local, label } of Addresses.parse(parseJson(stdout)).flatMap((l) => l.addr_info)) {
    // Releases before labels put the address there without one.
    const isOwn = label === names.gatewayLabel || (!isShared && local === gateway);
    if (!isOwn) continue;
    await exec.run(['ip', 'address', 'delete', `${local}/32`, 'dev', 'lo'], { okExits: [0, 2] });
  }
  if (isShared) return;
  const route = ['unreachable', cidr, 'proto', hostRouteProtocol];
  await exec.run(['ip', 'route', 'delete', ...route], { okExits: [0, 2] });
}

async function sweepTable(exec: Exec, table: string): Promise<void> {
  try {
    await exec.run(['nft', 'delete', 'table', 'inet', table], { okExits: [0, 1] });
  } catch (error) {
    // A machine without nftables has no rules of ours.
    if (!CodedError.is(error, 'COMMAND_MISSING')) throw error;
  }
}
