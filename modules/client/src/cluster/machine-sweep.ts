import { readFile, rm } from 'node:fs/promises';
import {
  CodedError,
  hostNetworkNames,
  hostRouteProtocol,
  ipRange,
  ipText,
  NetworkClaims,
  rangesOverlap,
  waitFor,
  type Exec,
} from '@rookery/core';
import { z } from 'zod';
import { sweepCgroups } from './cgroup-sweep.js';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterFile, ClusterHost } from './cluster-file.js';
import { parseJson } from './preflight.js';

/**
 * Takes a cluster's traces off the machine: mounts, loop devices, network, cgroups. Works from what the
 * kernel shows, so it needs no record and no living process; repeating it does no harm.
 * Nothing of the cluster may run any more.
 */
export async function sweepMachine(
  exec: Exec,
  dataDir: string,
  cluster: ClusterFile | undefined,
): Promise<void> {
  await sweepMounts(exec, dataDir);
  await sweepLoopDevices(exec, dataDir);
  for (const host of cluster?.hosts ?? []) {
    await sweepNetwork(exec, host);
    await sweepCgroups(host.key);
  }
}

export interface Mount {
  readonly path: string;
  readonly source: string;
  readonly options: string;
}

/** Parses a mountinfo table, see proc(5). */
export function parseMounts(mountinfo: string): Mount[] {
  return mountinfo.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ');
    const path = before.split(' ')[4];
    const [, source = '', options = ''] = after.split(' ');
    return path === undefined ? [] : [{ path: unescape(path), source: unescape(source), options }];
  });
}

const unescape = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));

/** Mounts in the folder, of its files, or over its layers; in the order they were made. */
export async function clusterMounts(exec: Exec, dataDir: string): Promise<Mount[]> {
  const devices = new Set((await loopDevices(exec, dataDir)).map((one) => one.name));
  const inside = `${dataDir}/`;
  return parseMounts(await readFile('/proc/self/mountinfo', 'utf8')).filter(
    (mount) =>
      mount.path.startsWith(inside) ||
      devices.has(mount.source) ||
      // A host's run folder lies in /run, and its source names the host's data folder.
      mount.source.startsWith(`rookery:${inside}`) ||
      mount.options.includes(`dir=${inside}`),
  );
}

async function sweepMounts(exec: Exec, dataDir: string): Promise<void> {
  // A lazy unmount hides a mount at once, so one pass each way is enough; stacked ones show again.
  for (let pass = 0; pass < 3; pass += 1) {
    const mounts = await clusterMounts(exec, dataDir);
    for (const { path, source } of mounts.reverse()) {
      const { exit } = await exec.run(['umount', path], { okExits: [0, 1, 32] });
      if (exit !== 0) await exec.run(['umount', '--lazy', path], { okExits: [0, 1, 32] });
      if (source.startsWith('rookery:')) await rm(path, { recursive: true, force: true });
    }
  }
  const [left] = await clusterMounts(exec, dataDir);
  if (left) throw ClusterErrors.STILL_MOUNTED({ path: left.path });
}

const LoopDevices = z.object({
  loopdevices: z.array(z.looseObject({ name: z.string(), 'back-file': z.string().nullable() })),
});

/** Loop devices over files of the folder, deleted files included. */
export async function loopDevices(
  exec: Exec,
  dataDir: string,
): Promise<{ name: string; file: string }[]> {
  const { stdout } = await exec.run(['losetup', '--json', '--list', '--output', 'NAME,BACK-FILE']);
  if (stdout.trim() === '') return [];
  return LoopDevices.parse(JSON.parse(stdout))
    .loopdevices.map((one) => ({ name: one.name, file: one['back-file'] ?? '' }))
    .filter((one) => one.file.startsWith(`${dataDir}/`));
}

async function sweepLoopDevices(exec: Exec, dataDir: string): Promise<void> {
  await waitFor(
    `the loop devices of ${dataDir} are free`,
    async () => {
      const left = await loopDevices(exec, dataDir);
      for (const { name } of left) {
        // A busy device is detached when its last user is gone; one that went meanwhile is fine.
        await exec.run(['losetup', '--detach', name], { okExits: [0, 1] });
      }
      return left.length === 0;
    },
    { timeoutMs: 15_000, everyMs: 100 },
  );
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
