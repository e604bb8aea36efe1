import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB, newId } from '@rookery/core';
import { nothing, quotaBytes, type ConformanceSuite } from './suite.js';

/**
 * A whole restore of a backup, as whoever restores asks for it of the driver: a volume with room to
 * spare is filled, put on disk, put in the place of what is there, and limited last. Every step
 * may come twice, since a process may die behind any of them.
 */
export function wholeRestoresConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { put, get, make } = suite;

  /** A volume as a backup program leaves it: files, an overlay, the project's stores. */
  async function fill(id: string): Promise<void> {
    const { driver } = suite;
    const { freeBytes } = await driver.space();
    const room = { quotaBytes: Math.min(4 * quotaBytes, freeBytes) };
    const { paths } = await driver.createVolume(id, room);
    await put(id, 'folder/file', 'restored');
    await mkdir(join(paths.overlay, 'image', 'upper'), { recursive: true });
    await writeFile(join(paths.overlay, 'image', 'upper', 'changed'), 'restored');
    await writeFile(join(paths.persistence, 'store'), 'restored');
  }

  /** What a restore that is complete asks for; what the driver cannot is not asked of it. */
  async function finish(id: string, staged: string, discard = false): Promise<string | undefined> {
    const { driver } = suite;
    await driver.flush();
    const kept = staged === id ? {} : await driver.replaceVolume(staged, id, { discard });
    if (driver.capabilities.quota !== 'none') {
      await driver.setQuota(id, quotaBytes, { allowBelowUse: true });
    }
    return kept.previous;
  }

  async function expectRestored(id: string): Promise<void> {
    const { driver } = suite;
    const paths = (await driver.volume(id))?.paths;
    expect(await get(id, 'folder/file')).toBe('restored');
    expect(await get(id, 'before')).toBeUndefined();
    const changed = join(paths?.overlay ?? '', 'image', 'upper', 'changed');
    expect(await readFile(changed, 'utf8')).toBe('restored');
    expect(await readFile(join(paths?.persistence ?? '', 'store'), 'utf8')).toBe('restored');
    const { limitBytes } = await driver.usage(id);
    expect(limitBytes).toBe(driver.capabilities.quota === 'none' ? undefined : quotaBytes);
    // It goes on: what the project writes counts, and is kept.
    await put(id, 'after', Buffer.alloc(MiB, 1));
    expect((await driver.usage(id)).usedBytes).toBeGreaterThanOrEqual(MiB);
  }

  describe('whole restores', () => {
    it('fill a volume that was not there', async () => {
      const id = newId();
      await fill(id);
      await finish(id, id);
      await finish(id, id);
      await expectRestored(id);
    });

    for (const discard of [false, true]) {
      const what = discard ? 'dropping' : 'keeping what can be kept of';
      it(`take the place of a volume, ${what} what was there`, async () => {
        const { driver } = suite;
        const id = await make();
        await put(id, 'before', 'was live');
        const { persistence } = (await driver.volume(id))?.paths ?? { persistence: '' };
        await writeFile(join(persistence, 'older'), 'was live');
        const staged = newId();
        await fill(staged);
        expect(await get(id, 'before')).toBe('was live');
        const previous = await finish(id, staged, discard);
        await finish(id, staged, discard);
        expect(await driver.volume(staged)).toBeUndefined();
        await expect(readFile(join(persistence, 'older'))).rejects.toThrow('ENOENT');
        await expectRestored(id);
        const keeps = driver.capabilities.snapshots && !discard;
        expect(previous !== undefined).toBe(keeps);
        if (previous === undefined) return;
        await driver.restoreSnapshot(id, previous);
        expect(await get(id, 'before')).toBe('was live');
      });
    }

    it('leave nothing behind when they are given up', async () => {
      const { driver } = suite;
      const id = await make();
      await put(id, 'before', 'was live');
      const staged = newId();
      await fill(staged);
      await driver.deleteVolume(staged);
      await driver.deleteVolume(staged);
      expect(await get(id, 'before')).toBe('was live');
      const projects = (await driver.listVolumes()).map(({ projectId }) => projectId);
      expect(projects).not.toContain(staged);
      const wanted = projects.map((projectId) => ({ projectId, quotaBytes }));
      const repairs = await driver.reconcile({ ...nothing, projects: wanted });
      expect(repairs.filter(({ subject }) => subject.includes(staged))).toEqual([]);
    });
  });
}
