import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB, newId } from '@rookery/core';
import { quotaBytes, type ConformanceSuite } from './suite.js';

export function volumesConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { coded, put, get, make } = suite;

  describe('volumes', () => {
    it('creates one, again does no harm, and lists it', async () => {
      const id = newId();
      const first = await suite.driver.createVolume(id, { quotaBytes });
      await put(id, 'a', 'kept');
      expect(await suite.driver.createVolume(id, { quotaBytes })).toEqual(first);
      expect(await get(id, 'a')).toBe('kept');
      expect(await suite.driver.volume(id)).toEqual(first);
      expect((await suite.driver.listVolumes()).map((v) => v.projectId)).toContain(id);
      for (const path of Object.values(first.paths)) {
        expect((await stat(path as string)).isDirectory()).toBe(true);
      }
    });

    it('deletes one, again does no harm, and a new one of that id is empty', async () => {
      const id = await make();
      await put(id, 'a', 'x');
      const paths = (await suite.driver.volume(id))?.paths;
      await suite.driver.deleteVolume(id);
      await suite.driver.deleteVolume(id);
      expect(await suite.driver.volume(id)).toBeUndefined();
      for (const path of Object.values(paths ?? {})) {
        await expect(stat(path as string)).rejects.toThrow('ENOENT');
      }
      await suite.driver.createVolume(id, { quotaBytes });
      expect(await get(id, 'a')).toBeUndefined();
    });

    it('clones one; the two are apart, and repeating gives the clone again', async () => {
      const from = await make();
      const to = newId();
      await put(from, 'dir/a', 'original');
      await suite.driver.cloneVolume({ projectId: from }, to, { quotaBytes });
      await put(from, 'dir/a', 'changed');
      await put(to, 'b', 'mine');
      await suite.driver.cloneVolume({ projectId: from }, to, { quotaBytes });
      expect(await get(to, 'dir/a')).toBe('original');
      expect(await get(to, 'b')).toBe('mine');
      expect(await get(from, 'b')).toBeUndefined();
      await expect(
        suite.driver.cloneVolume({ projectId: newId() }, newId(), { quotaBytes }),
      ).rejects.toEqual(coded('VOLUME_NOT_FOUND'));
      const other = await make();
      await expect(
        suite.driver.cloneVolume({ projectId: other }, to, { quotaBytes }),
      ).rejects.toEqual(coded('VOLUME_EXISTS'));
    });

    it('puts one in the place of another, and repeating does no harm', async () => {
      const from = await make();
      const to = await make();
      await put(from, 'a', randomBytes(2 * MiB));
      await put(from, 'b', 'new');
      await put(to, 'c', 'old');
      await suite.driver.replaceVolume(from, to);
      await suite.driver.replaceVolume(from, to);
      expect(await suite.driver.volume(from)).toBeUndefined();
      expect(await get(to, 'b')).toBe('new');
      expect(await get(to, 'c')).toBeUndefined();
      await put(to, 'd', 'goes on');
      expect((await suite.driver.usage(to)).usedBytes).toBeGreaterThanOrEqual(2 * MiB);
      const nowhere = suite.driver.replaceVolume(newId(), newId());
      await expect(nowhere).rejects.toEqual(coded('VOLUME_NOT_FOUND'));
    });

    it('keeps the snapshots of what it replaces, and what was live as one more', async () => {
      if (!suite.driver.capabilities.snapshots) return;
      const { driver } = suite;
      const [from, to] = [await make(), await make()];
      await put(to, 'a', 'first');
      await driver.createSnapshot(to, 'open');
      await driver.createSnapshot(to, 'locked');
      await driver.setSnapshotLocked(to, 'locked', true);
      await put(to, 'a', 'was live');
      await put(from, 'a', 'restored');
      const { previous = '' } = await driver.replaceVolume(from, to);
      expect(await get(to, 'a')).toBe('restored');
      const kept = await driver.listSnapshots(to);
      expect(kept.map(({ name }) => name).sort()).toEqual([previous, 'locked', 'open'].sort());
      expect(kept.find(({ name }) => name === 'locked')?.locked).toBe(true);
      await driver.restoreSnapshot(to, previous);
      expect(await get(to, 'a')).toBe('was live');
      await driver.restoreSnapshot(to, 'locked');
      expect(await get(to, 'a')).toBe('first');

      const another = await make();
      await put(another, 'a', 'again');
      expect(await driver.replaceVolume(another, to, { discard: true })).toEqual({});
      expect(await get(to, 'a')).toBe('again');
      expect((await driver.listSnapshots(to)).map(({ name }) => name)).toEqual(['locked']);
      await driver.setQuota(to, quotaBytes);
      expect((await driver.usage(to)).limitBytes).toBe(quotaBytes);
    });

    it('refuses ids that are none', async () => {
      for (const id of ['../../etc', '', 'A', `${newId()}/..`]) {
        await expect(suite.driver.createVolume(id, { quotaBytes })).rejects.toEqual(
          coded('INVALID_INPUT'),
        );
      }
    });

    it('tells the room on the volume', async () => {
      const { totalBytes, freeBytes } = await suite.driver.space();
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes);
      expect(freeBytes).toBeGreaterThan(0);
    });
  });
}

export function temporarySnapshotsConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { coded, put, get, make } = suite;

  describe('pictures', () => {
    it('show the project and its persistence; twice gives the first again', async () => {
      const id = await make();
      await put(id, 'a', 'then');
      const paths = (await suite.driver.volume(id))?.paths;
      await writeFile(join(paths?.persistence ?? '', 'store'), 'log');
      const picture = await suite.driver.freeze(id, 'backup-1');
      await put(id, 'a', 'now');
      const again = await suite.driver.freeze(id, 'backup-1');
      expect(again.uuid).toBe(picture.uuid);
      const seen = await readFile(join(picture.root, 'home', 'a'), 'utf8');
      expect(seen).toBe(suite.driver.capabilities.snapshots ? 'then' : 'now');
      expect(picture.live ?? false).toBe(!suite.driver.capabilities.snapshots);
      expect(await readFile(join(picture.persistence, 'store'), 'utf8')).toBe('log');
      await picture.release();
      await picture.release();
      expect(await suite.driver.listTemporarySnapshots(id)).toEqual([]);
      expect(await get(id, 'a')).toBe('now');
      await expect(suite.driver.freeze(id, 'mine')).rejects.toEqual(coded('INVALID_INPUT'));
    });
  });
}

export function quotaConforms(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { coded, put, make } = suite;

  describe('quota', () => {
    it('is refused by a driver that has none, and usage names no limit', async () => {
      if (suite.driver.capabilities.quota !== 'none') return;
      const id = await make();
      await expect(suite.driver.setQuota(id, quotaBytes)).rejects.toEqual(
        coded('QUOTA_UNSUPPORTED'),
      );
      expect((await suite.driver.usage(id)).limitBytes).toBeUndefined();
    });

    it('counts what is written and refuses a limit below it', async () => {
      const id = await make();
      await put(id, 'big', randomBytes(8 * MiB));
      const usage = await suite.driver.usage(id);
      expect(usage.usedBytes).toBeGreaterThanOrEqual(8 * MiB);
      expect(usage.usedBytes).toBeLessThan(12 * MiB);
      if (suite.driver.capabilities.quota === 'none') return;
      expect(usage.limitBytes).toBe(quotaBytes);
      await expect(suite.driver.setQuota(id, 4 * MiB)).rejects.toEqual(coded('QUOTA_BELOW_USE'));
      expect((await suite.driver.usage(id)).limitBytes).toBe(quotaBytes);
      await suite.driver.setQuota(id, 4 * MiB, { allowBelowUse: true });
      expect((await suite.driver.usage(id)).limitBytes).toBe(4 * MiB);
      await suite.driver.setQuota(id, 2 * quotaBytes);
      expect((await suite.driver.usage(id)).limitBytes).toBe(2 * quotaBytes);
    });

    it('charges a clone to the clone alone', async () => {
      if (suite.driver.capabilities.quota === 'none') return;
      const from = await make();
      const to = newId();
      await put(from, 'big', randomBytes(8 * MiB));
      const before = (await suite.driver.usage(from)).usedBytes;
      await suite.driver.cloneVolume({ projectId: from }, to, { quotaBytes });
      expect((await suite.driver.usage(to)).usedBytes).toBeGreaterThanOrEqual(8 * MiB);
      expect(Math.abs((await suite.driver.usage(from)).usedBytes - before)).toBeLessThan(MiB);
    });

    it('stops writes at the limit, of this project alone', async () => {
      if (suite.driver.capabilities.quota === 'none' || suite.options.enforcesQuota === false)
        return;
      const id = await make();
      const other = await make();
      // Exact from here on, however much was counted before.
      await suite.driver.usage(id);
      const write = (target: string): Promise<void> =>
        put(target, 'big', randomBytes(quotaBytes + 8 * MiB));
      await expect(write(id)).rejects.toThrow(/EDQUOT|-122/);
      await put(other, 'fine', randomBytes(8 * MiB));
      expect((await suite.driver.usage(id)).usedBytes).toBeLessThanOrEqual(quotaBytes);
      // A full project can still be pictured, restored and deleted from.
      const picture = await suite.driver.freeze(id, 'move-full');
      await picture.release();
      await suite.driver.deleteVolume(id);
    });
  });
}
