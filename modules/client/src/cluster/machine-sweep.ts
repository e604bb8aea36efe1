import { readFile, rm } from 'node:fs/promises';
import { CodedError, waitFor, type Exec } from '@rookery/core';
import { z } from 'zod';
import { sweepCgroups } from './cgroup-sweep.js';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterFile } from './cluster-file.js';
import { overlaps } from './cluster-plan.js';
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
  for (const { cidr, key } of cluster?.hosts ?? []) {
    await sweepNetwork(exec, cidr);
    await sweepCgroups(key);
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

const Routes = z.array(z.looseObject({ dst: z.string(), dev: z.string().optional() }));
const Links = z.array(
  z.looseObject({ addr_info: z.array(z.looseObject({ local: z.string() })).default([]) }),
);
const Tables = z.object({
  nftables: z.array(
    z.looseObject({ table: z.looseObject({ family: z.string(), name: z.string() }).optional() }),
  ),
});
/** Names that hosts give to their links and tables. */
const ourLink = /^rk/;
const ourTable = /^rookery/;

/** Links, addresses and rules of one host's network. */
async function sweepNetwork(exec: Exec, cidr: string): Promise<void> {
  const routes = await exec.run(['ip', '-json', '-4', 'route', 'show', 'root', cidr]);
  for (const { dev } of Routes.parse(parseJson(routes.stdout))) {
    if (dev === undefined || !ourLink.test(dev)) continue;
    await exec.run(['ip', 'link', 'delete', dev], { okExits: [0, 1] });
  }
  const { stdout } = await exec.run(['ip', '-json', '-4', 'address', 'show', 'dev', 'lo']);
  for (const { local } of Links.parse(parseJson(stdout)).flatMap((link) => link.addr_info)) {
    if (!overlaps(`${local}/32`, cidr)) continue;
    await exec.run(['ip', 'address', 'delete', `${local}/32`, 'dev', 'lo'], { okExits: [0, 2] });
  }
  await sweepRules(exec, cidr);
}

async function sweepRules(exec: Exec, cidr: string): Promise<void> {
  let listed: string;
  try {
    ({ stdout: listed } = await exec.run(['nft', '--json', 'list', 'tables']));
  } catch (error) {
    // A machine without nftables has no rules of ours.
    if (CodedError.is(error, 'COMMAND_MISSING')) return;
    throw error;
  }
  for (const { table } of Tables.parse(JSON.parse(listed)).nftables) {
    if (!table || !ourTable.test(table.name)) continue;
    const rules = await exec.run(['nft', 'list', 'table', table.family, table.name], {
      okExits: [0, 1],
    });
    if (!rules.stdout.includes(cidr)) continue;
    await exec.run(['nft', 'delete', 'table', table.family, table.name], { okExits: [0, 1] });
  }
}
