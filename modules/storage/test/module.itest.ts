import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Test } from '@nestjs/testing';
import { MiB } from '@rookery/core';
import { StorageDriver, StorageModule, StorageService } from '@rookery/storage';
import { findBtrfsProgram } from '@rookery/storage/testing';
import { keepProjects } from '../examples/keep-projects.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-storage-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('StorageModule', () => {
  it('keeps projects in plain folders where the volume is not btrfs', async () => {
    expect(await keepProjects({ volume: join(folder, 'plain') })).toEqual([]);
  });

  it('makes a loopback volume, and leaves nothing mounted when told so', async () => {
    const volume = join(folder, 'volume');
    const names = await keepProjects({
      volume,
      loopback: { imageFile: join(folder, 'volume.img'), sizeBytes: 512 * MiB },
      btrfsProgram: await findBtrfsProgram(),
      unmountOnClose: true,
    });
    expect(names).toEqual(['first']);
    expect((await stat(volume)).dev).toBe((await stat(folder)).dev);
  });

  it('names all that is wrong with its options at once', async () => {
    const wrong = { volume: 'relative', driver: 'zfs', snapshotsPerProjectMax: 0 };
    const start = Test.createTestingModule({
      imports: [StorageModule.forRoot(wrong as never)],
    }).compile();
    await expect(start).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
    await expect(start).rejects.toThrow(/volume.*driver.*snapshotsPerProjectMax/);
  });

  it('takes its options from other providers, and its driver can be replaced', async () => {
    const module = await Test.createTestingModule({
      imports: [
        StorageModule.forRootAsync({
          useFactory: () => Promise.resolve({ volume: join(folder, 'x'), driver: 'memory' }),
        }),
      ],
    }).compile();
    await module.init();
    const service = module.get(StorageService);
    const { id, paths } = await service.create({ quotaBytes: 64 * MiB });
    expect(await service.list()).toEqual([{ id, paths }]);
    expect(module.get(StorageDriver)).toBe(service.driver);
    await module.close();
    await expect(stat(paths.root)).rejects.toThrow('ENOENT');
  });
});
