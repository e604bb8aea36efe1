import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createLogger, GiB, MiB, newId, SystemClock, SystemExec, waitFor } from '@rookery/core';
import { ContainerReconciler, RunnerService } from '@rookery/runner';
import {
  baseImage,
  MemoryProjectStore,
  outcome,
  testHost,
  type TestHost,
} from '@rookery/runner/testing';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const projectId = newId();
const quota = { diskBytes: 1 * GiB, memoryBytes: 96 * MiB, cpus: 1, pidsMax: 100 };
const log = createLogger('out-of-memory', 'silent');
const store = new MemoryProjectStore();
let volume: TestVolume;
let storage: BtrfsStorageDriver;
let host: TestHost;
let service: RunnerService;
let reconciler: ContainerReconciler;

beforeAll(async () => {
  volume = await loopbackVolume({ sizeBytes: 4 * GiB });
  const { volume: path, btrfsProgram } = volume;
  storage = new BtrfsStorageDriver(
    new SystemExec(),
    StorageOptions.parse({ volume: path, btrfsProgram }),
  );
  await storage.open();
  host = await testHost({ storage, cidr: '10.214.11.0/24' });
  const { driver, images } = host;
  service = new RunnerService({ driver, images, storage, store, log });
  const { runtime } = service;
  reconciler = new ContainerReconciler({ store, driver, runtime, clock: new SystemClock(), log });
  const fence = { projectId, generation: 1, operationId: newId(), attempt: 1 };
  const spec = { image: baseImage, quota, publicPorts: [] };
  await service.create(fence, spec);
  await service.start(fence, spec);
});

afterAll(async () => {
  await host?.destroy();
  await storage?.close();
  await volume?.destroy();
});

const run = async (script: string) =>
  outcome(await service.exec({ projectId, command: ['bash', '-c', script], env: {} }));
const problem = async () => (await service.get(projectId)).error;

describe('a project that wants more memory than it has', () => {
  it('says that a program was killed, once, while it runs on', async () => {
    expect(await problem()).toBeUndefined();
    expect((await run(`python3 -c "x = b'x' * (400 << 20)"`)).exit).toBe(137);
    await reconciler.run();
    const first = await problem();
    expect(first).toMatchObject({
      code: 'PROGRAM_OUT_OF_MEMORY',
      details: { outOfMemory: true, kills: 1, memoryBytes: quota.memoryBytes },
    });
    await reconciler.run();
    expect(await problem()).toEqual(first);
  });

  it('says with which status its container ended, and how often it was started again', async () => {
    const pid = await readFile(join(host.folder, 'run/projects', projectId, 'pid'), 'utf8');
    process.kill(Number(pid), 'SIGKILL');
    const ended = async () => (await host.driver.list())[0]?.state === 'exited';
    await waitFor('it has ended', ended, { timeoutMs: 10_000 });
    await reconciler.run();
    expect(await problem()).toMatchObject({
      code: 'CONTAINER_ENDED',
      // Memory had run out before.
      details: { exit: 137, restarts: 1, outOfMemory: true },
    });
    expect((await service.get(projectId)).state).toBe('running');
  });
});
