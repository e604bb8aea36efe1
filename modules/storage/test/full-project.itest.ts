import {
  chown,
  mkdir,
  open,
  readdir,
  readFile,
  stat,
  writeFile,
  type FileHandle,
} from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MiB, newId, parseConfig, SystemExec } from '@rookery/core';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import type { VolumePaths } from '@rookery/storage/contract';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const quotaBytes = 64 * MiB;
const exec = new SystemExec();
const full = /EDQUOT|-122|unknown error/i;

let disk: TestVolume;
let driver: BtrfsStorageDriver;

beforeAll(async () => {
  disk = await loopbackVolume();
  const { volume, btrfsProgram } = disk;
  const options = { volume, btrfsProgram, driver: 'btrfs' as const, reconcileGraceMs: 0 };
  driver = new BtrfsStorageDriver(exec, parseConfig(StorageOptions, options));
  await driver.open();
});
afterAll(() => disk?.destroy());

async function pathsOf(id: string): Promise<VolumePaths> {
  const volume = await driver.volume(id);
  if (!volume) throw new Error(`no volume of ${id}`);
  return volume.paths;
}

/** Writes until nothing more goes in, in ever smaller pieces, and makes files until none can be. */
async function fill(home: string): Promise<void> {
  for (const bytes of [4 * MiB, 64 * 1024, 4096]) {
    const file = await open(join(home, `fill-${bytes}`), 'a').catch(() => undefined);
    if (!file) continue;
    await writeUntilFull(file, bytes);
    await file.close();
  }
  await exec.run(['sync', '--file-system', home]);
  for (let n = 0; ; n += 1) {
    const made = await writeFile(join(home, `empty-${n}`), '').then(
      () => true,
      () => false,
    );
    if (!made) return;
  }
}

async function writeUntilFull(file: FileHandle, bytes: number): Promise<void> {
  for (;;) {
    try {
      await file.write(randomBytes(bytes));
    } catch {
      return;
    }
  }
}

/** A project with two snapshots, filled to its last block. */
async function fullProject(): Promise<string> {
  const id = newId();
  const { paths } = await driver.createVolume(id, { quotaBytes });
  await writeFile(join(paths.home, 'first'), 'first');
  await driver.createSnapshot(id, 'first');
  await writeFile(join(paths.home, 'big'), randomBytes(8 * MiB));
  await driver.createSnapshot(id, 'second');
  await fill(paths.home);
  await expect(mkdir(join(paths.overlay, 'one-more'))).rejects.toThrow(full);
  return id;
}

/** What a start does: the volume with its parts, folders in it, an overlay that can be written. */
async function starts(id: string): Promise<void> {
  const { paths } = await driver.createVolume(id, { quotaBytes });
  const layer = join(paths.overlay, `image-${newId()}`);
  const root = join(disk.volume, '..', `root-${id}`);
  await mkdir(root, { recursive: true });
  await driver.withRoom(id, async (room) => {
    expect(room.scarce).toBe(true);
    for (const name of ['', 'upper', 'work']) await mkdir(join(layer, name));
    await chown(join(layer, 'upper'), 100_000, 100_000);
    const options = `lowerdir=${root},upperdir=${layer}/upper,workdir=${layer}/work`;
    const mounted = ['mount', '-t', 'overlay', '-o', options, 'none', root];
    const { stdout } = await exec.run([
      'unshare',
      '--mount',
      '--propagation',
      'private',
      'sh',
      '-ec',
      '"$@"; findmnt -no FS-OPTIONS --mountpoint "$0" || findmnt -no OPTIONS --mountpoint "$0"',
      root,
      ...mounted,
    ]);
    // Where it cannot make its work folder, an overlay is mounted read-only without a word.
    expect(stdout.trim().split(/[\s,]/)).not.toContain('ro');
    await room.end();
    expect((await driver.usage(id)).limitBytes).toBe(quotaBytes);
  });
  expect((await driver.usage(id)).limitBytes).toBe(quotaBytes);
}

describe('a project filled to its last block', () => {
  it('starts, also without scratch, and gets no room for itself by that', async () => {
    const id = await fullProject();
    await starts(id);
    await starts(id);
    const { scratch, home } = await pathsOf(id);
    await exec.run([disk.btrfsProgram, 'subvolume', 'delete', scratch]);
    await starts(id);
    expect((await stat(scratch)).uid).toBe(100_000);
    await chown(scratch, 0, 0).catch(() => undefined);
    await starts(id);
    expect((await stat(scratch)).uid).toBe(100_000);
    await fill(home);
    await starts(id);
    expect((await driver.usage(id)).usedBytes).toBeLessThan(quotaBytes + 2 * MiB);
  });

  it('begins its root filesystem anew, keeping what was there or not, and starts', async () => {
    const id = await fullProject();
    for (const options of [{ keepAs: 'kept' }, {}]) {
      await starts(id);
      const { overlay } = await pathsOf(id);
      const [layer = ''] = await readdir(overlay);
      await driver.resetLayer(id, layer, options);
      expect(await readdir(overlay)).not.toContain(layer);
    }
    await starts(id);
    expect((await driver.usage(id)).limitBytes).toBe(quotaBytes);
  });

  it('goes back to a snapshot whole, starts, and loses snapshots', async () => {
    const id = await fullProject();
    const { previous } = await driver.restoreSnapshot(id, 'first');
    await starts(id);
    expect(await readFile(join((await pathsOf(id)).home, 'first'), 'utf8')).toBe('first');
    await driver.restoreSnapshot(id, previous);
    await starts(id);
    for (const { name } of await driver.listSnapshots(id)) await driver.deleteSnapshot(id, name);
    expect(await driver.listSnapshots(id)).toEqual([]);
  });

  it('is told when one path has no room, and nothing is left of that', async () => {
    const id = await fullProject();
    const restore = driver.restoreSnapshotPath(id, 'second', 'big');
    await expect(restore).rejects.toMatchObject({ code: 'QUOTA_EXCEEDED' });
    await starts(id);
  });

  it('is given more room and less, and snapshots are made or refused with a word', async () => {
    const id = await fullProject();
    await driver.createSnapshot(id, 'third').catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'QUOTA_EXCEEDED' });
    });
    await driver.setQuota(id, 2 * quotaBytes);
    await writeFile(join((await pathsOf(id)).home, 'more'), randomBytes(MiB));
    const below = driver.setQuota(id, quotaBytes / 2);
    await expect(below).rejects.toMatchObject({ code: 'QUOTA_BELOW_USE' });
  });

  it('is moved, and starts where it came', async () => {
    const id = await fullProject();
    const to = newId();
    const move = newId();
    const picture = await driver.freeze(id, `move-${move}`);
    await driver.prepareLanding(move, to);
    const source = { projectId: id, name: `move-${move}` };
    for (const kind of ['frozen', 'persistence'] as const) {
      const stream = driver.send({ kind, ...source });
      await driver.receive(stream, { moveId: move, item: `${kind}.last` });
    }
    await picture.release();
    await driver.deleteVolume(id);
    await driver.activateLanding(move, to, {
      snapshots: [],
      live: 'frozen.last',
      persistence: 'persistence.last',
      // Less than it has: it arrives above its limit.
      quotaBytes: quotaBytes / 2,
    });
    await driver.dropLanding(move);
    await driver.createVolume(to, { quotaBytes });
    await driver.withRoom(to, async () => {
      await mkdir(join((await pathsOf(to)).overlay, 'image'));
    });
    await driver.deleteVolume(to);
    expect(await driver.volume(to)).toBeUndefined();
  });

  it('gives way to a restored backup, and is deleted', async () => {
    const [id, standIn] = [await fullProject(), newId()];
    const { paths } = await driver.createVolume(standIn, { quotaBytes: 2 * quotaBytes });
    await writeFile(join(paths.home, 'restored'), 'yes');
    await driver.replaceVolume(standIn, id, { discard: true });
    await driver.setQuota(id, quotaBytes, { allowBelowUse: true });
    await fill((await pathsOf(id)).home);
    await starts(id);
    await driver.deleteVolume(id);
    expect(await driver.volume(id)).toBeUndefined();
  });
});
