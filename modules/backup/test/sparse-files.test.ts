import { describe, expect, it } from '@jest/globals';
import { GiB, KiB, MiB } from '@rookery/core';
import { archivedPaths, noArchives, planHoles, type HoledFile } from '../src/sparse-files.js';

const file = (path: string, holeBytes: number, dataBytes = 4 * KiB): HoledFile => ({
  folder: 'project',
  path,
  holeBytes,
  dataBytes,
});

describe('the plan for files with holes', () => {
  it('archives what is mostly holes, and leaves to the program what has few', () => {
    const plan = planHoles([
      file('home/image', 2 ** 62),
      { ...file('store', 60 * KiB), folder: 'persistence' },
      file('home/few', 8 * MiB, 100 * MiB),
    ]);
    expect(plan).toEqual({
      archived: { project: ['home/image'], persistence: ['store'] },
      archivedFiles: 2,
      archivedBytes: 8 * KiB,
      zeroed: ['project/home/few'],
    });
    expect(archivedPaths(plan)).toEqual(['/project/home/image', '/persistence/store']);
  });

  it('takes the largest holes first, as many as the program can be told of', () => {
    const files = [file('a', MiB), file('bbb', 3 * MiB), file('c', 2 * MiB)];
    const limits = { filesMax: 2, nameBytesMax: MiB, zeroBytesMax: GiB };
    expect(planHoles(files, limits)).toMatchObject({
      archived: { project: ['bbb', 'c'] },
      zeroed: ['project/a'],
    });
    const short = planHoles(files, { ...limits, nameBytesMax: 103 });
    expect(short).toMatchObject({ archived: { project: ['bbb'] } });
  });

  it('names as arguments only what can be one', () => {
    const odd = 'home/\xff\xfe';
    const plan = planHoles([file(odd, MiB), file('home/\xc3\xa4', MiB)]);
    expect(plan).toMatchObject({ zeroed: [`project/${odd}`], archivedFiles: 1 });
    expect(archivedPaths(plan)).toEqual(['/project/home/ä']);
  });

  it('refuses a project with more holes than can be read as zeros', () => {
    const refused = 'read as zeros';
    const files = [file('home/\xff', 5 * GiB)];
    expect(() => planHoles(files)).toThrow(refused);
    expect(() => planHoles([file('home/x', 5 * GiB)], noArchives)).toThrow(refused);
    expect(() => planHoles([file('home/x', 5 * GiB)])).not.toThrow();
  });
});
