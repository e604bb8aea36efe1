import { chmod, link, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { compareTrees } from '../src/compare-trees.js';

let folder: string;
const options = { exclude: ['.snapshots'], signal: new AbortController().signal };

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-compare-'));
  for (const side of ['one', 'other']) {
    const at = (...names: string[]): string => join(folder, side, ...names);
    await mkdir(at('deep', 'er'), { recursive: true });
    await writeFile(at('deep', 'er', 'file'), 'content');
    const odd = Buffer.concat([Buffer.from(at('deep', 'x')), Buffer.of(0xff)]);
    await writeFile(odd, 'a name that is not UTF-8');
    await utimes(odd, 1e9, 1e9);
    await link(at('deep', 'er', 'file'), at('same'));
    await symlink('nowhere', at('link'));
    await utimes(at('same'), 1e9, 1e9);
    await mkdir(at('.snapshots'));
    await writeFile(at('.snapshots', side), side);
  }
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const differences = (): Promise<string[]> =>
  compareTrees(join(folder, 'one'), join(folder, 'other'), options);
const other = (...names: string[]): string => join(folder, 'other', ...names);

it('finds nothing between trees that are the same', async () => {
  expect(await differences()).toEqual([]);
});

it.each([
  ['another byte', () => writeFile(other('same'), 'contenT'), /other content/],
  ['another size', () => writeFile(other('same'), 'more content'), /has 12 bytes, not 7/],
  ['another mode', () => chmod(other('same'), 0o600), /another mode/],
  ['another time', () => utimes(other('same'), 5, 5), /another time/],
  ['a missing file', () => rm(other('deep', 'er', 'file')), /^deep\/er\/file is missing$/],
  ['a file too many', () => writeFile(other('deep', 'new'), ''), /^deep\/new was not there$/],
] as const)('finds %s', async (_name, change, line) => {
  await change();
  expect(await differences()).toContainEqual(expect.stringMatching(line));
});

it('finds a copy in place of a hard link, and a link that points elsewhere', async () => {
  await rm(other('same'));
  await writeFile(other('same'), 'content');
  await utimes(other('same'), 1e9, 1e9);
  await rm(other('link'));
  await symlink('elsewhere', other('link'));
  expect(await differences()).toEqual([
    'link points elsewhere',
    expect.stringMatching(/is a copy, not a hard link$/),
  ]);
});
