import { describe, expect, it } from '@jest/globals';
import { growCluster, planCluster, portsOf } from '../src/cluster-plan.js';
import { rangesOverlap } from '@rookery/core';
import { localAddresses } from '../src/preflight.js';

const GiB = 1024 ** 3;
const facts = { taken: [], freeBytes: 100 * GiB, now: new Date('2026-01-02T03:04:05Z') };

describe('the layout of a local cluster', () => {
  it('gives every host ports, a key and a network of its own, the same ones each time', () => {
    const plan = planCluster('/srv/a', { hosts: 16, port: 8000 }, facts);
    expect(planCluster('/srv/a', { hosts: 16, port: 8000 }, facts)).toEqual(plan);
    const ports = portsOf(plan).map((one) => one.port);
    expect(new Set(ports).size).toBe(1 + 16 * 3);
    expect(ports.slice(0, 4)).toEqual([8000, 8010, 8011, 8012]);
    for (const host of plan.hosts) expect(host.key).toMatch(/^[a-z0-9]{1,8}$/);
    expect(new Set(plan.hosts.map((host) => host.key)).size).toBe(16);
    for (const one of plan.hosts) {
      expect(one.cidr).toMatch(/^10\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.0\/20$/);
      for (const other of plan.hosts) {
        expect(rangesOverlap(one.cidr, other.cidr)).toBe(one === other);
      }
    }
  });

  it('keeps clear of networks that the machine uses', () => {
    const first = planCluster('/srv/a', { hosts: 1 }, facts).hosts[0]!.cidr;
    const taken = [first];
    expect(planCluster('/srv/a', { hosts: 1 }, { ...facts, taken }).hosts[0]!.cidr).not.toBe(first);
    expect(() => planCluster('/srv/a', {}, { ...facts, taken: ['10.64.0.0/10'] })).toThrow(
      /private network/,
    );
  });

  it('keeps what is there when hosts are added', () => {
    const two = planCluster('/srv/a', { hosts: 2 }, facts);
    const four = growCluster(two, 4, []);
    expect(four.hosts.slice(0, 2)).toEqual(two.hosts);
    expect(four.hosts).toHaveLength(4);
    expect(growCluster(four, 1, [])).toEqual(four);
  });
});

it('reads the addresses of a network namespace from its routes', () => {
  const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 10.64.0.0
        /20 link UNICAST
     |-- 10.64.0.5
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
`;
  expect(localAddresses(trie)).toEqual(['10.64.0.5']);
});
