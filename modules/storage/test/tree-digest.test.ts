import {
  chmod,
  chown,
  lchown,
  link,
  lstat,
  mkdir,
  mkdtemp,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { SystemExec } from '@rookery/core';
import { writeXattr } from '@rookery/core/testing';
import { digestInThread } from '../src/image-tree/digest-in-thread.js';
import { treeDigest, treeLimits } from '../src/image-tree/tree-digest.js';

const exec = new SystemExec();
let folder: string;
let made = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-trees-'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** A small root filesystem with one of everything. */
async function tree(): Promise<string> {
  made += 1;
  const root = join(folder, `${made}`);
  await mkdir(join(root, 'etc'), { recursive: true });
  await writeFile(join(root, 'etc', 'passwd'), 'root');
  await writeFile(join(root, 'etc', 'shadow'), 'root', { mode: 0o600 });
  await writeFile(join(root, 'zeros'), '');
  await truncate(join(root, 'zeros'), 4096);
  await symlink('etc/passwd', join(root, 'link'));
  await link(join(root, 'etc', 'passwd'), join(root, 'name'));
  await exec.run(['mknod', join(root, 'null'), 'c', '1', '3']);
  await exec.run(['mkfifo', join(root, 'pipe')]);
  writeXattr(join(root, 'etc', 'shadow'), 'user.note', 'one');
  return root;
}

/** What one may change in an image, and nothing else of it. */
const changes: Record<string, (root: string) => Promise<unknown> | void> = {
  'a name': (root) => rename(join(root, 'zeros'), join(root, 'zeroes')),
  'another folder': (root) => rename(join(root, 'zeros'), join(root, 'etc', 'zeros')),
  'an entry more': (root) => writeFile(join(root, 'more'), ''),
  'an entry less': (root) => rm(join(root, 'pipe')),
  'an empty folder': (root) => mkdir(join(root, 'etc', 'empty')),
  content: (root) => writeFile(join(root, 'etc', 'shadow'), 'toor'),
  'a size, by a hole': (root) => truncate(join(root, 'zeros'), 4097),
  'a mode': (root) => chmod(join(root, 'etc', 'shadow'), 0o644),
  setuid: (root) => chmod(join(root, 'etc', 'shadow'), 0o4600),
  'the mode of the root': (root) => chmod(root, 0o777),
  'a user': (root) => chown(join(root, 'etc', 'shadow'), 1, 0),
  'a group': (root) => chown(join(root, 'etc'), 0, 1),
  'the user of a link': (root) => lchown(join(root, 'link'), 1, 0),
  'where a link leads': async (root) => {
    await rm(join(root, 'link'));
    await symlink('etc/shadow', join(root, 'link'));
  },
  'a device’s number': async (root) => {
    await rm(join(root, 'null'));
    await exec.run(['mknod', join(root, 'null'), 'c', '1', '5']);
  },
  'a block for a character device': async (root) => {
    await rm(join(root, 'null'));
    await exec.run(['mknod', join(root, 'null'), 'b', '1', '3']);
  },
  'a kind': async (root) => {
    await rm(join(root, 'pipe'));
    await writeFile(join(root, 'pipe'), '', { mode: 0o644 });
  },
  'an attribute’s value': (root) => writeXattr(join(root, 'etc', 'shadow'), 'user.note', 'two'),
  'an attribute more': (root) => writeXattr(join(root, 'etc', 'shadow'), 'user.note2', ''),
  'an attribute of a folder': (root) => writeXattr(join(root, 'etc'), 'user.note', 'one'),
  'a file of its own for one of two names': async (root) => {
    await rm(join(root, 'name'));
    await writeFile(join(root, 'name'), 'root');
  },
  'which file a second name is of': async (root) => {
    await rm(join(root, 'name'));
    await link(join(root, 'etc', 'shadow'), join(root, 'name'));
  },
};

describe('the digest of a tree', () => {
  it('is one for equal trees, whenever and wherever they were made', async () => {
    const one = await tree();
    const digest = treeDigest(one);
    const same = await tree();
    await utimes(join(same, 'etc', 'passwd'), 1e9, 1e9);
    expect(treeDigest(same)).toBe(digest);
    expect(await digestInThread(one)).toBe(digest);
  });

  for (const [what, change] of Object.entries(changes)) {
    it(`shows ${what}`, async () => {
      const root = await tree();
      const before = treeDigest(root);
      await change(root);
      expect(treeDigest(root)).not.toBe(before);
    });
  }

  it('tells names apart that are no text', async () => {
    const digests = new Set<string>();
    for (const byte of [0xfe, 0xff]) {
      const root = join(folder, `bytes-${byte}`);
      await mkdir(root);
      await writeFile(Buffer.concat([Buffer.from(`${root}/`), Buffer.of(byte)]), '');
      digests.add(treeDigest(root));
    }
    expect(digests.size).toBe(2);
  });

  it('refuses what was made to keep its reader busy', async () => {
    const root = await tree();
    await truncate(join(root, 'zeros'), 2 ** 43);
    expect(() => treeDigest(root)).toThrow('it holds more than');
    await expect(digestInThread(root)).rejects.toThrow('it holds more than');
    await rm(join(root, 'zeros'));
    expect(() => treeDigest(root, { ...treeLimits, entriesMax: 3 })).toThrow('entries');
    expect(() => treeDigest(root, { ...treeLimits, depthMax: 0 })).toThrow('deep');
  });

  it('ends with its signal, and leaves no file open', async () => {
    const root = await tree();
    await truncate(join(root, 'zeros'), 2 ** 35);
    const stop = new AbortController();
    const reading = digestInThread(root, stop.signal);
    stop.abort();
    await expect(reading).rejects.toMatchObject({ code: 'CANCELED' });
    expect((await lstat(root)).isDirectory()).toBe(true);
  });
});
