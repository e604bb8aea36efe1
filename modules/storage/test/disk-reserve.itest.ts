import { mkdir, open, rm, writeFile, type FileHandle } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { GiB, MiB, newId, parseConfig, SystemExec } from '@rookery/core';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

/** Quotas promise four times what the volume has. */
const quotaBytes = GiB;
const sizeBytes = 320 * MiB;
const reserveBytes = 64 * MiB;
const exec = new SystemExec();
const full = expect.objectContaining({ code: 'DISK_FULL' });

describe.each(['auto', 'classic'] as const)('a volume that projects have filled (%s)', (quota) => {
  let disk: TestVolume;
  let driver: BtrfsStorageDriver;
  let keeping: { stop: () => Promise<void> };

  beforeAll(async () => {
    disk = await loopbackVolume({ sizeBytes });
    const { volume, btrfsProgram } = disk;
    const options = { volume, btrfsProgram, driver: 'btrfs' as const, quota, reserveBytes };
    driver = new BtrfsStorageDriver(exec, parseConfig(StorageOptions, options));
    await driver.open();
    keeping = await keepReserve(driver);
  });
  afterAll(async () => {
    await keeping?.stop();
    await disk?.destroy();
  });

  it('leaves its host the reserve, and gets rid of snapshots and projects', async () => {
    const [one, two] = [newId(), newId()];
    const homes: string[] = [];
    for (const id of [one, two]) {
      const { paths } = await driver.createVolume(id, { quotaBytes });
      await writeFile(join(paths.home, 'first'), randomBytes(MiB));
      await driver.createSnapshot(id, 'first');
      homes.push(paths.home);
    }
    for (let round = 0; round < 2; round += 1) await Promise.all(homes.map(fill));
    for (const id of [one, two])
      expect((await driver.usage(id)).usedBytes).toBeLessThan(quotaBytes);

    // As the host's books and logs are written, to the disk and not only to memory.
    const books = await open(join(disk.volume, 'books'), 'w');
    for (let n = 0; n < 16; n += 1) {
      await books.write(randomBytes(MiB));
      await books.sync();
    }
    await books.close();

    // Nothing new comes, and the error says that it is not the project's quota.
    await expect(driver.createVolume(newId(), { quotaBytes })).rejects.toEqual(full);
    await expect(driver.createSnapshot(two, 'second')).rejects.toEqual(full);
    // What is there can be started and backed up, and what it has can go.
    await driver.createVolume(one, { quotaBytes });
    await driver.withRoom(one, async () => mkdir(join(homes[0]!, 'started')));
    await driver.deleteSnapshot(two, 'first');
    const frozen = await driver.freeze(two, 'backup-1');
    await frozen.release();
    // Nobody has taken the reserve meanwhile, however often room was lent.
    await Promise.all(homes.map(fill));
    await expect(writeFile(join(disk.volume, 'more'), randomBytes(8 * MiB))).resolves.not.toThrow();

    await driver.deleteVolume(two);
    expect((await driver.listVolumes()).map(({ projectId }) => projectId)).toEqual([one]);

    // Who makes room has it.
    await rm(homes[0]!, { recursive: true });
    await driver.deleteSnapshot(one, 'first');
    await driver.flush();
    await driver.keepReserve();
    await mkdir(homes[0]!);
    await writeFile(join(homes[0]!, 'again'), randomBytes(32 * MiB), { flush: true });
  });
});

/** As a host does it every few seconds. */
async function keepReserve(driver: BtrfsStorageDriver): Promise<{ stop: () => Promise<void> }> {
  await driver.keepReserve();
  let stopped = false;
  const loop = (async () => {
    while (!stopped) {
      await driver.keepReserve();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  })();
  return {
    stop: () => {
      stopped = true;
      return loop;
    },
  };
}

/** Writes until nothing more goes in, in ever smaller pieces, and makes files until none can be. */
async function fill(home: string): Promise<void> {
  for (const bytes of [4 * MiB, 64 * 1024, 4096]) {
    const file = await open(join(home, `fill-${newId()}`), 'a').catch(() => undefined);
    if (!file) continue;
    await writeUntilFull(file, bytes);
    await file.close();
  }
  await exec.run(['sync', '--file-system', home]);
  for (let n = 0; ; n += 1) {
    const made = await writeFile(join(home, `small-${newId()}`), 'x'.repeat(1000)).then(
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
