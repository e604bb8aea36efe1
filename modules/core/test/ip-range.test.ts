import { describe, expect, it } from '@jest/globals';
import { ipRange, ipText, rangeHolds, rangesOverlap } from '../src/index.js';

describe('IPv4 ranges', () => {
  it.each([
    ['10.0.0.0/8', '10.64.0.0/20', true],
    ['10.64.16.0/20', '10.64.0.0/20', false],
    ['10.64.15.255', '10.64.0.0/20', true],
    ['0.0.0.0/0', '10.64.0.0/20', true],
    ['default', '10.64.0.0/20', false],
    ['fd00::/8', '10.64.0.0/20', false],
  ])('%s and %s share addresses: %s', (one, other, shared) => {
    expect(rangesOverlap(one, other)).toBe(shared);
    expect(rangesOverlap(other, one)).toBe(shared);
  });

  it('knows what lies wholly in another', () => {
    expect(rangeHolds('10.64.0.0/20', '10.64.0.5')).toBe(true);
    expect(rangeHolds('10.64.0.0/20', '10.0.0.0/8')).toBe(false);
  });

  it.each(['10.0.0', '10.0.0.256', '10.0.0.0/33', '10.0.0.0/8/8', 'a.b.c.d', '10.0.0.0/'])(
    '%s is none',
    (text) => expect(ipRange(text)).toBeUndefined(),
  );

  it('is written from its first address, whatever address names it', () => {
    expect(ipText(ipRange('10.64.7.9/20')?.start ?? 0)).toBe('10.64.0.0');
  });
});
