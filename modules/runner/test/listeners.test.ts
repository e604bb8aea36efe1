import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Clock, createLogger, MiB, newId, waitFor } from '@rookery/core';
import type { ProjectListener, ProjectSpec } from '@rookery/core/contract';
import { ContainerReconciler, MemoryDriver, RunnerService } from '@rookery/runner';
import { awaitedPorts } from '@rookery/runner/contract';
import { MemoryImageStore, MemoryProjectStore } from '@rookery/runner/testing';
import { MemoryStorageDriver } from '@rookery/storage';
import { listeningPortsIn, listeningPortsOf } from '../src/podman/listening-ports.js';
import { listenersSeen } from '../src/listeners.js';

class ManualClock extends Clock {
  time = 1_000_000;
  now(): number {
    return this.time;
  }
  async delay(): Promise<void> {}
}

const quota = { diskBytes: 64 * MiB, memoryBytes: 64 * MiB, cpus: 1, pidsMax: 64 };
const spec: ProjectSpec = { image: 'debian:13', quota, publicPorts: [] };
const soon = { timeoutMs: 5_000, everyMs: 5 };

describe('what listens in a project', () => {
  let driver: MemoryDriver;
  let store: MemoryProjectStore;
  let storage: MemoryStorageDriver;
  let service: RunnerService;
  let reconciler: ContainerReconciler;
  let clock: ManualClock;
  let id: string;

  beforeEach(async () => {
    [driver, store, clock] = [new MemoryDriver(), new MemoryProjectStore(), new ManualClock()];
    storage = new MemoryStorageDriver();
    await storage.open();
    const log = createLogger('test', 'silent');
    const images = new MemoryImageStore();
    service = new RunnerService({ driver, images, storage, store, log, clock });
    reconciler = new ContainerReconciler({ store, driver, runtime: service.runtime, clock, log });
    id = newId();
    await service.create(fence(), spec);
  });
  afterEach(async () => {
    service.runtime.close();
    await storage.close();
  });

  const fence = () => ({ projectId: id, generation: 1, operationId: newId(), attempt: 1 });
  const start = (listeners?: ProjectListener[]) =>
    service.start(fence(), spec, undefined, listeners);
  const known = async () => (await store.get(id))?.listeners;
  /** Time goes on until somebody has looked. */
  const until = (what: string, expected: object[]) =>
    waitFor(
      what,
      async () => {
        clock.time += 100;
        return JSON.stringify(await known()) === JSON.stringify(expected);
      },
      soon,
    );

  it('is remembered with the time that it took, over stops and starts', async () => {
    await start();
    clock.time += 900;
    driver.listen(id, [8080]);
    await waitFor(
      'it was seen',
      async () => {
        clock.time += 10;
        return (await known())?.length === 1;
      },
      soon,
    );
    const [listener] = (await known())!;
    expect(listener).toMatchObject({ port: 8080, isUp: true });
    expect(listener!.startMs).toBeGreaterThanOrEqual(900);
    const { startMs } = listener!;
    await service.stop(fence(), 0);
    expect(await known()).toEqual([listener]);
    await start();
    expect(await known()).toEqual([{ port: 8080, startMs, isUp: false }]);
    expect((await store.get(id))?.startedAt).toBe(clock.time);
    driver.listen(id, [8080]);
    await waitFor(
      'it is up',
      async () => {
        clock.time += 100;
        return (await known())?.[0]?.isUp === true;
      },
      soon,
    );
  });

  it('is written down before a stop ends it, however short it was there', async () => {
    await start();
    driver.listen(id, [3000]);
    const view = await service.stop(fence(), 0);
    expect(view.listeners).toEqual([{ port: 3000, isUp: true, startMs: 0 }]);
  });

  it('is known when the container died without a word', async () => {
    await start();
    clock.time += 100_000;
    driver.listen(id, [5000]);
    await reconciler.run();
    driver.die(id);
    await reconciler.run();
    expect(await store.get(id)).toMatchObject({
      state: 'running',
      startedAt: clock.time,
      listeners: [{ port: 5000, startMs: 100_000, isUp: false }],
    });
  });

  it('is remembered when it ends before the container that is being stopped', async () => {
    await start();
    driver.listen(id, [8080]);
    await service.runtime.noteListeners(id);
    const stop = driver.stop.bind(driver);
    driver.stop = async (...input) => {
      driver.listen(id, []);
      await service.runtime.noteListeners(id);
      return stop(...input);
    };
    const { listeners } = await service.stop(fence(), 0);
    expect(listeners).toEqual([{ port: 8080, isUp: true, startMs: 0 }]);
  });

  it('is remembered when the container is told to stop while somebody looks', async () => {
    await start();
    driver.listen(id, [8080]);
    await service.runtime.noteListeners(id);
    let looks = 0;
    driver.listeningPorts = async () => {
      looks += 1;
      if (looks === 1) await store.change(id, (_record, save) => save({ state: 'stopping' }));
      return [];
    };
    await service.runtime.noteListeners(id);
    expect(looks).toBe(1);
    expect(await known()).toEqual([{ port: 8080, isUp: true, startMs: 0 }]);
  });

  it('is forgotten when it did not come up in its time', async () => {
    await start([{ port: 7000, startMs: 50, isUp: true }]);
    expect(await known()).toEqual([{ port: 7000, startMs: 50, isUp: false }]);
    await until('it is forgotten', []);
    expect(clock.time).toBeGreaterThan(1_010_000);
  });

  it('stays as it is when a project that runs is started again', async () => {
    await start();
    driver.listen(id, [8080]);
    await service.runtime.noteListeners(id);
    const before = await store.get(id);
    clock.time += 50;
    await start();
    expect(await store.get(id)).toMatchObject({
      startedAt: before!.startedAt,
      listeners: [{ port: 8080, isUp: true }],
    });
  });

  it('is taken from elsewhere only where nothing is known', async () => {
    await start();
    driver.listen(id, [8080]);
    await service.stop(fence(), 0);
    await start([{ port: 1, isUp: true }]);
    expect((await known())?.map(({ port }) => port)).toEqual([8080]);
  });

  it('waits with the ingress while an operation starts it again, for a bounded time', async () => {
    await start();
    await service.stop(fence(), 0, { startsAgain: true });
    expect((await store.get(id))?.startsAgainBy).toBe(clock.time + 15 * 60_000);
    await start();
    expect((await store.get(id))?.startsAgainBy).toBeNull();
    await service.stop(fence(), 0, { startsAgain: true });
    await service.stop(fence(), 0);
    expect((await store.get(id))?.startsAgainBy).toBeNull();
  });
});

/** Of a 64-bit kernel, as proc(5) has it: no process has a higher number. */
const pidMax = 2 ** 22;

describe('a process', () => {
  it('that has ended says nothing of what listens', async () => {
    expect(await listeningPortsOf(process.pid)).toBeInstanceOf(Array);
    expect(await listeningPortsOf(pidMax + 1)).toBeUndefined();
  });
});

describe('a port', () => {
  it.each([
    ['by default half a minute', {}, 30_000],
    ['three times as long as it took', { startMs: 8_000 }, 24_000],
    ['ten seconds at least', { startMs: 1 }, 10_000],
    ['two minutes at most', { startMs: 110_000 }, 120_000],
  ])('is waited for %s', (_, more, waitMs) => {
    const listener = { port: 80, isUp: false, ...more };
    expect(awaitedPorts([listener], 5_000)).toEqual([{ port: 80, until: 5_000 + waitMs }]);
    expect(awaitedPorts([{ ...listener, isUp: true }], 5_000)).toEqual([]);
    expect(listenersSeen([listener], [], waitMs - 1)).toEqual([listener]);
    expect(listenersSeen([listener], [], waitMs)).toEqual([]);
  });

  it('that came up by hand much later says nothing about the start', () => {
    expect(listenersSeen([], [80], 120_001)).toEqual([{ port: 80, isUp: true }]);
    const before = { port: 80, isUp: false, startMs: 7 };
    expect(listenersSeen([before], [80], 120_001)).toEqual([{ port: 80, isUp: true, startMs: 7 }]);
    expect(listenersSeen([{ ...before, isUp: true }], [], 1)).toEqual([]);
  });

  it('is one of so many', () => {
    const ports = Array.from({ length: 100 }, (_, n) => n + 1);
    expect(listenersSeen([], ports, 0)).toHaveLength(64);
  });

  it('is read from the kernel’s tables', () => {
    const tables = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt
   0: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000
   1: 0100007F:0BB8 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 00000000`;
    expect(listeningPortsIn(tables)).toEqual([22, 8081]);
  });
});
