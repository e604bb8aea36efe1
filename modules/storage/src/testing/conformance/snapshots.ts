import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId } from '@rookery/core';
import type { StorageDesired, StorageRepair } from '../../storage.driver.js';
import { nothing, quotaBytes, type ConformanceSuite } from './suite.js';

export function snapshotsConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { coded, put, get, make } = suite;

  describe('snapshots', () => {
    it('are refused by a driver that has none', async () => {
      if (suite.driver.capabilities.snapshots) return;
      const id = await make();
      const refused = coded('SNAPSHOTS_UNSUPPORTED');
      await expect(suite.driver.createSnapshot(id, 's')).rejects.toEqual(refused);
      await expect(suite.driver.setSnapshotLocked(id, 's', true)).rejects.toEqual(refused);
      await expect(suite.driver.deleteSnapshot(id, 's')).rejects.toEqual(refused);
      await expect(suite.driver.restoreSnapshot(id, 's')).rejects.toEqual(refused);
      await expect(suite.driver.restoreSnapshotPath(id, 's', 'a')).rejects.toEqual(refused);
      expect(await suite.driver.listSnapshots(id)).toEqual([]);
    });

    it('keep what was, in order, once a name', async () => {
      if (!suite.driver.capabilities.snapshots) return;
      const id = await make();
      await put(id, 'a', '1');
      const first = await suite.driver.createSnapshot(id, 'one');
      await put(id, 'a', '2');
      await suite.driver.createSnapshot(id, 'two');
      await expect(suite.driver.createSnapshot(id, 'one')).rejects.toEqual(
        coded('SNAPSHOT_EXISTS'),
      );
      const list = await suite.driver.listSnapshots(id);
      expect(list.map((s) => s.name)).toEqual(['one', 'two']);
      expect(list[0]).toEqual(first);
      expect(list[0]?.uuid).not.toBe(list[1]?.uuid);
      const paths = (await suite.driver.volume(id))?.paths;
      const kept = join(paths?.snapshots ?? '', 'one', 'home', 'a');
      expect(await readFile(kept, 'utf8')).toBe('1');
      await expect(suite.driver.createSnapshot(id, '../x')).rejects.toEqual(coded('INVALID_INPUT'));
    });

    it('are not deleted while locked, and deleting twice does no harm', async () => {
      if (!suite.driver.capabilities.snapshots) return;
      const id = await make();
      await suite.driver.createSnapshot(id, 's');
      expect((await suite.driver.setSnapshotLocked(id, 's', true)).locked).toBe(true);
      await expect(suite.driver.deleteSnapshot(id, 's')).rejects.toEqual(coded('SNAPSHOT_LOCKED'));
      expect((await suite.driver.listSnapshots(id))[0]?.locked).toBe(true);
      await suite.driver.setSnapshotLocked(id, 's', false);
      await suite.driver.deleteSnapshot(id, 's');
      await suite.driver.deleteSnapshot(id, 's');
      expect(await suite.driver.listSnapshots(id)).toEqual([]);
      await expect(suite.driver.setSnapshotLocked(id, 's', true)).rejects.toEqual(
        coded('SNAPSHOT_NOT_FOUND'),
      );
    });

    it('are capped', async () => {
      if (!suite.driver.capabilities.snapshots) return;
      const id = await make();
      for (let i = 0; i < suite.options.snapshotsMax; i += 1)
        await suite.driver.createSnapshot(id, `s${i}`);
      await expect(suite.driver.createSnapshot(id, 'more')).rejects.toEqual(
        coded('SNAPSHOT_LIMIT'),
      );
    });

    it('are restored whole; what was live is kept, and all snapshots stay', async () => {
      if (!suite.driver.capabilities.snapshots) return;
      const id = await make();
      await put(id, 'a', 'old');
      await suite.driver.createSnapshot(id, 'one');
      await suite.driver.createSnapshot(id, 'two');
      await suite.driver.setSnapshotLocked(id, 'two', true);
      await put(id, 'a', 'new');
      await put(id, 'b', 'extra');
      const { previous } = await suite.driver.restoreSnapshot(id, 'one');
      expect(previous).toMatch(/^before-restore-/);
      expect(await get(id, 'a')).toBe('old');
      expect(await get(id, 'b')).toBeUndefined();
      const list = await suite.driver.listSnapshots(id);
      expect(list.map((s) => s.name).sort()).toEqual([previous, 'one', 'two'].sort());
      expect(list.find((s) => s.name === 'two')?.locked).toBe(true);
      await suite.driver.restoreSnapshot(id, previous);
      expect(await get(id, 'a')).toBe('new');
      expect(await get(id, 'b')).toBe('extra');
      await expect(suite.driver.restoreSnapshot(id, 'none')).rejects.toEqual(
        coded('SNAPSHOT_NOT_FOUND'),
      );
    });

    it('keep a root filesystem that is begun anew, once however often that is repeated', async () => {
      const id = await make();
      await put(id, 'a', 'home');
      const { overlay = '', snapshots = '' } = (await suite.driver.volume(id))?.paths ?? {};
      const [changed, other] = ['image-1/upper/changed', 'image-2/upper/changed'];
      for (const file of [changed, other]) {
        await mkdir(join(overlay, file, '..'), { recursive: true });
        await writeFile(join(overlay, file), 'mine');
      }
      if (suite.driver.capabilities.snapshots) {
        const keepAs = 'before-reset-1';
        await suite.driver.resetLayer(id, 'image-1', { keepAs });
        await suite.driver.resetLayer(id, 'image-1', { keepAs });
        const kept = join(snapshots, keepAs, '.local/share/overlay', changed);
        expect(await readFile(kept, 'utf8')).toBe('mine');
      } else {
        await expect(suite.driver.resetLayer(id, 'image-1', { keepAs: 'kept' })).rejects.toEqual(
          coded('RESET_NEEDS_DISCARD'),
        );
        await suite.driver.resetLayer(id, 'image-1');
      }
      expect(await readdir(overlay)).toEqual(['image-2']);
      expect(await readFile(join(overlay, other), 'utf8')).toBe('mine');
      expect(await get(id, 'a')).toBe('home');
      await suite.driver.resetLayer(id, 'image-2');
      expect(await readdir(overlay)).toEqual([]);
      expect((await readdir(join(overlay, '../../..'))).filter((name) => name[1] === 'r')).toEqual(
        [],
      );
      for (const wrong of ['..', '.', 'a/b', '']) {
        await expect(suite.driver.resetLayer(id, wrong)).rejects.toEqual(coded('INVALID_INPUT'));
      }
      await expect(suite.driver.resetLayer(newId(), 'image-1')).rejects.toEqual(
        coded('VOLUME_NOT_FOUND'),
      );
    });

    it('give back one path', async () => {
      if (!suite.driver.capabilities.snapshots) return;
      const id = await make();
      await put(id, 'dir/a', 'old');
      await put(id, 'dir/deep/b', 'old');
      await suite.driver.createSnapshot(id, 's');
      await put(id, 'dir/a', 'new');
      await put(id, 'dir/c', 'new');
      await put(id, 'other', 'untouched');
      await suite.driver.restoreSnapshotPath(id, 's', 'dir/a');
      expect(await get(id, 'dir/a')).toBe('old');
      expect(await get(id, 'dir/c')).toBe('new');
      await suite.driver.restoreSnapshotPath(id, 's', 'dir');
      expect(await get(id, 'dir/c')).toBeUndefined();
      const home = (await suite.driver.volume(id))?.paths.home ?? '';
      await rm(join(home, 'dir'), { recursive: true });
      await suite.driver.restoreSnapshotPath(id, 's', 'dir/deep/b');
      expect(await get(id, 'dir/deep/b')).toBe('old');
      expect(await get(id, 'other')).toBe('untouched');
      await expect(suite.driver.restoreSnapshotPath(id, 's', 'none')).rejects.toEqual(
        coded('SNAPSHOT_PATH_NOT_FOUND'),
      );
      for (const path of ['../x', '/etc', '.', 'a/../../b']) {
        await expect(suite.driver.restoreSnapshotPath(id, 's', path)).rejects.toEqual(
          expect.objectContaining({ status: 400 }),
        );
      }
    });
  });
}

/** Where one path of a project is laid down before it takes its place. */
export function pathStagingsConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { coded, put, get, make } = suite;
  const desired = (id: string, names: string[]): StorageDesired => ({
    ...nothing,
    projects: [{ projectId: id, quotaBytes }],
    stagedPaths: names.map((name) => ({ projectId: id, name })),
  });

  describe('path stagings', () => {
    it('put what is in them in the place of a path, and missing parents around it', async () => {
      const id = await make();
      await put(id, 'a/b', 'old');
      await using staging = await suite.driver.stagePath(id, 'one');
      await mkdir(join(staging.folder, 'home', 'a'), { recursive: true });
      await writeFile(join(staging.folder, 'home', 'a', 'b'), 'new');
      await staging.place('home/a/b', 'a/b');
      expect(await get(id, 'a/b')).toBe('new');
      await writeFile(join(staging.folder, 'home', 'a', 'c'), 'beside');
      await staging.place('home/a/c', 'x/y/c');
      expect(await get(id, 'x/y/c')).toBe('beside');
      await expect(staging.place('home/a', '../out')).rejects.toEqual(
        expect.objectContaining({ status: 400 }),
      );
      await expect(suite.driver.stagePath(newId(), 'one')).rejects.toEqual(
        coded('VOLUME_NOT_FOUND'),
      );
    });

    it('stay while they are used or named, and are dropped after that', async () => {
      const id = await make();
      const used = await suite.driver.stagePath(id, 'used');
      await writeFile(join(used.folder, 'a'), 'comes slowly');
      const mine = (repairs: StorageRepair[]): StorageRepair[] =>
        repairs.filter(({ kind }) => kind === 'staged-path-dropped');
      // A process that died left these two.
      const root = (await suite.driver.volume(id))?.paths.root ?? '';
      for (const name of ['named', 'left']) await mkdir(join(root, `.restore-${name}`));
      expect(mine(await suite.driver.reconcile(desired(id, ['named'])))).toEqual([
        { kind: 'staged-path-dropped', subject: `${id}/left` },
      ]);
      expect(await readdir(used.folder)).toEqual(['a']);
      await used.release();
      await used.release();
      expect(await readdir(root)).toContain('.restore-named');
      expect(mine(await suite.driver.reconcile(desired(id, [])))).toHaveLength(1);
      expect((await readdir(root)).filter((name) => name.startsWith('.restore-'))).toEqual([]);
    });
  });
}
