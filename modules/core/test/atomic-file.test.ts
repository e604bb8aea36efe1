import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { writeFileAtomic } from '../src/index.js';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-atomic-'));
  path = join(folder, 'state.json');
});
afterEach(() => rm(folder, { recursive: true }));

describe('a file that is written whole or not at all', () => {
  it('has the permissions that were asked for, whatever was there before', async () => {
    await writeFile(path, 'old');
    await chmod(path, 0o666);
    await writeFileAtomic(path, 'new');
    expect((await lstat(path)).mode & 0o777).toBe(0o600);
    await writeFileAtomic(path, 'newer', { mode: 0o755 });
    expect((await lstat(path)).mode & 0o777).toBe(0o755);
    expect(await readdir(folder)).toEqual(['state.json']);
  });

  it('holds what one of many writers at once has written', async () => {
    const texts = Array.from({ length: 20 }, (_, n) => String(n).repeat(10_000));
    await Promise.all(texts.map((text) => writeFileAtomic(path, text)));
    expect(texts).toContain(await readFile(path, 'utf8'));
    expect(await readdir(folder)).toEqual(['state.json']);
  });

  it('follows no link that somebody laid in its way', async () => {
    const secret = join(folder, 'secret');
    await writeFile(secret, 'kept');
    await symlink(secret, `${path}.${process.pid}.new`);
    await writeFileAtomic(path, 'new');
    expect(await readFile(secret, 'utf8')).toBe('kept');
    expect(await readFile(path, 'utf8')).toBe('new');
  });

  it('leaves nothing behind when it cannot be put in its place', async () => {
    await mkdir(path);
    await expect(writeFileAtomic(path, 'new')).rejects.toMatchObject({ code: 'EISDIR' });
    expect(await readdir(folder)).toEqual(['state.json']);
  });
});
