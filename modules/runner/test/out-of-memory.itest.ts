import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { readFile } from 'node:fs/promises';
import { totalmem } from 'node:os';
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
const sliceBytes = 320 * MiB;
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
  // All projects together get 320 MiB.
  const memoryReserveBytes = totalmem() - sliceBytes;
  host = await testHost({ storage, cidr: '10.214.11.0/24', driver: { memoryReserveBytes } });
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

const run = async (script: string, id = projectId) =>
  outcome(await service.exec({ projectId: id, command: ['bash', '-c', script], env: {} }));
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

describe('projects that together want more memory than their host gives them', () => {
  it('are held to it: one program of theirs ends, and the host goes on answering', async () => {
    const { memorySlice } = host.driver.capabilities;
    expect(memorySlice).toMatchObject({ bytes: sliceBytes });
    const others = [newId(), newId()];
    for (const id of others) {
      const fence = { projectId: id, generation: 1, operationId: newId(), attempt: 1 };
      // Each may have as much as all together.
      const spec = {
        image: baseImage,
        quota: { ...quota, memoryBytes: sliceBytes },
        publicPorts: [],
      };
      await service.create(fence, spec);
      await service.start(fence, spec);
    }
    // Touched, held until the other has its own, or until one of them was ended for it.
    const eat = `python3 -c "
import time
x = b'x' * (220 << 20)
open('/scratch/full', 'w')
time.sleep(60)"`;
    const eaters = others.map((id) => run(eat, id));
    const first = await Promise.race(eaters);
    expect(first.exit).toBe(137);
    await reconciler.run();
    const views = await Promise.all([projectId, ...others].map((one) => service.get(one)));
    expect(views.map(({ state }) => state)).toEqual(['running', 'running', 'running']);
    // What was ended was said where it ran; the others have no part in it.
    const told = views.slice(1).filter(({ error }) => error?.code === 'PROGRAM_OUT_OF_MEMORY');
    expect(told).toHaveLength(1);
    const used = await Promise.all(others.map((id) => host.driver.stats(id)));
    expect(used.reduce((sum, one) => sum + (one?.memoryBytes ?? 0), 0)).toBeLessThan(sliceBytes);
    for (const id of others) {
      await service.stop({ projectId: id, generation: 1, operationId: newId(), attempt: 1 }, 0);
    }
    await Promise.all(eaters);
  });
});
