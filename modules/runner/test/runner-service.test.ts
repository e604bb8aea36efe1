import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Clock, createLogger, MiB, newId, waitFor } from '@rookery/core';
import type { Fence, Progress, ProjectSpec } from '@rookery/core/contract';
import {
  ContainerReconciler,
  MemoryDriver,
  parseImageRef,
  RunnerErrors,
  RunnerService,
} from '@rookery/runner';
import { MemoryImageStore, MemoryProjectStore } from '@rookery/runner/testing';
import { MemoryStorageDriver } from '@rookery/storage';
import { overlayKey } from '../src/podman/runner-id.js';

class ManualClock extends Clock {
  time = 0;
  now(): number {
    return this.time;
  }
  async delay(): Promise<void> {}
}

/** Counts starts and lets a test hold them open. */
class SlowDriver extends MemoryDriver {
  starts = 0;
  stops = 0;
  gate: Promise<void> = Promise.resolve();
  failure: Error | undefined;

  override async start(spec: Parameters<MemoryDriver['start']>[0]) {
    this.starts += 1;
    await this.gate;
    if (this.failure) throw this.failure;
    return super.start(spec);
  }

  override async stop(id: string): Promise<void> {
    this.stops += 1;
    return super.stop(id);
  }
}

let driver: SlowDriver;
let images: MemoryImageStore;
let store: MemoryProjectStore;
let storage: MemoryStorageDriver;
let service: RunnerService;
let reconciler: ContainerReconciler;
let clock: ManualClock;

const quota = { diskBytes: 64 * MiB, memoryBytes: 64 * MiB, cpus: 1, pidsMax: 64 };
const spec: ProjectSpec = { image: 'debian:13', quota, publicPorts: [] };
const fenceOf = (projectId: string, change: Partial<Fence> = {}): Fence => ({
  projectId,
  generation: 1,
  operationId: newId(),
  attempt: 1,
  ...change,
});

/** A new service over the same disk, as after a crash of its process. */
function boot(): void {
  const log = createLogger('test', 'silent');
  service = new RunnerService({ driver, images, storage, store, log });
  reconciler = new ContainerReconciler({ store, driver, runtime: service.runtime, clock, log });
}

beforeEach(async () => {
  driver = new SlowDriver();
  images = new MemoryImageStore();
  store = new MemoryProjectStore();
  storage = new MemoryStorageDriver();
  await storage.open();
  clock = new ManualClock();
  boot();
});

afterEach(() => storage.close());

async function created(): Promise<string> {
  const id = newId();
  await service.create(fenceOf(id), spec);
  return id;
}

async function running(): Promise<string> {
  const id = await created();
  await service.start(fenceOf(id), spec);
  return id;
}

const stateOf = async (id: string) => (await service.get(id)).state;

describe('a project', () => {
  it('is created once, started, stopped and deleted', async () => {
    const id = newId();
    const seen: Progress[] = [];
    const fence = fenceOf(id);
    expect(await service.create(fence, spec, (progress) => seen.push(progress))).toMatchObject({
      state: 'created',
      spec: { imageDigest: 'sha256:00000000' },
    });
    expect(seen.map(({ step }) => step)).toEqual(['pull']);
    expect(await service.create(fence, spec)).toMatchObject({ state: 'created' });
    expect(await service.start(fenceOf(id), spec)).toMatchObject({ state: 'running' });
    expect(await service.stop(fenceOf(id), 0)).toMatchObject({ state: 'stopped' });
    await service.delete(fenceOf(id));
    expect(await storage.volume(id)).toBeUndefined();
    await expect(service.get(id)).rejects.toMatchObject({ code: 'PROJECT_NOT_HERE' });
    await service.delete(fenceOf(id));
    expect(store.history).toEqual(['starting', 'running', 'stopping', 'stopped']);
  });

  it('shares one start among all who ask', async () => {
    const id = await created();
    const starts = await Promise.all([1, 2, 3].map(() => service.start(fenceOf(id), spec)));
    expect(starts.map(({ state }) => state)).toEqual(['running', 'running', 'running']);
    expect(driver.starts).toBe(1);
  });

  it('lets a stop wait for the start under way, and a start for the stop', async () => {
    const id = await created();
    let open!: () => void;
    driver.gate = new Promise((resolve) => (open = resolve));
    const start = service.start(fenceOf(id), spec);
    await waitFor('it starts', () => driver.starts === 1, { timeoutMs: 1000, everyMs: 1 });
    const stop = service.stop(fenceOf(id), 0);
    open();
    await Promise.all([start, stop]);
    const again = service.start(fenceOf(id), spec);
    expect(await again).toMatchObject({ state: 'running' });
    expect(store.history).toEqual([
      'starting',
      'running',
      'stopping',
      'stopped',
      'starting',
      'running',
    ]);
  });

  it('keeps why it could not start, and starts when that is over', async () => {
    const id = newId();
    images.failures.set('docker.io/library/debian:13', RunnerErrors.IMAGE_DENIED({ image: 'x' }));
    await expect(service.create(fenceOf(id), spec)).rejects.toMatchObject({ code: 'IMAGE_DENIED' });
    expect(await service.get(id)).toMatchObject({
      state: 'error',
      error: { code: 'IMAGE_DENIED' },
    });
    images.failures.clear();
    await service.create(fenceOf(id), spec);
    expect(await service.get(id)).toMatchObject({ state: 'created' });
    driver.failure = RunnerErrors.CONTAINER_START_FAILED({ projectId: id, reason: 'x' });
    await expect(service.start(fenceOf(id), spec)).rejects.toMatchObject({ status: 500 });
    expect(await stateOf(id)).toBe('error');
    driver.failure = undefined;
    const view = await service.start(fenceOf(id), spec);
    expect(view.state).toBe('running');
    expect(view.error).toBeUndefined();
  });

  it('keeps the digest of its image until the reference changes', async () => {
    const id = newId();
    const pinned = { ...spec, imageDigest: 'sha256:11111111' };
    await service.create(fenceOf(id), pinned);
    await service.start(fenceOf(id), spec);
    expect((await service.get(id)).spec.imageDigest).toBe('sha256:11111111');
    await service.stop(fenceOf(id), 0);
    const view = await service.start(fenceOf(id), { ...spec, image: 'debian:12' });
    expect(view.spec.imageDigest).toBe('sha256:00000000');
  });

  it('refuses an image that makes no sense before anything is done', async () => {
    const bad = { ...spec, image: 'Not An Image' };
    await expect(service.create(fenceOf(newId()), bad)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
    });
    expect(await store.list()).toEqual([]);
  });

  it('is cloned with its image and without touching the origin', async () => {
    const [from, to] = [await created(), newId()];
    await service.clone(fenceOf(to), { projectId: from }, spec);
    expect(await service.get(to)).toMatchObject({ spec: { imageDigest: 'sha256:00000000' } });
    expect(await storage.volume(to)).toBeDefined();
  });
});

describe('the fence', () => {
  it('refuses an older and a newer generation, and an older attempt', async () => {
    const id = newId();
    await service.create(fenceOf(id, { generation: 5 }), spec);
    for (const generation of [4, 6]) {
      await expect(service.start(fenceOf(id, { generation }), spec)).rejects.toMatchObject({
        code: 'STALE_GENERATION',
      });
    }
    const operationId = newId();
    await service.start(fenceOf(id, { generation: 5, operationId, attempt: 2 }), spec);
    const old = fenceOf(id, { generation: 5, operationId, attempt: 1 });
    await expect(service.stop(old, 0)).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    await expect(service.create(fenceOf(id, { generation: 4 }), spec)).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    });
    expect(await stateOf(id)).toBe('running');
  });

  it('starts no project on nothing when its files are gone', async () => {
    const id = newId();
    await service.create(fenceOf(id), spec);
    const made = await storage.volume(id);
    await rm(made!.paths.persistence, { recursive: true });
    const missing = { code: 'VOLUME_MISSING', retryable: false };
    await expect(service.start(fenceOf(id), spec)).rejects.toMatchObject(missing);
    await storage.deleteVolume(id);
    await expect(service.start(fenceOf(id), spec)).rejects.toMatchObject(missing);
    expect(await storage.volume(id)).toBeUndefined();
    // Its owner sees it, and what to do about it.
    const view = await service.get(id);
    expect(view).toMatchObject({ state: 'error', error: { code: 'VOLUME_MISSING' } });
    expect(view.error?.message).toContain(`rookery backup restore ${id} BACKUP --replace`);
  });

  it('refuses a start of a superseded attempt after its owner’s stop', async () => {
    const id = newId();
    await service.create(fenceOf(id), spec);
    const start = newId();
    await service.start(fenceOf(id, { operationId: start, attempt: 2 }), spec);
    await service.stop(fenceOf(id), 0);
    const late = service.start(fenceOf(id, { operationId: start, attempt: 1 }), spec);
    await expect(late).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    expect(await stateOf(id)).toBe('stopped');
  });

  it('refuses what an operation sent before the next one began, also once it is removed', async () => {
    const id = newId();
    const create = fenceOf(id, { operationId: newId(), claim: 1 });
    await service.create(create, spec);
    const start = fenceOf(id, { operationId: newId(), claim: 2 });
    await service.start(start, spec);
    await service.stop(fenceOf(id, { operationId: newId(), claim: 3 }), 0);
    // The newest attempt of its operation, twice in the network: the operation has ended since.
    await expect(service.start(start, spec)).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    expect(await store.get(id)).toMatchObject({ desiredState: 'stopped', state: 'stopped' });
    await service.delete(fenceOf(id, { operationId: newId(), claim: 4 }));
    await expect(service.create(create, spec)).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    expect(await storage.volume(id)).toBeUndefined();
  });

  it('lets a newer generation delete, since this copy is of the past, and no older one', async () => {
    const id = newId();
    await service.create(fenceOf(id, { generation: 5 }), spec);
    await expect(service.delete(fenceOf(id, { generation: 4 }))).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    });
    await service.delete(fenceOf(id, { generation: 6 }));
    expect(await store.get(id)).toBeUndefined();
  });

  it('refuses what it does not know', async () => {
    const fence = fenceOf(newId());
    const code = { code: 'PROJECT_NOT_HERE' };
    await expect(service.start(fence, spec)).rejects.toMatchObject(code);
    await expect(service.stop(fence, 0)).rejects.toMatchObject(code);
    await expect(service.update(fence, spec)).rejects.toMatchObject(code);
  });

  it('lets nobody write while a move or a restore holds the project', async () => {
    const id = await running();
    for (const [column, code] of [
      ['fencedBy', 'PROJECT_BUSY_MOVING'],
      ['restoringBy', 'PROJECT_BUSY_RESTORING'],
    ] as const) {
      await store.change(id, (_, save) => save({ [column]: newId() }));
      const refusal = { code, retryable: true };
      await expect(service.start(fenceOf(id), spec)).rejects.toMatchObject(refusal);
      await expect(service.update(fenceOf(id), spec)).rejects.toMatchObject(refusal);
      await expect(service.delete(fenceOf(id))).rejects.toMatchObject(refusal);
      await expect(
        service.exec({ projectId: id, command: ['true'], env: {} }),
      ).rejects.toMatchObject(refusal);
      await store.change(id, (_, save) => save({ [column]: null }));
    }
  });

  it('lets nobody write to what was stopped to be archived, until the same operation says so', async () => {
    const id = await running();
    const fence = fenceOf(id);
    await service.stop(fence, 0, { writers: 'shut-out' });
    const refusal = { code: 'PROJECT_BUSY_ARCHIVING', retryable: true };
    await expect(service.runtime.start(id)).rejects.toMatchObject(refusal);
    const clone = service.clone(fenceOf(newId()), { projectId: id }, spec);
    await expect(clone).rejects.toMatchObject(refusal);
    const input = { projectId: id, command: ['true'], env: {} };
    await expect(service.exec(input)).rejects.toMatchObject(refusal);
    await service.stop(fence, 0, { writers: 'let-in' });
    expect(await service.start(fence, spec)).toMatchObject({ state: 'running' });
  });

  it('refuses a start that was waiting when the move shut writers out', async () => {
    const id = await running();
    let release!: () => void;
    const busy = new Promise<void>((resolve) => (release = resolve));
    const stop = service.runtime.exclusively(id, () => busy);
    const start = service.start(fenceOf(id), { ...spec, publicPorts: [80] });
    const letIn = async () => (await store.get(id))?.spec.publicPorts.length === 1;
    await waitFor('the start has been let in', letIn, { timeoutMs: 1000 });
    await store.change(id, (_, save) => save({ fencedBy: newId() }));
    release();
    await stop;
    await expect(start).rejects.toMatchObject({ code: 'PROJECT_BUSY_MOVING' });
  });

  it('lets the move itself stop the container and start it again', async () => {
    const id = await running();
    await store.change(id, (_, save) => save({ fencedBy: newId() }));
    const session = await service.exec
      .call(service, { projectId: id, command: ['cat'], env: {} })
      .catch(() => undefined);
    expect(session).toBeUndefined();
    await service.stopContainer(id);
    expect(await driver.list()).toEqual([]);
    await service.ensureRunning(id);
    expect(await stateOf(id)).toBe('running');
  });
});

describe('the reconciler', () => {
  const kinds = async () => (await reconciler.run()).map(({ kind }) => kind);

  it('does nothing when all is as it should be', async () => {
    await running();
    await created();
    expect(await kinds()).toEqual([]);
  });

  it('adopts containers that survived, also in the middle of their start', async () => {
    const id = await running();
    await store.change(id, (_, save) => save({ state: 'starting', address: null }));
    boot();
    expect(await kinds()).toEqual(['adopt']);
    expect(await store.get(id)).toMatchObject({ state: 'running', address: '127.0.0.1' });
    expect(driver.starts).toBe(1);
  });

  it('forgets the way to a container that a reboot has taken, before anything is started', async () => {
    const [gone, alive] = [await running(), await running()];
    await store.change(gone, (_, save) => save({ linkIndex: 7 }));
    await driver.stop(gone);
    boot();
    await reconciler.sweep();
    expect(await store.get(gone)).toMatchObject({
      state: 'running',
      address: null,
      linkIndex: null,
    });
    expect(await store.get(alive)).toMatchObject({ state: 'running', address: '127.0.0.1' });
    expect(driver.starts).toBe(2);
    expect(await kinds()).toEqual(['start']);
  });

  it('starts what died, later each time it dies at once', async () => {
    const id = await running();
    driver.die(id);
    expect(await kinds()).toEqual(['start']);
    expect(await stateOf(id)).toBe('running');
    driver.die(id);
    expect(await kinds()).toEqual([]);
    clock.time += 60_000;
    expect(await kinds()).toEqual(['start']);
  });

  it('stops what should not run, and settles records of what is gone', async () => {
    const [one, other] = [await running(), await running()];
    await store.change(one, (_, save) => save({ desiredState: 'stopped', state: 'stopping' }));
    await driver.stop(other);
    await store.change(other, (_, save) => save({ desiredState: 'stopped', state: 'stopping' }));
    expect((await kinds()).sort()).toEqual(['settle', 'stop']);
    expect([await stateOf(one), await stateOf(other)]).toEqual(['stopped', 'stopped']);
    expect(await driver.list()).toEqual([]);
  });

  it('ends containers of projects that are not here', async () => {
    const id = await running();
    await store.remove(id);
    await reconciler.run();
    expect(await driver.list()).toEqual([]);
  });

  it('leaves a project alone that a move or a restore holds', async () => {
    const id = await running();
    await store.change(id, (_, save) => save({ fencedBy: newId() }));
    driver.die(id);
    expect(await kinds()).toEqual([]);
  });

  /** Other work holds the project while the reconciler plans; its outcome the plan cannot know. */
  async function planMeanwhile(id: string, task: () => Promise<unknown>): Promise<string[]> {
    let done!: Promise<string[]>;
    await service.runtime.exclusively(id, async () => {
      const records = store.list.bind(store);
      let planned = false;
      store.list = async () => {
        planned = true;
        return records();
      };
      done = kinds();
      await waitFor('it has planned', () => planned, { timeoutMs: 1000, everyMs: 1 });
      await task();
    });
    return done;
  }

  it.each([
    ['a stop of what is wanted again', 'stopped', { desiredState: 'running' }],
    ['a start of what nobody wants any more', 'running', { desiredState: 'stopped' }],
    ['a start of what a move has shut out', 'running', { fencedBy: newId() }],
    ['a start of what a restore has claimed', 'running', { restoringBy: newId() }],
  ] as const)('does not do what was planned before things changed: %s', async (...row) => {
    const [, wish, change] = row;
    const id = await running();
    await store.change(id, (_record, save) => save({ desiredState: wish }));
    if (wish === 'running') driver.die(id);
    const before = [driver.starts, driver.stops];
    const done = await planMeanwhile(id, () => store.change(id, (_, save) => save(change)));
    expect(done).toEqual([]);
    expect([driver.starts, driver.stops]).toEqual(before);
  });

  it('does not start again what was started while it planned', async () => {
    const id = await running();
    driver.die(id);
    expect(await planMeanwhile(id, () => service.runtime.startNow(id))).toEqual([]);
    expect(driver.starts).toBe(2);
  });

  it('tries the others when one fails', async () => {
    const [bad, good] = [await running(), await running()];
    driver.die(bad);
    driver.die(good);
    const start = driver.start.bind(driver);
    driver.start = async (input) => {
      if (input.projectId === bad) throw RunnerErrors.NETWORK_FULL({ cidr: 'x' });
      return start(input);
    };
    expect(await kinds()).toEqual(['start']);
    expect([await stateOf(bad), await stateOf(good)]).toEqual(['error', 'running']);
  });
});

describe('a project whose root filesystem is broken', () => {
  it('is stopped by a start in the other mode alone, and tells the mode', async () => {
    const id = await running();
    const rescued = await service.start(fenceOf(id), { ...spec, rescue: true });
    expect([rescued.state, rescued.spec.rescue, driver.stops]).toEqual(['running', true, 1]);
    await service.start(fenceOf(id), { ...spec, rescue: true });
    expect(driver.stops).toBe(1);
    boot();
    expect(await reconciler.run()).toEqual([]);
    expect(await driver.list()).toMatchObject([{ rescue: true }]);
    expect((await service.start(fenceOf(id), spec)).spec.rescue).toBe(undefined);
    expect(driver.stops).toBe(2);
    expect(await driver.list()).toMatchObject([{ rescue: false }]);
  });

  it('is begun anew while it stands still, and only its present image’s', async () => {
    const id = await running();
    const overlay = (await storage.volume(id))?.paths.overlay ?? '';
    const reset = () => service.resetRootfs(id, { keepAs: 'kept' });
    await expect(reset()).rejects.toMatchObject({ code: 'PROJECT_NOT_STOPPED' });
    await service.stop(fenceOf(id), 0);
    const key = overlayKey(parseImageRef(spec.image).normalized);
    for (const layer of [key, 'other']) {
      await mkdir(join(overlay, layer, 'upper'), { recursive: true });
    }
    await reset();
    await reset();
    expect(await readdir(overlay)).toEqual(['other']);
    expect((await storage.listSnapshots(id)).map(({ name }) => name)).toEqual(['kept']);
  });
});
