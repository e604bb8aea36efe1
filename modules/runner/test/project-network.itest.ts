import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  hostNetworkNames,
  KeyedLock,
  newId,
  Reverter,
  SystemExec,
  waitFor,
  type SpawnedProcess,
} from '@rookery/core';
import type { Egress, ProjectId } from '@rookery/core/contract';
import type { HostEgress } from '../src/podman/network-rules.js';
import { ProjectNetwork } from '../src/podman/project-network.js';

const exec = new SystemExec();
const cidr = '10.215.6.0/24';
let folder: string;
let cleanup: Reverter;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-network-'));
  cleanup = new Reverter();
});
afterEach(async () => {
  await cleanup[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** A host's network, as one driver opens it. */
function networkOf(hostKey: string, range = cidr, egress: Partial<HostEgress> = {}) {
  const network = new ProjectNetwork(
    exec,
    {
      hostKey,
      stateDir: join(folder, hostKey),
      claimsDir: join(folder, 'claims'),
      cidr: range,
      hostPorts: [],
      egress: { mode: 'internet', allow: [], ...egress },
      deniedCidrs: [],
      resolvers: [],
    },
    new KeyedLock(),
  );
  cleanup.add(() => network.destroy());
  return network;
}

async function opened(
  hostKey: string,
  range = cidr,
  egress: Partial<HostEgress> = {},
): Promise<ProjectNetwork> {
  const network = networkOf(hostKey, range, egress);
  await exec.run(['mkdir', '-p', join(folder, hostKey)]);
  await network.open();
  return network;
}

/** What a container is to the network: a process in a network namespace of its own. */
async function namespaceOf(): Promise<{ process: SpawnedProcess; pid: number }> {
  const process_ = exec.spawn(['unshare', '--net', 'sh', '-c', 'echo ready; exec sleep 1000']);
  cleanup.add(async () => {
    process_.kill('SIGKILL');
    await process_.ended;
  });
  await new Promise((resolve) => process_.stdout.once('data', resolve));
  return { process: process_, pid: process_.pid ?? 0 };
}

/** What the containers need, as the driver tells it. */
const wanted = (
  addresses: readonly [ProjectId, string][],
  egress: readonly [ProjectId, Egress][] = [],
) => ({ addresses: new Map(addresses), egress: new Map(egress) });

async function attached(network: ProjectNetwork, projectId: ProjectId = newId(), egress?: Egress) {
  const { pid } = await namespaceOf();
  const address = await network.reserve(projectId);
  const linkIndex = await network.attach(projectId, address, pid, egress);
  return { projectId, address, linkIndex, pid };
}

/** Listens on port 80 in a namespace and tells who came. */
async function listenIn(pid: number, says: string): Promise<void> {
  const script = `require('net').createServer((s) => s.end('${says}')).listen(80, () => console.log('up'))`;
  const server = exec.spawn([
    'nsenter',
    `--net=/proc/${pid}/ns/net`,
    process.execPath,
    '-e',
    script,
  ]);
  cleanup.add(async () => {
    server.kill('SIGKILL');
    await server.ended;
  });
  await new Promise((resolve) => server.stdout.once('data', resolve));
}

/** What answers at an address, or how it is refused. */
function dial(address: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(80, address);
    socket.setTimeout(2000, () => socket.destroy(new Error('TIMEOUT')));
    socket.once('data', (data) => {
      socket.destroy();
      resolve(data.toString());
    });
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

/**
 * Somebody on the machine's way out who answers at every address, as a router with a proxy would:
 * a route wider than the projects' range leads to it.
 */
async function strangerOutside(): Promise<void> {
  const { pid } = await namespaceOf();
  const name = `st${pid}`;
  const inside = ['nsenter', `--net=/proc/${pid}/ns/net`, 'ip', '-batch', '-'];
  await exec.run(['ip', '-batch', '-'], {
    input: [
      `link add ${name} type veth peer name out netns ${pid}`,
      `address add 10.215.4.1/30 dev ${name}`,
      `link set ${name} up`,
      `route add 10.215.0.0/16 via 10.215.4.2 dev ${name} onlink`,
      '',
    ].join('\n'),
  });
  await exec.run(inside, {
    input: [
      'link set lo up',
      'address add 10.215.4.2/30 dev out',
      'link set out up',
      'route add local 10.215.0.0/16 dev lo',
      '',
    ].join('\n'),
  });
  await listenIn(pid, 'a stranger');
  expect(await dial('10.215.200.1')).toBe('a stranger');
}

describe('a host’s network on a machine', () => {
  it('refuses a range that another host of the machine holds, and names the holder', async () => {
    const first = await opened('one');
    for (const range of [cidr, '10.215.0.0/20', '10.215.6.128/25']) {
      await expect(opened('two', range)).rejects.toMatchObject({
        code: 'NETWORK_TAKEN',
        message: expect.stringContaining(join(folder, 'one')),
      });
    }
    await opened('two', '10.215.7.0/24');
    // Its own again, as after a restart of its process.
    await opened('one');
    await first.destroy();
    await opened('three');
  });

  it('keeps the range of a host that is stopped, until its folder is gone', async () => {
    const first = await opened('one');
    await rm(join(folder, 'claims'), { recursive: true });
    // Also without its claim: what it has put into the kernel tells.
    await attached(first);
    await expect(opened('two')).rejects.toMatchObject({ code: 'NETWORK_TAKEN' });
    await first.destroy();
    await opened('three');
    await expect(opened('four')).rejects.toMatchObject({
      message: expect.stringContaining(join(folder, 'three')),
    });
    await rm(join(folder, 'three'), { recursive: true });
    await exec.run(['ip', 'address', 'delete', '10.215.6.1/32', 'dev', 'lo']);
    await opened('four');
  });

  it('lets exactly one of several hosts that start at once have a range', async () => {
    const keys = ['one', 'two', 'three', 'four'];
    const results = await Promise.allSettled(keys.map((key) => opened(key)));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });

  it('refuses a range in which somebody else has an address or a route', async () => {
    await exec.run(['ip', 'link', 'add', 'sg0', 'type', 'veth', 'peer', 'name', 'sg1']);
    cleanup.add(async () => void (await exec.run(['ip', 'link', 'delete', 'sg0'])));
    await exec.run(['ip', 'address', 'add', '10.215.6.77/32', 'dev', 'sg0']);
    await exec.run(['ip', 'link', 'set', 'sg0', 'up']);
    await expect(opened('one')).rejects.toMatchObject({
      code: 'NETWORK_TAKEN',
      message: expect.stringContaining('sg0'),
    });
    await exec.run(['ip', 'address', 'flush', 'dev', 'sg0']);
    await exec.run(['ip', 'route', 'add', '10.215.6.64/26', 'dev', 'sg0']);
    await expect(opened('one')).rejects.toMatchObject({
      message: expect.stringContaining('10.215.6.64/26'),
    });
  });

  it('sends what is meant for a project nowhere else when its route or link is gone', async () => {
    await strangerOutside();
    const network = await opened('one');
    const { projectId, address, pid } = await attached(network);
    await listenIn(pid, 'the project');
    expect(await dial(address)).toBe('the project');
    await network.repair(async () => wanted([[projectId, address]]));

    await exec.run(['ip', 'route', 'delete', `${address}/32`]);
    expect(await dial(address)).toBe('EHOSTUNREACH');
    const done = await network.repair(async () => wanted([[projectId, address]]));
    expect(done).toMatchObject([{ kind: 'addRoute' }]);
    expect(await dial(address)).toBe('the project');

    await network.release(projectId);
    expect(await dial(address)).toBe('EHOSTUNREACH');
    await exec.run(['ip', 'route', 'delete', 'unreachable', cidr]);
    expect(await dial(address)).toBe('a stranger');
    await network.repair(async () => wanted([]));
    expect(await dial(address)).toBe('EHOSTUNREACH');
  });

  it('brings back rules, gateway and forwarding that somebody has taken away', async () => {
    const network = await opened('one');
    const { projectId, address } = await attached(network);
    const all = async () => wanted([[projectId, address]]);
    expect(await network.repair(all)).toMatchObject([{ kind: 'loadRules' }]);
    expect(await network.repair(all)).toEqual([]);
    const { table } = hostNetworkNames('one');
    await exec.run(['nft', 'flush', 'chain', 'inet', table, 'forward']);
    await exec.run(['ip', 'address', 'delete', '10.215.6.1/32', 'dev', 'lo']);
    const kinds = (await network.repair(all)).map(({ kind }) => kind);
    expect(kinds.sort()).toEqual(['addGateway', 'loadRules']);
    const { stdout } = await exec.run(['nft', 'list', 'chain', 'inet', table, 'forward']);
    expect(stdout).toContain('goto refused');
    await exec.run(['nft', 'delete', 'table', 'inet', table]);
    expect(await network.repair(all)).toMatchObject([{ kind: 'loadRules' }]);
    expect(await network.repair(all)).toEqual([]);
  });

  it('removes links with its own tag that are nobody’s, and no others', async () => {
    const network = await opened('one');
    const other = await opened('two', '10.215.7.0/24');
    const kept = await attached(network);
    const stranger = await attached(other);
    // As a host leaves it that died in the middle of a start.
    const own = `${hostNetworkNames('one').linkPrefix}9`;
    const foreign = `${hostNetworkNames('zero').linkPrefix}9`;
    for (const name of [own, foreign]) {
      await exec.run(['ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', `p${name}`]);
    }
    cleanup.add(async () => void (await exec.run(['ip', 'link', 'delete', foreign])));
    const all = async () => wanted([[kept.projectId, kept.address]]);
    expect(await network.repair(all)).toMatchObject([
      { kind: 'loadRules' },
      { kind: 'deleteLink' },
    ]);
    const { stdout } = await exec.run(['ip', '-o', 'link']);
    expect(stdout).not.toContain(`${own}@`);
    expect(stdout).toContain(`${foreign}@`);
    expect((await network.links()).map((link) => link.projectId)).toEqual([kept.projectId]);
    expect((await other.links()).map((link) => link.projectId)).toEqual([stranger.projectId]);
  });

  it('never numbers a link as one before it, though it has the same name', async () => {
    const network = await opened('one');
    const projectId = newId();
    const first = await attached(network, projectId);
    await network.release(projectId);
    await waitFor('the link is gone', async () => (await network.links()).length === 0, {
      timeoutMs: 5000,
    });
    const second = await attached(network, projectId);
    expect(second.address).toBe(first.address);
    expect(second.linkIndex).not.toBe(first.linkIndex);
  });
});
