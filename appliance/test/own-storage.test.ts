import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { newId, SystemClock, waitFor } from '@rookery/core';
import { StorageErrors } from '@rookery/storage';
import { sayWhyUnready } from '../src/agent/unready.js';
import type { HostConfig } from '../src/config/config.js';
import { openDatabase } from '../src/database/database.js';
import { VolumeRow } from '../src/database/entities/volume.entity.js';
import type { HostDatabase } from '../src/database/host-database.js';
import { HostRecord } from '../src/hub/host-record.js';
import { openOwnStorage } from '../src/storage.js';

const clock = new SystemClock();

describe('a host’s own storage', () => {
  let folder: string;
  let database: HostDatabase;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-own-'));
    database = await openDatabase(join(folder, 'host.sqlite'));
  });
  afterEach(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });

  const volume = (): string => join(folder, 'volume');
  const open = async () =>
    openOwnStorage(
      {
        paths: { volume: volume() },
        volumeBytes: 0,
        storageDriver: 'directory',
        btrfsProgram: 'btrfs',
      } as unknown as HostConfig,
      database,
      clock,
    );
  const joined = (): Promise<void> =>
    new HostRecord(database, () => undefined).save({
      hostId: newId(),
      hubUrl: 'http://x',
      verificationKeys: [],
      heartbeatEveryMs: 1,
    });

  it('is made by a new host alone, and no other is served from then on', async () => {
    const storage = await open();
    const id = newId();
    await storage.createVolume(id, { quotaBytes: 1 });
    expect(database.find(VolumeRow)).toMatchObject([{ identity: await storage.identity() }]);

    await rename(volume(), `${volume()}.away`);
    await expect(open()).rejects.toMatchObject({ code: 'VOLUME_ABSENT' });
    expect(await readdir(folder)).not.toContain('volume');
    // The empty folder beneath a disk that is not mounted.
    await mkdir(volume());
    await expect(open()).rejects.toMatchObject({ code: 'VOLUME_ABSENT' });
    expect(await readdir(volume())).toEqual([]);

    await rm(volume(), { recursive: true });
    await rename(`${volume()}.away`, volume());
    expect(await (await open()).volume(id)).toBeDefined();
  });

  it('is refused when it is another one', async () => {
    await open();
    database.write((rows) => rows.put(VolumeRow, { id: 1, identity: 'directory x', notedAt: 1 }));
    await expect(open()).rejects.toMatchObject({ code: 'VOLUME_FOREIGN', retryable: true });
  });

  it('is not made by a host that has joined, and noted when an older release made it', async () => {
    await open();
    database.write((rows) => rows.delete(VolumeRow, {}));
    await joined();
    const identity = await (await open()).identity();
    expect(database.find(VolumeRow)).toMatchObject([{ identity }]);
    database.write((rows) => rows.delete(VolumeRow, {}));
    await rm(volume(), { recursive: true });
    await expect(open()).rejects.toMatchObject({ code: 'VOLUME_ABSENT' });
  });

  it('is told of while it is missing', async () => {
    const port = await new Promise<number>((resolve) => {
      const probe = createServer().listen(0, '127.0.0.1', () => {
        const { port: free } = probe.address() as AddressInfo;
        probe.close(() => resolve(free));
      });
    });
    const stop = new AbortController();
    const said = sayWhyUnready(
      StorageErrors.VOLUME_ABSENT({ reason: 'there is no file x' }),
      { port, host: '127.0.0.1' },
      stop.signal,
    );
    const health = await waitFor(
      'it answers',
      () => fetch(`http://127.0.0.1:${port}/healthz`).catch(() => undefined),
      { timeoutMs: 5_000 },
    );
    expect(health.status).toBe(503);
    expect(await health.json()).toMatchObject({ error: { code: 'VOLUME_ABSENT' } });
    stop.abort();
    await said;
  });
});
