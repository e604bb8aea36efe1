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

    const make = async (content: string, name = digest()): Promise<string> => {
      await using staged = await suite.driver.stageImage();
      await writeFile(join(staged.path, 'file'), content);
      await staged.commit(name);
      return name;
    };

    it('have one digest of their content, whoever unpacked them', async () => {
      const { driver } = suite;
      const [one, same, other] = [await make('a'), await make('a'), await make('b')];
      const tree = await driver.imageTree(one);
      expect(tree).toMatch(/^tree1:[0-9a-f]{64}$/);
      expect(await driver.imageTree(one)).toBe(tree);
      expect(await driver.imageTree(same)).toBe(tree);
      expect(await driver.imageTree(other)).not.toBe(tree);
      // What comes later under the name is looked at anew.
      await driver.deleteImage(one);
      expect(await driver.imageTree(one)).toBeUndefined();
      await make('b', one);
      expect(await driver.imageTree(one)).toBe(await driver.imageTree(other));
    });

    /** An image that has arrived by a move, and is on this host no more. */
    const landed = async (content: string) => {
      const { driver } = suite;
      const name = await make(content);
      const [moveId, item] = [newId(), 'image.root'];
      await driver.prepareLanding(moveId, newId());
      const whole = await buffer(driver.send({ kind: 'image', digest: name }));
      const treeDigest = (await driver.imageTree(name)) ?? '';
      await driver.deleteImage(name);
      await driver.receive(Readable.from([whole]), { moveId, item });
      return { moveId, item, digest: name, treeDigest };
    };

    it('travel as streams', async () => {
      const { driver } = suite;
      if (!driver.capabilities.sendReceive) return;
      const image = await landed('image');
      await driver.adoptImage(image);
      await driver.adoptImage(image);
      await driver.dropLanding(image.moveId);
      const path = await driver.imagePath(image.digest);
      expect(await readFile(join(path ?? '', 'file'), 'utf8')).toBe('image');
      expect(await driver.imageTree(image.digest)).toBe(image.treeDigest);
    });

    it('that arrive as something else are refused, and leave nothing', async () => {
      const { driver } = suite;
      if (!driver.capabilities.sendReceive) return;
      const tampered = await landed('tampered');
      const treeDigest = await driver.imageTree(await make('honest'));
      const adopted = driver.adoptImage({ ...tampered, treeDigest: treeDigest ?? '' });
      await expect(adopted).rejects.toEqual(suite.coded('IMAGE_DIFFERS'));
      expect(await driver.imagePath(tampered.digest)).toBeUndefined();
      expect(await driver.imageTree(tampered.digest)).toBeUndefined();
      expect(await driver.listLanding(tampered.moveId)).toEqual([]);
      await driver.dropLanding(tampered.moveId);
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
      expect((await suite.driver.listTemporarySnapshots(id)).map((f) => f.name)).toEqual([
        'backup-needed',
      ]);
      await suite.driver.prepareLanding(needed, newId());
      await suite.driver.reconcile(await desired());
      expect(await suite.driver.listTemporarySnapshots(id)).toEqual([]);
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
