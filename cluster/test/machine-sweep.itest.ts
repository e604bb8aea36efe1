import { afterEach, describe, expect, it } from '@jest/globals';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  hostNetworkNames,
  NetworkClaims,
  Reverter,
  SystemExec,
  waitFor,
  type SpawnedProcess,
} from '@rookery/core';
import { findClusterProcesses } from '../src/cluster-processes.js';
import { clusterMounts, leftoverText, loopDevices, sweepMachine } from '../src/machine-sweep.js';

const exec = new SystemExec();
const cleanup = new Reverter();
afterEach(() => cleanup.fail());

const cluster = (key: string, cidr: string) => ({
  version: 1 as const,
  id: key,
  createdAt: '2026-01-01T00:00:00Z',
  listen: '127.0.0.1',
  port: 7700,
  publicUrl: 'http://127.0.0.1:7700',
  volumeBytes: 0,
  hub: {},
  hosts: [{ name: 'host-1', key, cidr, port: 7710, sshPort: 7711, agentPort: 7712, joined: true }],
});

/** What a running host has on the machine, with the project's number of its range. */
async function hostOnMachine(key: string, cidr: string, number: number): Promise<void> {
  const { linkPrefix, table, gatewayLabel } = hostNetworkNames(key);
  const at = (last: number): string => cidr.replace(/\.0\/\d+$/, `.${last}`);
  const link = `${linkPrefix}${number}`;
  const batch = [
    `address replace ${at(1)}/32 dev lo label ${gatewayLabel}`,
    `route replace unreachable ${cidr} proto 171`,
    `link add ${link} type veth peer name p${link.slice(2)}`,
    `link set ${link} up`,
    `route replace ${at(number)}/32 dev ${link}`,
  ];
  await exec.run(['ip', '-batch', '-'], { input: `${batch.join('\n')}\n` });
  const rules = `table inet ${table} { chain c { ip saddr ${cidr} accept; }; }\n`;
  await exec.run(['nft', '-f', '-'], { input: rules });
}

async function traces(key: string, cidr: string): Promise<Record<string, boolean>> {
  const { linkPrefix, table } = hostNetworkNames(key);
  const shown = async (...argv: string[]): Promise<string> => (await exec.run(argv)).stdout;
  return {
    links: (await shown('ip', '-o', 'link')).includes(linkPrefix),
    table: (await shown('nft', 'list', 'tables')).includes(`${table}\n`),
    gateway: (await shown('ip', '-4', '-o', 'address', 'show', 'dev', 'lo')).includes(
      ` ${cidr.replace(/\.0\/\d+$/, '.1')}/32`,
    ),
    closed: (await shown('ip', '-4', 'route')).includes(`unreachable ${cidr} `),
  };
}
const everything = { links: true, table: true, gateway: true, closed: true };
const nothing = { links: false, table: false, gateway: false, closed: false };

/** A volume on a loop device as a host has it, beneath the folder. */
async function volumeIn(dataDir: string): Promise<string> {
  const image = join(dataDir, 'hosts/host-1/volume.img');
  const volume = join(dataDir, 'hosts/host-1/volume');
  await mkdir(volume, { recursive: true });
  await exec.run(['truncate', '-s', '16M', image]);
  await exec.run(['mkfs.ext4', '-q', image]);
  await exec.run(['mount', '-o', 'loop', image, volume]);
  return volume;
}

/** Somebody of the machine who runs `script`; resolves when it has said so. */
async function bystander(script: string, ...wrap: string[]): Promise<SpawnedProcess> {
  const started = exec.spawn([...wrap, 'sh', '-c', `${script}; echo in; exec sleep 1000`]);
  cleanup.add(async () => {
    started.kill('SIGKILL');
    await started.ended;
  });
  const said = await new Promise<string>((resolve) => {
    started.stdout.once('data', (chunk: Buffer) => resolve(chunk.toString()));
    started.stderr.once('data', (chunk: Buffer) => resolve(chunk.toString()));
  });
  expect(said).toBe('in\n');
  return started;
}

const ownMounts = ['unshare', '--mount', '--propagation', 'private'];

describe('sweeping a cluster off the machine', () => {
  it('unmounts also where a process took the mounts along in a namespace of its own', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-sweep-'));
    cleanup.add(() => rm(folder, { recursive: true, force: true }));
    const dataDir = join(folder, 'data');
    const own = cluster('swd1', '10.215.22.0/24');
    cleanup.add(() => sweepMachine(exec, dataDir, own).then(() => undefined));
    const volume = await volumeIn(dataDir);
    await hostOnMachine('swd1', '10.215.22.0/24', 2);
    const idle = await bystander('true', ...ownMounts);
    const elsewhere = await bystander(
      `mkdir -p ${folder}/seen && mount --rbind ${volume} ${folder}/seen && umount ${volume}`,
      ...ownMounts,
    );

    expect(await sweepMachine(exec, dataDir, own)).toEqual({ loopDevices: [], holders: [] });
    expect(await loopDevices(exec, dataDir)).toEqual([]);
    expect(await traces('swd1', '10.215.22.0/24')).toEqual(nothing);
    for (const { pid } of [idle, elsewhere]) {
      expect(await readFile(`/proc/${pid}/mountinfo`, 'utf8')).not.toContain(folder);
    }
  });

  it('names who stays in a volume, does everything else, and leaves the rest to the kernel', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-sweep-'));
    cleanup.add(() => rm(folder, { recursive: true, force: true }));
    const dataDir = join(folder, 'data');
    const own = cluster('swe1', '10.215.23.0/24');
    cleanup.add(() => sweepMachine(exec, dataDir, own).then(() => undefined));
    const volume = await volumeIn(dataDir);
    await hostOnMachine('swe1', '10.215.23.0/24', 2);
    const shell = await bystander(`cd ${volume}`);
    const away = await bystander(`cd ${volume}`, ...ownMounts);

    const left = await sweepMachine(exec, dataDir, own, { loopWaitMs: 300 });
    expect(left.loopDevices).toHaveLength(1);
    expect(left.holders.map((one) => one.identity.pid).sort()).toEqual(
      [shell.pid, away.pid].sort(),
    );
    expect(leftoverText(left)[0]).toContain(`sleep (process ${shell.pid})`);
    expect(await clusterMounts(exec, dataDir)).toEqual([]);
    expect(await traces('swe1', '10.215.23.0/24')).toEqual(nothing);

    for (const one of [shell, away]) {
      one.kill('SIGKILL');
      await one.ended;
    }
    await waitFor(
      'the device is gone',
      async () => (await loopDevices(exec, dataDir)).length === 0,
      {
        timeoutMs: 10_000,
      },
    );
  });

  it('ends what belongs to the cluster in a namespace of its own, and nothing of another root', async () => {
    const dataDir = await mkdtemp(join(tmpdir(), 'rookery-sweep-'));
    cleanup.add(() => rm(dataDir, { recursive: true, force: true }));
    const env = [`env`, `ROOKERY_DATA=${dataDir}/hosts/host-1`];
    const ours = await bystander('true', ...ownMounts, ...env);
    const root = join(dataDir, 'root');
    const machine = `mkdir ${root} && mount --rbind / ${root} && cd ${root} && mount -t tmpfs none tmp
      && mkdir tmp/r && mount -t tmpfs none tmp/r && mkdir tmp/r/bin && cp /bin/busybox tmp/r/bin
      && cd tmp/r && exec chroot . /bin/busybox sh -c "echo in; exec /bin/busybox sleep 1000"`;
    const other = await bystander(machine.replaceAll('\n', ' '), ...ownMounts, ...env);
    const found = await findClusterProcesses(dataDir, ['service']);
    expect(found.map((one) => one.identity.pid)).toEqual([ours.pid]);
    expect(other.pid).toBeDefined();
  });

  it('leaves what another cluster has, even in the same range', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'rookery-sweep-'));
    cleanup.add(() => rm(folder, { recursive: true, force: true }));
    const [a, b] = [cluster('swa1', '10.215.20.0/24'), cluster('swb1', '10.215.20.0/24')];
    const claims = new NetworkClaims();
    const holder = { hostKey: 'swb1', folder };
    await claims.claim('10.215.20.0/24', holder);
    cleanup.add(() => claims.release(holder));
    await hostOnMachine('swb1', '10.215.20.0/24', 2);
    await hostOnMachine('swa1', '10.215.20.0/24', 3);
    cleanup.add(() => sweepMachine(exec, join(folder, 'b'), b).then(() => undefined));

    await sweepMachine(exec, join(folder, 'a'), a);
    expect(await traces('swb1', '10.215.20.0/24')).toEqual(everything);
    expect((await traces('swa1', '10.215.20.0/24')).links).toBe(false);
    expect((await traces('swa1', '10.215.20.0/24')).table).toBe(false);
  });

  it('takes everything of its own', async () => {
    const own = cluster('swc1', '10.215.21.0/24');
    await hostOnMachine('swc1', '10.215.21.0/24', 2);
    expect(await traces('swc1', '10.215.21.0/24')).toEqual(everything);
    await sweepMachine(exec, '/tmp/rookery-no-such-cluster', own);
    expect(await traces('swc1', '10.215.21.0/24')).toEqual(nothing);
    await sweepMachine(exec, '/tmp/rookery-no-such-cluster', own);
  });
});
