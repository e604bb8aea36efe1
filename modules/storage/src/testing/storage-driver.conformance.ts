import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { MiB, newId } from '@rookery/core';
import type { StorageDesired, StorageDriver } from '../storage.driver.js';

/** What of jest the suite needs; handed in, since `@jest/globals` only loads inside jest. */
export type JestKit = Pick<
  typeof import('@jest/globals'),
  'describe' | 'it' | 'expect' | 'beforeAll' | 'afterAll'
>;

export interface ConformanceOptions {
  /** A fresh driver on an empty volume, not opened; `reconcileGraceMs` 0. */
  readonly make: () => Promise<{ driver: StorageDriver; dispose: () => Promise<void> }>;
  /** False: writes beyond the quota are counted but not stopped. */
  readonly enforcesQuota?: boolean;
  /** The driver's limit of snapshots a project. */
  readonly snapshotsMax: number;
}

const quotaBytes = 64 * MiB;
const nothing: StorageDesired = { projects: [], moves: [], frozen: [], retired: [] };

/** What every storage driver must do; parts that it says it cannot must fail with their code. */
export function storageDriverConformance(
  name: string,
  jest: JestKit,
  options: ConformanceOptions,
): void {
  const { describe, it, expect, beforeAll, afterAll } = jest;
  const coded = (code: string): unknown => expect.objectContaining({ code });

  describe(`${name} as a StorageDriver`, () => {
    let driver: StorageDriver;
    let dispose: () => Promise<void> = () => Promise.resolve();

    beforeAll(async () => {
      ({ driver, dispose } = await options.make());
      await driver.open();
    });
    afterAll(async () => {
      await driver?.close();
      await dispose();
    });

    const put = async (id: string, file: string, content: string | Buffer): Promise<void> => {
      const volume = await driver.volume(id);
      if (!volume) throw new Error(`no volume ${id}`);
      await mkdir(join(volume.paths.home, file, '..'), { recursive: true });
      await writeFile(join(volume.paths.home, file), content);
    };
    const get = async (id: string, file: string): Promise<string | undefined> => {
      const volume = await driver.volume(id);
      return volume && readFile(join(volume.paths.home, file), 'utf8').catch(() => undefined);
    };
    const make = async (): Promise<string> => {
      const id = newId();
      await driver.createVolume(id, { quotaBytes });
      return id;
    };

    describe('volumes', () => {
      it('creates one, again does no harm, and lists it', async () => {
        const id = newId();
        const first = await driver.createVolume(id, { quotaBytes });
        await put(id, 'a', 'kept');
        expect(await driver.createVolume(id, { quotaBytes })).toEqual(first);
        expect(await get(id, 'a')).toBe('kept');
        expect(await driver.volume(id)).toEqual(first);
        expect((await driver.listVolumes()).map((v) => v.projectId)).toContain(id);
        for (const path of Object.values(first.paths)) {
          expect((await stat(path as string)).isDirectory()).toBe(true);
        }
      });

      it('deletes one, again does no harm, and a new one of that id is empty', async () => {
        const id = await make();
        await put(id, 'a', 'x');
        const paths = (await driver.volume(id))?.paths;
        await driver.deleteVolume(id);
        await driver.deleteVolume(id);
        expect(await driver.volume(id)).toBeUndefined();
        for (const path of Object.values(paths ?? {})) {
          await expect(stat(path as string)).rejects.toThrow('ENOENT');
        }
        await driver.createVolume(id, { quotaBytes });
        expect(await get(id, 'a')).toBeUndefined();
      });

      it('clones one; the two are apart, and repeating gives the clone again', async () => {
        const from = await make();
        const to = newId();
        await put(from, 'dir/a', 'original');
        await driver.cloneVolume({ projectId: from }, to, { quotaBytes });
        await put(from, 'dir/a', 'changed');
        await put(to, 'b', 'mine');
        await driver.cloneVolume({ projectId: from }, to, { quotaBytes });
        expect(await get(to, 'dir/a')).toBe('original');
        expect(await get(to, 'b')).toBe('mine');
        expect(await get(from, 'b')).toBeUndefined();
        await expect(
          driver.cloneVolume({ projectId: newId() }, newId(), { quotaBytes }),
        ).rejects.toEqual(coded('VOLUME_NOT_FOUND'));
        const other = await make();
        await expect(driver.cloneVolume({ projectId: other }, to, { quotaBytes })).rejects.toEqual(
          coded('VOLUME_EXISTS'),
        );
      });

      it('puts one in the place of another, and repeating does no harm', async () => {
        const from = await make();
        const to = await make();
        await put(from, 'a', randomBytes(2 * MiB));
        await put(from, 'b', 'new');
        await put(to, 'c', 'old');
        await driver.replaceVolume(from, to);
        await driver.replaceVolume(from, to);
        expect(await driver.volume(from)).toBeUndefined();
        expect(await get(to, 'b')).toBe('new');
        expect(await get(to, 'c')).toBeUndefined();
        await put(to, 'd', 'goes on');
        expect((await driver.usage(to)).usedBytes).toBeGreaterThanOrEqual(2 * MiB);
        const nowhere = driver.replaceVolume(newId(), newId());
        await expect(nowhere).rejects.toEqual(coded('VOLUME_NOT_FOUND'));
      });

      it('refuses ids that are none', async () => {
        for (const id of ['../../etc', '', 'A', `${newId()}/..`]) {
          await expect(driver.createVolume(id, { quotaBytes })).rejects.toEqual(
            coded('INVALID_INPUT'),
          );
        }
      });

      it('tells the room on the volume', async () => {
        const { totalBytes, freeBytes } = await driver.space();
        expect(totalBytes).toBeGreaterThanOrEqual(freeBytes);
        expect(freeBytes).toBeGreaterThan(0);
      });
    });

    describe('snapshots', () => {
      it('are refused by a driver that has none', async () => {
        if (driver.capabilities.snapshots) return;
        const id = await make();
        const refused = coded('SNAPSHOTS_UNSUPPORTED');
        await expect(driver.createSnapshot(id, 's')).rejects.toEqual(refused);
        await expect(driver.setSnapshotLocked(id, 's', true)).rejects.toEqual(refused);
        await expect(driver.deleteSnapshot(id, 's')).rejects.toEqual(refused);
        await expect(driver.restoreSnapshot(id, 's')).rejects.toEqual(refused);
        await expect(driver.restoreSnapshotPath(id, 's', 'a')).rejects.toEqual(refused);
        expect(await driver.listSnapshots(id)).toEqual([]);
      });

      it('keep what was, in order, once a name', async () => {
        if (!driver.capabilities.snapshots) return;
        const id = await make();
        await put(id, 'a', '1');
        const first = await driver.createSnapshot(id, 'one');
        await put(id, 'a', '2');
        await driver.createSnapshot(id, 'two');
        await expect(driver.createSnapshot(id, 'one')).rejects.toEqual(coded('SNAPSHOT_EXISTS'));
        const list = await driver.listSnapshots(id);
        expect(list.map((s) => s.name)).toEqual(['one', 'two']);
        expect(list[0]).toEqual(first);
        expect(list[0]?.uuid).not.toBe(list[1]?.uuid);
        const paths = (await driver.volume(id))?.paths;
        const kept = join(paths?.snapshots ?? '', 'one', 'home', 'a');
        expect(await readFile(kept, 'utf8')).toBe('1');
        await expect(driver.createSnapshot(id, '../x')).rejects.toEqual(coded('INVALID_INPUT'));
      });

      it('are not deleted while locked, and deleting twice does no harm', async () => {
        if (!driver.capabilities.snapshots) return;
        const id = await make();
        await driver.createSnapshot(id, 's');
        expect((await driver.setSnapshotLocked(id, 's', true)).locked).toBe(true);
        await expect(driver.deleteSnapshot(id, 's')).rejects.toEqual(coded('SNAPSHOT_LOCKED'));
        expect((await driver.listSnapshots(id))[0]?.locked).toBe(true);
        await driver.setSnapshotLocked(id, 's', false);
        await driver.deleteSnapshot(id, 's');
        await driver.deleteSnapshot(id, 's');
        expect(await driver.listSnapshots(id)).toEqual([]);
        await expect(driver.setSnapshotLocked(id, 's', true)).rejects.toEqual(
          coded('SNAPSHOT_NOT_FOUND'),
        );
      });

      it('are capped', async () => {
        if (!driver.capabilities.snapshots) return;
        const id = await make();
        for (let i = 0; i < options.snapshotsMax; i += 1) await driver.createSnapshot(id, `s${i}`);
        await expect(driver.createSnapshot(id, 'more')).rejects.toEqual(coded('SNAPSHOT_LIMIT'));
      });

      it('are restored whole; what was live is kept, and all snapshots stay', async () => {
        if (!driver.capabilities.snapshots) return;
        const id = await make();
        await put(id, 'a', 'old');
        await driver.createSnapshot(id, 'one');
        await driver.createSnapshot(id, 'two');
        await driver.setSnapshotLocked(id, 'two', true);
        await put(id, 'a', 'new');
        await put(id, 'b', 'extra');
        const { previous } = await driver.restoreSnapshot(id, 'one');
        expect(previous).toMatch(/^before-restore-/);
        expect(await get(id, 'a')).toBe('old');
        expect(await get(id, 'b')).toBeUndefined();
        const list = await driver.listSnapshots(id);
        expect(list.map((s) => s.name).sort()).toEqual([previous, 'one', 'two'].sort());
        expect(list.find((s) => s.name === 'two')?.locked).toBe(true);
        await driver.restoreSnapshot(id, previous);
        expect(await get(id, 'a')).toBe('new');
        expect(await get(id, 'b')).toBe('extra');
        await expect(driver.restoreSnapshot(id, 'none')).rejects.toEqual(
          coded('SNAPSHOT_NOT_FOUND'),
        );
      });

      it('give back one path', async () => {
        if (!driver.capabilities.snapshots) return;
        const id = await make();
        await put(id, 'dir/a', 'old');
        await put(id, 'dir/deep/b', 'old');
        await driver.createSnapshot(id, 's');
        await put(id, 'dir/a', 'new');
        await put(id, 'dir/c', 'new');
        await put(id, 'other', 'untouched');
        await driver.restoreSnapshotPath(id, 's', 'dir/a');
        expect(await get(id, 'dir/a')).toBe('old');
        expect(await get(id, 'dir/c')).toBe('new');
        await driver.restoreSnapshotPath(id, 's', 'dir');
        expect(await get(id, 'dir/c')).toBeUndefined();
        const home = (await driver.volume(id))?.paths.home ?? '';
        await rm(join(home, 'dir'), { recursive: true });
        await driver.restoreSnapshotPath(id, 's', 'dir/deep/b');
        expect(await get(id, 'dir/deep/b')).toBe('old');
        expect(await get(id, 'other')).toBe('untouched');
        await expect(driver.restoreSnapshotPath(id, 's', 'none')).rejects.toEqual(
          coded('SNAPSHOT_PATH_NOT_FOUND'),
        );
        for (const path of ['../x', '/etc', '.', 'a/../../b']) {
          await expect(driver.restoreSnapshotPath(id, 's', path)).rejects.toEqual(
            expect.objectContaining({ status: 400 }),
          );
        }
      });
    });

    describe('pictures', () => {
      it('show the project and its persistence; twice gives the first again', async () => {
        const id = await make();
        await put(id, 'a', 'then');
        const paths = (await driver.volume(id))?.paths;
        await writeFile(join(paths?.persistence ?? '', 'store'), 'log');
        const picture = await driver.freeze(id, 'backup-1');
        await put(id, 'a', 'now');
        const again = await driver.freeze(id, 'backup-1');
        expect(again.uuid).toBe(picture.uuid);
        const seen = await readFile(join(picture.root, 'home', 'a'), 'utf8');
        expect(seen).toBe(driver.capabilities.snapshots ? 'then' : 'now');
        expect(picture.live ?? false).toBe(!driver.capabilities.snapshots);
        expect(await readFile(join(picture.persistence, 'store'), 'utf8')).toBe('log');
        await picture.release();
        await picture.release();
        expect(await driver.listFrozen(id)).toEqual([]);
        expect(await get(id, 'a')).toBe('now');
        await expect(driver.freeze(id, 'mine')).rejects.toEqual(coded('INVALID_INPUT'));
      });
    });

    describe('quota', () => {
      it('is refused by a driver that has none, and usage names no limit', async () => {
        if (driver.capabilities.quota !== 'none') return;
        const id = await make();
        await expect(driver.setQuota(id, quotaBytes)).rejects.toEqual(coded('QUOTA_UNSUPPORTED'));
        expect((await driver.usage(id)).limitBytes).toBeUndefined();
      });

      it('counts what is written and refuses a limit below it', async () => {
        const id = await make();
        await put(id, 'big', randomBytes(8 * MiB));
        const usage = await driver.usage(id);
        expect(usage.usedBytes).toBeGreaterThanOrEqual(8 * MiB);
        expect(usage.usedBytes).toBeLessThan(12 * MiB);
        if (driver.capabilities.quota === 'none') return;
        expect(usage.limitBytes).toBe(quotaBytes);
        await expect(driver.setQuota(id, 4 * MiB)).rejects.toEqual(coded('QUOTA_BELOW_USE'));
        expect((await driver.usage(id)).limitBytes).toBe(quotaBytes);
        await driver.setQuota(id, 4 * MiB, { allowBelowUse: true });
        expect((await driver.usage(id)).limitBytes).toBe(4 * MiB);
        await driver.setQuota(id, 2 * quotaBytes);
        expect((await driver.usage(id)).limitBytes).toBe(2 * quotaBytes);
      });

      it('charges a clone to the clone alone', async () => {
        if (driver.capabilities.quota === 'none') return;
        const from = await make();
        const to = newId();
        await put(from, 'big', randomBytes(8 * MiB));
        const before = (await driver.usage(from)).usedBytes;
        await driver.cloneVolume({ projectId: from }, to, { quotaBytes });
        expect((await driver.usage(to)).usedBytes).toBeGreaterThanOrEqual(8 * MiB);
        expect(Math.abs((await driver.usage(from)).usedBytes - before)).toBeLessThan(MiB);
      });

      it('stops writes at the limit, of this project alone', async () => {
        if (driver.capabilities.quota === 'none' || options.enforcesQuota === false) return;
        const id = await make();
        const other = await make();
        // Exact from here on, however much was counted before.
        await driver.usage(id);
        const write = (target: string): Promise<void> =>
          put(target, 'big', randomBytes(quotaBytes + 8 * MiB));
        await expect(write(id)).rejects.toThrow(/EDQUOT|-122/);
        await put(other, 'fine', randomBytes(8 * MiB));
        expect((await driver.usage(id)).usedBytes).toBeLessThanOrEqual(quotaBytes);
        // A full project can still be pictured, restored and deleted from.
        const picture = await driver.freeze(id, 'move-full');
        await picture.release();
        await driver.deleteVolume(id);
      });
    });

    describe('streams', () => {
      const land = async (): Promise<{ moveId: string; id: string }> => {
        const moveId = newId();
        const id = newId();
        await driver.prepareLanding(moveId, id);
        await driver.prepareLanding(moveId, id);
        return { moveId, id };
      };

      it('are refused by a driver that has none', async () => {
        if (driver.capabilities.sendReceive) return;
        const id = await make();
        const refused = coded('MOVE_UNSUPPORTED');
        await expect(driver.prepareLanding(newId(), newId())).rejects.toEqual(refused);
        await expect(
          driver.receive(Readable.from([]), { moveId: newId(), item: 'snapshot.a' }),
        ).rejects.toEqual(refused);
        await expect(
          buffer(driver.send({ kind: 'frozen', projectId: id, name: 'move-1' })),
        ).rejects.toEqual(refused);
        await expect(
          driver.activateLanding(newId(), id, { snapshots: [], live: 'x.y', quotaBytes }),
        ).rejects.toEqual(refused);
        await driver.dropLanding(newId());
      });

      it('carry a project whole: snapshots, deltas, persistence, quota last', async () => {
        if (!driver.capabilities.sendReceive) return;
        const from = await make();
        await put(from, 'a', 'one');
        const snapshot = await driver.createSnapshot(from, 'keep');
        await put(from, 'a', 'two');
        const paths = (await driver.volume(from))?.paths;
        await writeFile(join(paths?.persistence ?? '', 'store'), 'log');
        await using picture = await driver.freeze(from, 'move-1');
        const { moveId, id } = await land();
        const first = await driver.receive(
          driver.send({ kind: 'snapshot', projectId: from, name: 'keep' }),
          { moveId, item: 'snapshot.keep' },
        );
        expect(first).toEqual({
          item: 'snapshot.keep',
          receivedUuid: snapshot.uuid,
          readOnly: true,
        });
        const delta = await driver.receive(
          driver.send(
            { kind: 'frozen', projectId: from, name: 'move-1' },
            { parent: { kind: 'snapshot', projectId: from, name: 'keep' } },
          ),
          { moveId, item: 'delta.move-1' },
        );
        expect(delta.receivedUuid).toBe(picture.uuid);
        const persistence = await driver.receive(
          driver.send({ kind: 'persistence', projectId: from, name: 'move-1' }),
          { moveId, item: 'persistence.move-1' },
        );
        expect(persistence.receivedUuid).toBe(picture.persistenceUuid);
        expect((await driver.listLanding(moveId)).map((r) => r.item).sort()).toEqual([
          'delta.move-1',
          'persistence.move-1',
          'snapshot.keep',
        ]);
        const plan = {
          snapshots: [{ item: 'snapshot.keep', name: 'keep', locked: true, createdAt: 12345 }],
          live: 'delta.move-1',
          persistence: 'persistence.move-1',
          quotaBytes,
        };
        expect(await driver.activateLanding(moveId, id, plan)).toEqual({ overQuota: false });
        expect(await driver.activateLanding(moveId, id, plan)).toEqual({ overQuota: false });
        await driver.dropLanding(moveId);
        await driver.dropLanding(moveId);
        expect(await get(id, 'a')).toBe('two');
        const arrived = (await driver.volume(id))?.paths;
        expect(await readFile(join(arrived?.persistence ?? '', 'store'), 'utf8')).toBe('log');
        await put(id, 'a', 'three');
        expect(await driver.listSnapshots(id)).toMatchObject([
          { name: 'keep', locked: true, createdAt: 12345, uuid: snapshot.uuid },
        ]);
        expect((await driver.usage(id)).limitBytes).toBe(quotaBytes);
        await driver.setSnapshotLocked(id, 'keep', false);
        await driver.restoreSnapshot(id, 'keep');
        expect(await get(id, 'a')).toBe('one');
      });

      it('flag a project that uses more than its quota', async () => {
        if (!driver.capabilities.sendReceive) return;
        const from = await make();
        await put(from, 'big', randomBytes(8 * MiB));
        await using _picture = await driver.freeze(from, 'move-1');
        const { moveId, id } = await land();
        const source = { kind: 'frozen', projectId: from, name: 'move-1' } as const;
        await driver.receive(driver.send(source), { moveId, item: 'delta.move-1' });
        const plan = { snapshots: [], live: 'delta.move-1', quotaBytes: 4 * MiB };
        expect(await driver.activateLanding(moveId, id, plan)).toEqual({ overQuota: true });
        await driver.dropLanding(moveId);
      });

      it('leave nothing when truncated, empty, garbage or doubled, and can be repeated', async () => {
        if (!driver.capabilities.sendReceive) return;
        const from = await make();
        await put(from, 'a', randomBytes(256 * 1024));
        await using _picture = await driver.freeze(from, 'move-1');
        const source = { kind: 'frozen', projectId: from, name: 'move-1' } as const;
        const whole = await buffer(driver.send(source));
        const { moveId } = await land();
        const landing = { moveId, item: 'delta.move-1' };
        const bad = [
          whole.subarray(0, whole.length - 1),
          whole.subarray(0, Math.floor(whole.length / 2)),
          whole.subarray(0, 5),
          Buffer.alloc(0),
          randomBytes(4096),
          Buffer.concat([whole, whole]),
        ];
        for (const bytes of bad) {
          await expect(driver.receive(Readable.from([bytes]), landing)).rejects.toEqual(
            coded('STREAM_INVALID'),
          );
          expect(await driver.listLanding(moveId)).toEqual([]);
        }
        const first = await driver.receive(Readable.from([whole]), landing);
        expect(await driver.receive(Readable.from([whole]), landing)).toEqual(first);
        expect(await driver.listLanding(moveId)).toEqual([first]);
        await driver.dropLanding(moveId);
        await expect(driver.receive(Readable.from([whole]), landing)).rejects.toEqual(
          coded('LANDING_NOT_FOUND'),
        );
      });

      it('stop when canceled and leave nothing', async () => {
        if (!driver.capabilities.sendReceive) return;
        const from = await make();
        await put(from, 'a', randomBytes(MiB));
        await using _picture = await driver.freeze(from, 'move-1');
        const source = { kind: 'frozen', projectId: from, name: 'move-1' } as const;
        const whole = await buffer(driver.send(source));
        const { moveId } = await land();
        const cancel = new AbortController();
        const stream = new PassThrough();
        stream.write(whole.subarray(0, whole.length / 2));
        const receiving = driver.receive(
          stream,
          { moveId, item: 'delta.move-1' },
          { signal: cancel.signal },
        );
        cancel.abort();
        await expect(receiving).rejects.toEqual(coded('CANCELED'));
        expect(await driver.listLanding(moveId)).toEqual([]);
        await driver.dropLanding(moveId);
      });

      it('need all that the plan names, and a place that is free', async () => {
        if (!driver.capabilities.sendReceive) return;
        const { moveId, id } = await land();
        await expect(
          driver.activateLanding(moveId, id, { snapshots: [], live: 'delta.none', quotaBytes }),
        ).rejects.toEqual(coded('LANDING_INCOMPLETE'));
        expect(await driver.volume(id)).toBeUndefined();
        await driver.dropLanding(moveId);
        const taken = await make();
        await expect(driver.prepareLanding(newId(), taken)).rejects.toEqual(coded('VOLUME_EXISTS'));
        await expect(
          buffer(driver.send({ kind: 'snapshot', projectId: taken, name: 'none' })),
        ).rejects.toEqual(coded('SNAPSHOT_NOT_FOUND'));
      });
    });

    describe('images', () => {
      const digest = (): string => `sha256:${randomBytes(32).toString('hex')}`;

      it('appear whole under their digest, once', async () => {
        const name = digest();
        expect(await driver.imagePath(name)).toBeUndefined();
        await using staged = await driver.stageImage();
        await writeFile(join(staged.path, 'file'), 'first');
        await staged.commit(name);
        await using second = await driver.stageImage();
        await writeFile(join(second.path, 'file'), 'second');
        await second.commit(name);
        const path = await driver.imagePath(name);
        expect(await readFile(join(path ?? '', 'file'), 'utf8')).toBe('first');
        expect(await driver.listImages()).toContain(name);
        await driver.deleteImage(name);
        await driver.deleteImage(name);
        expect(await driver.imagePath(name)).toBeUndefined();
        expect(await driver.listImages()).not.toContain(name);
      });

      it('that are aborted leave nothing', async () => {
        const staged = await driver.stageImage();
        await writeFile(join(staged.path, 'file'), 'x');
        await staged.abort();
        await staged.abort();
        await expect(stat(staged.path)).rejects.toThrow('ENOENT');
      });

      it('travel as streams', async () => {
        if (!driver.capabilities.sendReceive) return;
        const name = digest();
        await using staged = await driver.stageImage();
        await writeFile(join(staged.path, 'file'), 'image');
        await staged.commit(name);
        const moveId = newId();
        await driver.prepareLanding(moveId, newId());
        const whole = await buffer(driver.send({ kind: 'image', digest: name }));
        await driver.deleteImage(name);
        await driver.receive(Readable.from([whole]), { moveId, item: 'image.root' });
        await driver.adoptImage(moveId, 'image.root', name);
        await driver.adoptImage(moveId, 'image.root', name);
        await driver.dropLanding(moveId);
        const path = await driver.imagePath(name);
        expect(await readFile(join(path ?? '', 'file'), 'utf8')).toBe('image');
      });
    });

    describe('reconcile', () => {
      const desired = async (): Promise<StorageDesired> => ({
        ...nothing,
        projects: (await driver.listVolumes()).map(({ projectId }) => ({ projectId, quotaBytes })),
      });

      it('reports unknown volumes, deletes retired ones, keeps the rest', async () => {
        const kept = await make();
        const unknown = await make();
        const retired = await make();
        const all = await desired();
        const projects = all.projects.filter(
          ({ projectId }) => projectId !== unknown && projectId !== retired,
        );
        const repairs = await driver.reconcile({ ...nothing, projects, retired: [retired] });
        expect(repairs).toContainEqual({ kind: 'unknown-volume-found', subject: unknown });
        expect(repairs).toContainEqual({ kind: 'retired-volume-deleted', subject: retired });
        expect(await driver.volume(kept)).toBeDefined();
        expect(await driver.volume(unknown)).toBeDefined();
        expect(await driver.volume(retired)).toBeUndefined();
      });

      it('drops pictures and landing areas that no one needs', async () => {
        if (!driver.capabilities.sendReceive) return;
        const id = await make();
        await driver.freeze(id, 'backup-needed');
        await driver.freeze(id, 'backup-orphan');
        const needed = newId();
        const orphan = newId();
        await driver.prepareLanding(needed, newId());
        await driver.prepareLanding(orphan, newId());
        const repairs = await driver.reconcile({
          ...(await desired()),
          moves: [needed],
          frozen: [{ projectId: id, name: 'backup-needed' }],
        });
        expect(repairs).toContainEqual({ kind: 'frozen-dropped', subject: `${id}/backup-orphan` });
        expect(repairs).toContainEqual({ kind: 'landing-dropped', subject: orphan });
        expect((await driver.listFrozen(id)).map((f) => f.name)).toEqual(['backup-needed']);
        await driver.prepareLanding(needed, newId());
        await driver.reconcile(await desired());
        expect(await driver.listFrozen(id)).toEqual([]);
      });

      it('sets the quota that it should be', async () => {
        if (driver.capabilities.quota === 'none') return;
        const id = await make();
        await driver.setQuota(id, 3 * quotaBytes);
        const repairs = await driver.reconcile(await desired());
        expect(repairs).toContainEqual({ kind: 'quota-set', subject: id });
        expect((await driver.usage(id)).limitBytes).toBe(quotaBytes);
      });

      it('finds nothing to do the second time', async () => {
        const all = await desired();
        await driver.reconcile(all);
        const again = await driver.reconcile(all);
        // The cleaner may still be at work on qgroups; nothing else may change.
        expect(again.filter((repair) => repair.kind !== 'qgroup-dropped')).toEqual([]);
      });
    });
  });
}
