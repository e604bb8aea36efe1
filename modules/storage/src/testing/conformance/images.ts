import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { newId } from '@rookery/core';
import type { StorageDesired } from '../../storage.driver.js';
import { nothing, quotaBytes, type ConformanceSuite } from './suite.js';

export function imagesConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const {} = suite;

  describe('images', () => {
    const digest = (): string => `sha256:${randomBytes(32).toString('hex')}`;

    it('appear whole under their digest, once', async () => {
      const name = digest();
      expect(await suite.driver.imagePath(name)).toBeUndefined();
      await using staged = await suite.driver.stageImage();
      await writeFile(join(staged.path, 'file'), 'first');
      await staged.commit(name);
      await using second = await suite.driver.stageImage();
      await writeFile(join(second.path, 'file'), 'second');
      await second.commit(name);
      const path = await suite.driver.imagePath(name);
      expect(await readFile(join(path ?? '', 'file'), 'utf8')).toBe('first');
      expect(await suite.driver.listImages()).toContain(name);
      await suite.driver.deleteImage(name);
      await suite.driver.deleteImage(name);
      expect(await suite.driver.imagePath(name)).toBeUndefined();
      expect(await suite.driver.listImages()).not.toContain(name);
    });

    it('that are aborted leave nothing', async () => {
      const staged = await suite.driver.stageImage();
      await writeFile(join(staged.path, 'file'), 'x');
      await staged.abort();
      await staged.abort();
      await expect(stat(staged.path)).rejects.toThrow('ENOENT');
    });

    it('travel as streams', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const name = digest();
      await using staged = await suite.driver.stageImage();
      await writeFile(join(staged.path, 'file'), 'image');
      await staged.commit(name);
      const moveId = newId();
      await suite.driver.prepareLanding(moveId, newId());
      const whole = await buffer(suite.driver.send({ kind: 'image', digest: name }));
      await suite.driver.deleteImage(name);
      await suite.driver.receive(Readable.from([whole]), { moveId, item: 'image.root' });
      await suite.driver.adoptImage(moveId, 'image.root', name);
      await suite.driver.adoptImage(moveId, 'image.root', name);
      await suite.driver.dropLanding(moveId);
      const path = await suite.driver.imagePath(name);
      expect(await readFile(join(path ?? '', 'file'), 'utf8')).toBe('image');
    });
  });
}

export function reconcileConforms(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { make } = suite;

  describe('reconcile', () => {
    const desired = async (): Promise<StorageDesired> => ({
      ...nothing,
      projects: (await suite.driver.listVolumes()).map(({ projectId }) => ({
        projectId,
        quotaBytes,
      })),
    });

    it('reports unknown volumes, deletes retired ones, keeps the rest', async () => {
      const kept = await make();
      const unknown = await make();
      const retired = await make();
      const all = await desired();
      const projects = all.projects.filter(
        ({ projectId }) => projectId !== unknown && projectId !== retired,
      );
      const repairs = await suite.driver.reconcile({ ...nothing, projects, retired: [retired] });
      expect(repairs).toContainEqual({ kind: 'unknown-volume-found', subject: unknown });
      expect(repairs).toContainEqual({ kind: 'retired-volume-deleted', subject: retired });
      expect(await suite.driver.volume(kept)).toBeDefined();
      expect(await suite.driver.volume(unknown)).toBeDefined();
      expect(await suite.driver.volume(retired)).toBeUndefined();
    });

    it('drops pictures and landing areas that no one needs', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const id = await make();
      await suite.driver.freeze(id, 'backup-needed');
      await suite.driver.freeze(id, 'backup-orphan');
      const needed = newId();
      const orphan = newId();
      await suite.driver.prepareLanding(needed, newId());
      await suite.driver.prepareLanding(orphan, newId());
      const repairs = await suite.driver.reconcile({
        ...(await desired()),
        moves: [needed],
        frozen: [{ projectId: id, name: 'backup-needed' }],
      });
      expect(repairs).toContainEqual({ kind: 'frozen-dropped', subject: `${id}/backup-orphan` });
      expect(repairs).toContainEqual({ kind: 'landing-dropped', subject: orphan });
      expect((await suite.driver.listFrozen(id)).map((f) => f.name)).toEqual(['backup-needed']);
      await suite.driver.prepareLanding(needed, newId());
      await suite.driver.reconcile(await desired());
      expect(await suite.driver.listFrozen(id)).toEqual([]);
    });

    it('sets the quota that it should be', async () => {
      if (suite.driver.capabilities.quota === 'none') return;
      const id = await make();
      await suite.driver.setQuota(id, 3 * quotaBytes);
      const repairs = await suite.driver.reconcile(await desired());
      expect(repairs).toContainEqual({ kind: 'quota-set', subject: id });
      expect((await suite.driver.usage(id)).limitBytes).toBe(quotaBytes);
    });

    it('finds nothing to do the second time', async () => {
      const all = await desired();
      await suite.driver.reconcile(all);
      const again = await suite.driver.reconcile(all);
      // The cleaner may still be at work on qgroups; nothing else may change.
      expect(again.filter((repair) => repair.kind !== 'qgroup-dropped')).toEqual([]);
    });
  });
}
