import { closeSync, constants, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { fdPath, openBeneath, openPathFlags, renameExchange, tryFileLock } from '@rookery/core';

let root: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'beneath-'));
  await mkdir(join(root, 'a/b'), { recursive: true });
  await writeFile(join(root, 'a/b/file'), 'inside');
  await symlink('/etc', join(root, 'a/absolute'));
  await symlink('../../..', join(root, 'a/up'));
  await symlink('b', join(root, 'a/within'));
  await symlink('/proc/self/root', join(root, 'a/magic'));
});

afterAll(() => rmSync(root, { recursive: true, force: true }));

const flags = constants.O_RDONLY;

describe('openBeneath', () => {
  it('opens a file below a path or a descriptor, usable through /proc', () => {
    const folder = openBeneath(root, 'a/b', flags | constants.O_DIRECTORY);
    const file = openBeneath(folder, 'file', flags);
    expect(readFileSync(fdPath(file), 'utf8')).toBe('inside');
    closeSync(file);
    closeSync(folder);
  });

  it.each([
    '../etc/passwd',
    '/etc/passwd',
    'a/../../etc',
    'a/absolute/passwd',
    'a/up/etc',
    'a/magic/etc',
    'a/within/file',
    'a/b/fi\0le',
  ])('refuses %j', (path) => {
    expect(() => openBeneath(root, path, flags)).toThrow(
      expect.objectContaining({ code: 'PATH_OUTSIDE' }),
    );
  });

  it('follows links that stay beneath only when asked, and none that leave', () => {
    closeSync(openBeneath(root, 'a/within/file', flags, 0, { symlinks: 'beneath' }));
    expect(() => openBeneath(root, 'a/absolute/passwd', flags, 0, { symlinks: 'beneath' })).toThrow(
      expect.objectContaining({ code: 'PATH_OUTSIDE' }),
    );
  });

  it('names a link itself with openPathFlags', () => {
    expect(() => openBeneath(root, 'a/absolute', flags)).toThrow();
    closeSync(openBeneath(root, 'a', openPathFlags));
  });

  it('gives what is missing as node does', () => {
    expect(() => openBeneath(root, 'a/none', flags)).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
  });

  it('creates with the mode asked for', () => {
    const fd = openBeneath(root, 'a/new', constants.O_CREAT | constants.O_WRONLY, 0o600);
    closeSync(fd);
    expect(readFileSync(join(root, 'a/new'), 'utf8')).toBe('');
  });
});

describe('system calls', () => {
  it('swaps two files in one step', async () => {
    await writeFile(join(root, 'one'), '1');
    await writeFile(join(root, 'two'), '2');
    const folder = openBeneath(root, '.', flags | constants.O_DIRECTORY);
    renameExchange(folder, 'one', folder, 'two');
    closeSync(folder);
    expect(readFileSync(join(root, 'one'), 'utf8')).toBe('2');
  });

  it('lets one descriptor at a time hold a file lock', () => {
    const first = openBeneath(root, 'a', flags);
    const second = openBeneath(root, 'a', flags);
    expect(tryFileLock(first)).toBe(true);
    expect(tryFileLock(second)).toBe(false);
    closeSync(first);
    expect(tryFileLock(second)).toBe(true);
    closeSync(second);
  });
});
