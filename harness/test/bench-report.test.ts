import { describe, expect, it } from '@jest/globals';
import { median, rowOf } from '@rookery/harness';

describe('median', () => {
  it.each([
    { values: [3], middle: 3 },
    { values: [9, 1, 5], middle: 5 },
    { values: [10, 2, 4, 100], middle: 7 },
    { values: [10, 9, 100], middle: 10 },
  ])('of $values is $middle', ({ values, middle }) => {
    expect(median(values)).toBe(middle);
  });

  it('leaves its input in order', () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe('rowOf', () => {
  it('turns times, so that a ratio above one is better than the peer', () => {
    const row = rowOf({
      row: 'start',
      unit: 'ms',
      lessIsBetter: true,
      ours: [100, 300, 200],
      peer: { name: 'podman', values: [400, 400, 400] },
      goal: { ratio: 1.5 },
    });
    expect(row).toEqual({
      row: 'start',
      unit: 'ms',
      ours: 200,
      peer: 400,
      peerName: 'podman',
      ratio: 2,
      goal: '≥ 1.5 ×',
      floor: null,
      met: true,
    });
  });

  it('does not turn rates, and judges by the floor where there is one', () => {
    const rates = {
      row: 'requests',
      unit: '/s',
      lessIsBetter: false,
      ours: [90],
      peer: { name: 'nginx', values: [100] },
      goal: { ratio: 1 },
    };
    expect(rowOf(rates)).toMatchObject({ ratio: 0.9, met: false });
    const floored = rowOf({ ...rates, floor: { ratio: 0.8 } });
    expect(floored).toMatchObject({ goal: '≥ 1 ×', floor: '≥ 0.8 ×', met: true });
    expect(rowOf({ ...rates, floor: { ratio: 0.95 } })).toMatchObject({ met: false });
  });

  it('judges a goal of our own figure in the direction of the unit', () => {
    const own = (lessIsBetter: boolean, ours: number) =>
      rowOf({ row: 'own', unit: 's', lessIsBetter, ours: [ours], goal: { ours: 10 } });
    expect(own(true, 10)).toMatchObject({ goal: '≤ 10 s', met: true, peer: null, ratio: null });
    expect(own(true, 11).met).toBe(false);
    expect(own(false, 10)).toMatchObject({ goal: '≥ 10 s', met: true });
    expect(own(false, 9).met).toBe(false);
  });

  it('does not hold a ratio against a peer that did not run, nor judge without a bound', () => {
    const row = { row: 'alone', unit: 's', lessIsBetter: true, ours: [1] };
    expect(rowOf({ ...row, goal: { ratio: 1 } }).met).toBe(false);
    expect(rowOf(row).met).toBeNull();
  });

  it('rounds to three digits, after judging', () => {
    const row = { row: 'near', unit: 's', lessIsBetter: true, ours: [10.001] };
    expect(rowOf({ ...row, goal: { ours: 10 } })).toMatchObject({ ours: 10, met: false });
  });
});
