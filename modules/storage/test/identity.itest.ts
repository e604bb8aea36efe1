import { readdir, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MiB, newId, parseConfig, SystemExec } from '@rookery/core';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const sizeBytes = 512 * MiB;

describe('a host’s own volume', () => {
  let own: TestVolume;
  let other: TestVolume;
  beforeAll(async () => {
    own = await loopbackVolume({ sizeBytes });
    other = await loopbackVolume({ sizeBytes });
  });
  afterAll(async () => {
    await own?.destroy();
    await other?.destroy();
  });

  const driverOf = (overrides: object): BtrfsStorageDriver =>
    new BtrfsStorageDriver(
      new SystemExec(),
      parseConfig(StorageOptions, {
        volume: own.volume,
        driver: 'btrfs',
        btrfsProgram: own.btrfsProgram,
        loopback: { imageFile: own.imageFile, sizeBytes },
        unmountOnClose: true,
        minFreeBytes: 0,
        ...overrides,
      }),
    );

  it('is neither made anew nor taken for another; its own is found again', async () => {
    const first = driverOf({});
    await first.open();
    const identity = await first.identity();
    const id = newId();
    await first.createVolume(id, { quotaBytes: 64 * MiB });
    await first.close();

    const again = driverOf({ create: false, identity });
    await rename(own.imageFile, `${own.imageFile}.away`);
    await expect(again.open()).rejects.toMatchObject({ code: 'VOLUME_ABSENT', retryable: true });
    expect(await readdir(dirname(own.imageFile))).not.toContain('volume.img');

    // Another file system in its place: nothing is written to it, and it does not stay mounted.
    const foreign = driverOf({
      create: false,
      identity,
      loopback: { imageFile: other.imageFile, sizeBytes },
    });
    await new SystemExec().run(['umount', other.volume]);
    await expect(foreign.open()).rejects.toMatchObject({ code: 'VOLUME_FOREIGN' });
    expect(await readdir(own.volume)).toEqual([]);
    await new SystemExec().run(['mount', '-o', 'loop', other.imageFile, other.volume]);
    expect(await readdir(other.volume)).toEqual([]);

    await rename(`${own.imageFile}.away`, own.imageFile);
    await again.open();
    expect(await again.identity()).toBe(identity);
    expect(await again.volume(id)).toBeDefined();
    await again.close();
  });
});
