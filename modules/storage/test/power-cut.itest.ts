import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { MiB, newId, parseConfig, SystemExec } from '@rookery/core';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { CutVolume, findBtrfsProgram } from '@rookery/storage/testing';

const quotaBytes = 64 * MiB;
/** Too large to lie in the metadata, too small for the kernel to write it out by itself. */
const content = randomBytes(100_000);

let disk: CutVolume;
let driver: BtrfsStorageDriver;

const opened = async (): Promise<BtrfsStorageDriver> => {
  const options = parseConfig(StorageOptions, {
    volume: disk.path,
    driver: 'btrfs',
    btrfsProgram: await findBtrfsProgram(),
    reconcileGraceMs: 0,
    minFreeBytes: 0,
  });
  const made = new BtrfsStorageDriver(new SystemExec(), options);
  await made.open();
  return made;
};

beforeEach(async () => {
  disk = await CutVolume.make();
  driver = await opened();
});
afterEach(() => disk?.destroy());

/** The power goes now, and comes back. */
async function powerCut(): Promise<void> {
  const cut = await disk.cut();
  await disk.unmount();
  await disk.mount(cut);
  driver = await opened();
}

const homeOf = async (id: string): Promise<string> =>
  (await driver.volume(id))?.paths.home ?? '/nonexistent';

/** A project with one file, and the streams that a move would send of it. */
async function source(): Promise<{ id: string; live: Buffer; persistence: Buffer }> {
  const id = newId();
  const { paths } = await driver.createVolume(id, { quotaBytes });
  await writeFile(join(paths.home, 'a'), content);
  await writeFile(join(paths.persistence, 'store'), content);
  await using _ = await driver.freeze(id, 'move-1');
  const read = (kind: 'frozen' | 'persistence'): Promise<Buffer> =>
    buffer(driver.send({ kind, projectId: id, name: 'move-1' }));
  return { id, live: await read('frozen'), persistence: await read('persistence') };
}

async function land(moveId: string, item: string, stream: Buffer): Promise<void> {
  await driver.receive(Readable.from([stream]), { moveId, item });
}

describe('when the power goes right after a confirmation', () => {
  it('a received stream is there with its files', async () => {
    const { live } = await source();
    const moveId = newId();
    await driver.prepareLanding(moveId, newId());
    await land(moveId, 'delta.final', live);
    await powerCut();
    expect((await driver.listLanding(moveId)).map(({ item }) => item)).toEqual(['delta.final']);
    const landed = join(disk.path, '_incoming', moveId, '=delta.final', 'home', 'a');
    expect(content.equals(await readFile(landed))).toBe(true);
  });

  it('what was received before is activated whole, and an activated project stays', async () => {
    const { live, persistence } = await source();
    const [moveId, to] = [newId(), newId()];
    await driver.prepareLanding(moveId, to);
    await land(moveId, 'delta.final', live);
    await land(moveId, 'persistence.final', persistence);
    await powerCut();
    const plan = {
      snapshots: [{ item: 'delta.final', name: 'kept', locked: true }],
      quotaBytes,
      live: 'delta.final',
      persistence: 'persistence.final',
    };
    await driver.activateLanding(moveId, to, plan);
    await powerCut();
    const paths = (await driver.volume(to))?.paths;
    expect(paths).toBeDefined();
    for (const path of [
      join(paths?.home ?? '', 'a'),
      join(paths?.persistence ?? '', 'store'),
      join(paths?.snapshots ?? '', 'kept', 'home', 'a'),
    ]) {
      expect(content.equals(await readFile(path))).toBe(true);
    }
    expect(await driver.listSnapshots(to)).toMatchObject([{ name: 'kept', locked: true }]);
  });

  it('a moved image is there with its files', async () => {
    await using staged = await driver.stageImage();
    await writeFile(join(staged.path, 'init'), content);
    await staged.commit('sha256:11111111');
    const stream = await buffer(driver.send({ kind: 'image', digest: 'sha256:11111111' }));
    const treeDigest = (await driver.imageTree('sha256:11111111')) ?? '';
    await driver.deleteImage('sha256:11111111');
    const moveId = newId();
    await driver.prepareLanding(moveId, newId());
    await land(moveId, 'image.one', stream);
    await driver.adoptImage({ moveId, item: 'image.one', digest: 'sha256:22222222', treeDigest });
    await powerCut();
    const path = await driver.imagePath('sha256:22222222');
    expect(content.equals(await readFile(join(path ?? '', 'init')))).toBe(true);
  });

  it('a restored snapshot and a restored path are what the project has', async () => {
    const { id } = await source();
    await mkdir(join(await homeOf(id), 'deep'));
    await writeFile(join(await homeOf(id), 'deep', 'b'), content);
    await driver.createSnapshot(id, 'then');
    await writeFile(join(await homeOf(id), 'a'), 'now');
    await driver.flush();
    await driver.restoreSnapshot(id, 'then');
    await powerCut();
    expect(content.equals(await readFile(join(await homeOf(id), 'a')))).toBe(true);

    await writeFile(join(await homeOf(id), 'deep', 'b'), 'changed');
    await driver.flush();
    await driver.restoreSnapshotPath(id, 'then', 'deep');
    await powerCut();
    expect(content.equals(await readFile(join(await homeOf(id), 'deep', 'b')))).toBe(true);
  });

  it('a clone and a volume that took the place of another are whole', async () => {
    const { id } = await source();
    const [clone, standIn] = [newId(), newId()];
    await driver.cloneVolume({ projectId: id }, clone, { quotaBytes });
    await powerCut();
    expect(content.equals(await readFile(join(await homeOf(clone), 'a')))).toBe(true);

    const { paths } = await driver.createVolume(standIn, { quotaBytes });
    await writeFile(join(paths.home, 'fresh'), content);
    await driver.replaceVolume(standIn, clone);
    await powerCut();
    expect(content.equals(await readFile(join(await homeOf(clone), 'fresh')))).toBe(true);
  });
});
