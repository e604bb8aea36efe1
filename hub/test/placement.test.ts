import { describe, expect, it } from '@jest/globals';
import { GiB } from '@rookery/core';
import { countReasons, rankHosts, type HostFigures } from '../src/hosts/placement.js';

const host = (name: string, change: Partial<HostFigures> = {}): HostFigures => ({
  ...{ hostId: name, host: name, region: 'default', online: true, schedulable: true },
  ...{ projects: 0, images: [], diskBytes: 100 * GiB, diskFreeBytes: 50 * GiB },
  ...{ memoryBytes: 64 * GiB, memoryFreeBytes: 32 * GiB, ...change },
});
const need = { diskBytes: GiB, memoryBytes: GiB, image: 'sha256:a', region: undefined };
const best = (hosts: HostFigures[], change = {}) => rankHosts(hosts, { ...need, ...change })[0];

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
    const [only] = rankHosts([host('a', change)], need);
    expect(only?.eligible).toBe(false);
    expect(only?.reasons.join()).toContain(reason);
  });

  it('counts why hosts were not chosen, without the figures of each', () => {
    const ranked = rankHosts(
      [
        host('a', { online: false }),
        host('b', { diskFreeBytes: 1000 }),
        host('c', { diskFreeBytes: 2000, schedulable: false }),
        host('d'),
      ],
      need,
    );
    expect(countReasons(ranked)).toEqual({
      'a lower score': 1,
      'too little disk': 2,
      ...{ offline: 1, cordoned: 1 },
    });
  });

  it('puts hosts that cannot last, whatever their score', () => {
    const ranked = rankHosts(
      [host('a', { online: false, diskFreeBytes: 99 * GiB }), host('b')],
      need,
    );
    expect(ranked.map((each) => each.host)).toEqual(['b', 'a']);
  });
});
