import { afterEach, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hostNetworkNames, NetworkClaims, Reverter, SystemExec } from '@rookery/core';
import { sweepMachine } from '../src/cluster/machine-sweep.js';

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

describe('sweeping a cluster off the machine', () => {
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
    cleanup.add(() => sweepMachine(exec, join(folder, 'b'), b));

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
