import { describe, expect, it } from '@jest/globals';
import { GiB } from '@rookery/core';
import { countReasons, rankHosts, type HostFigures } from '../src/hosts/placement.js';

const host = (name: string, change: Partial<HostFigures> = {}): HostFigures => ({
  hostId: name,
  host: name,
  region: 'default',
  online: true,
  schedulable: true,
  projects: 0,
  images: [],
  diskBytes: 100 * GiB,
  diskFreeBytes: 50 * GiB,
  memoryBytes: 64 * GiB,
  memoryFreeBytes: 32 * GiB,
  promised: { diskBytes: 0, memoryBytes: 0 },
  ...change,
});
const quota = { diskBytes: 10 * GiB, memoryBytes: 2 * GiB };
const need = { diskBytes: GiB, memoryBytes: GiB, image: 'sha256:a', region: undefined, quota };
const overcommit = { disk: 4, memory: 2 };
const rank = (hosts: HostFigures[], change = {}) =>
  rankHosts(hosts, { ...need, ...change }, overcommit);
const best = (hosts: HostFigures[], change = {}) => rank(hosts, change)[0];

describe('placement', () => {
  it.each([
    ['free disk', { diskFreeBytes: 80 * GiB }, {}],
    ['free memory', { memoryFreeBytes: 60 * GiB }, {}],
    ['a cached image', { images: ['sha256:a'] }, {}],
    ['the region asked for', { region: 'north' }, { region: 'north' }],
  ])('prefers %s', (_what, change, wanted) => {
    expect(best([host('a'), host('b', change)], wanted)?.host).toBe('b');
  });

  it('prefers fewer projects where the rest is alike', () => {
    expect(best([host('a', { projects: 3 }), host('b')])?.host).toBe('b');
  });

  it.each([
    ['offline', { online: false }],
    ['cordoned', { schedulable: false }],
    ['of disk', { diskFreeBytes: 1000 }],
    ['of memory', { memoryFreeBytes: 1000 }],
  ])('says why a host cannot take it: %s', (reason, change) => {
    const [only] = rank([host('a', change)]);
    expect(only?.eligible).toBe(false);
    expect(only?.reasons.join()).toContain(reason);
  });

  it('counts why hosts were not chosen, without the figures of each', () => {
    const ranked = rank([
      host('a', { online: false }),
      host('b', { diskFreeBytes: 1000 }),
      host('c', { diskFreeBytes: 2000, schedulable: false }),
      host('d'),
      host('e', { promised: { diskBytes: 400 * GiB, memoryBytes: 128 * GiB } }),
      host('f', { diskBytes: 4 * GiB }),
    ]);
    expect(countReasons(ranked)).toEqual({
      'a lower score': 1,
      'too little disk': 2,
      'too much disk promised': 1,
      'too much memory promised': 1,
      'too small for the quota': 1,
      offline: 1,
      cordoned: 1,
    });
  });

  it.each([
    ['what is left of the disk', { diskBytes: 390 * GiB, memoryBytes: 0 }, {}, true],
    ['more disk than that', { diskBytes: 391 * GiB, memoryBytes: 0 }, {}, false],
    ['what is left of the memory', { diskBytes: 0, memoryBytes: 126 * GiB }, {}, true],
    ['more memory than that', { diskBytes: 0, memoryBytes: 127 * GiB }, {}, false],
    ['twice a volume', { diskBytes: 0, memoryBytes: 0 }, { diskBytes: 200 * GiB }, true],
    ['more than that', { diskBytes: 0, memoryBytes: 0 }, { diskBytes: 201 * GiB }, false],
  ])('counts promises against room: %s', (_what, promised, more, eligible) => {
    const [only] = rank([host('a', { promised })], { quota: { ...quota, ...more } });
    expect({ ...only }).toMatchObject({ eligible });
  });

  it('puts hosts that cannot last, whatever their score', () => {
    const ranked = rank([host('a', { online: false, diskFreeBytes: 99 * GiB }), host('b')]);
    expect(ranked.map((each) => each.host)).toEqual(['b', 'a']);
  });
});
