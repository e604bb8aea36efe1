import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Clock, createLogger, MiB, newId, waitFor } from '@rookery/core';
import type { Egress, ProjectSpec } from '@rookery/core/contract';
import { ContainerReconciler, MemoryDriver, RunnerService } from '@rookery/runner';
import { MemoryImageStore, MemoryProjectStore } from '@rookery/runner/testing';
import { MemoryStorageDriver } from '@rookery/storage';
import type { ContainerDriver, ContainerStatus } from '../src/container.driver.js';

class ManualClock extends Clock {
  time = 1_000_000;
  now(): number {
    return this.time;
  }
  async delay(): Promise<void> {}
}

const quota = { diskBytes: 64 * MiB, memoryBytes: 64 * MiB, cpus: 1, pidsMax: 64 };
const spec: ProjectSpec = { image: 'debian:13', quota, publicPorts: [] };
const second = 1000;

/** Everything that a reconciler does, over containers in memory. */
describe('the reconciler of containers', () => {
  let driver: MemoryDriver;
  let store: MemoryProjectStore;
  let storage: MemoryStorageDriver;
  let service: RunnerService;
  let reconciler: ContainerReconciler;
  let clock: ManualClock;

  beforeEach(async () => {
    driver = new MemoryDriver();
    store = new MemoryProjectStore();
    storage = new MemoryStorageDriver();
    await storage.open();
    clock = new ManualClock();
    const log = createLogger('test', 'silent');
    const images = new MemoryImageStore();
    service = new RunnerService({ driver, images, storage, store, log, clock });
    reconciler = new ContainerReconciler({ store, driver, runtime: service.runtime, clock, log });
  });
  afterEach(async () => {
    jest.restoreAllMocks();
    await storage.close();
  });

  async function running(): Promise<string> {
    const id = newId();
    const fence = { projectId: id, generation: 1, operationId: newId(), attempt: 1 };
    await service.create(fence, spec);
    await service.start(fence, spec);
    return id;
  }
  const kinds = async () => (await reconciler.run()).map(({ kind }) => kind);
  const record = async (id: string) => (await store.get(id))!;

  /** What its containers say from now on, beside what they are. */
  function seen(id: string, more: Partial<ContainerStatus>): void {
    const list = driver.list.bind(driver);
    driver.list = async () =>
      (await list()).map((one) => (one.projectId === id ? { ...one, ...more } : one));
  }

  /** Each change of a record takes a while, as on a disk. */
  function slowStore(): void {
    const change = store.change.bind(store);
    store.change = async (...args) => {
      await new Promise(setImmediate);
      return change(...args);
    };
  }

  it('starts what died in rescue mode in that mode, whatever changed its quota meanwhile', async () => {
    const id = await running();
    const fence = () => ({ projectId: id, generation: 1, operationId: newId(), attempt: 1 });
    await service.start(fence(), { ...spec, rescue: true });
    await service.update(fence(), spec);
    expect((await service.get(id)).spec.rescue).toBe(true);
    driver.die(id);
    expect(await kinds()).toEqual(['start']);
    expect(await driver.list()).toMatchObject([{ projectId: id, state: 'running', rescue: true }]);
    // The wish was written down, and then the process died.
    await store.change(id, (_, save) => save({ spec }));
    expect(await kinds()).toEqual(['stop']);
    clock.time += 60 * second;
    expect(await kinds()).toEqual(['start']);
    expect(await driver.list()).toMatchObject([{ projectId: id, rescue: false }]);
    expect(await kinds()).toEqual([]);
  });

  it('runs once for all who ask at the same time, and anew for those who ask later', async () => {
    const list = jest.spyOn(store, 'list');
    const [one, other] = [reconciler.run(), reconciler.run()];
    expect(await one).toBe(await other);
    const once = list.mock.calls.length;
    await reconciler.run();
    expect(list.mock.calls).toHaveLength(2 * once);
  });

  it('stops with time to end well', async () => {
    const id = await running();
    await store.change(id, (_, save) => save({ desiredState: 'stopped' }));
    const stop = jest.spyOn(driver as ContainerDriver, 'stop');
    slowStore();
    expect(await kinds()).toEqual(['stop']);
    expect(stop.mock.calls).toEqual([[id, { graceMs: 10 * second }]]);
    expect(await record(id)).toMatchObject({ state: 'stopped', startedAt: null });
  });

  it('has written down what it adopts, stops and settles before it says so', async () => {
    const [adopted, settled] = [await running(), await running()];
    seen(adopted, { address: '10.0.0.9', linkIndex: 4 });
    await driver.stop(settled);
    await store.change(settled, (_, save) => save({ desiredState: 'stopped' }));
    slowStore();
    expect((await kinds()).sort()).toEqual(['adopt', 'settle']);
    expect(await record(adopted)).toMatchObject({ address: '10.0.0.9', linkIndex: 4 });
    expect(await record(settled)).toMatchObject({ state: 'stopped', address: null });
    expect(await kinds()).toEqual([]);
  });

  it('works on four projects at once, and on no more', async () => {
    const ids = await Promise.all(Array.from({ length: 9 }, running));
    for (const id of ids) driver.die(id);
    let [now, most] = [0, 0];
    let open!: () => void;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const start = driver.start.bind(driver);
    driver.start = async (input) => {
      now += 1;
      most = Math.max(most, now);
      await gate;
      await new Promise(setImmediate);
      now -= 1;
      return start(input);
    };
    const done = kinds();
    await waitFor('four are started', () => now === 4, { timeoutMs: 5000, everyMs: 1 });
    open();
    expect(await done).toHaveLength(9);
    expect(most).toBe(4);
  });

  describe('a container that dies', () => {
    /** Lets it die, or run for a while first; looks every five seconds until it is started. */
    async function startedAfterMs(id: string, ranMs = 0): Promise<number> {
      clock.time += ranMs;
      driver.die(id);
      const diedAt = clock.time;
      while ((await kinds()).length === 0) clock.time += 5 * second;
      return clock.time - diedAt;
    }
    const inSeconds = (times: readonly number[]): number[] => times.map((ms) => ms / second);

    it('is started later and later while it dies at once, five minutes at most', async () => {
      jest.spyOn(Math, 'random').mockReturnValue(1);
      const id = await running();
      const waits = [];
      for (let death = 0; death < 12; death += 1) waits.push(await startedAfterMs(id));
      // One second and 2ⁿ, as seen every five.
      expect(inSeconds(waits)).toEqual([0, 5, 5, 5, 10, 20, 35, 65, 130, 260, 305, 305]);
    });

    it('is started at once when it had run for a minute, and its next death is its first', async () => {
      jest.spyOn(Math, 'random').mockReturnValue(1);
      const id = await running();
      for (let death = 0; death < 6; death += 1) await startedAfterMs(id);
      expect(await startedAfterMs(id, 60 * second)).toBe(0);
      expect(await startedAfterMs(id)).toBe(5 * second);
      expect(await startedAfterMs(id, 59 * second)).toBe(0);
      expect(await startedAfterMs(id, 2 * second)).toBe(5 * second);
    });

    it('says why in its project, and how often', async () => {
      const id = await running();
      driver.die(id, 3);
      await reconciler.run();
      const details = { projectId: id, exit: 3, reason: 'not by the host', outOfMemory: false };
      expect((await record(id)).error).toMatchObject({
        code: 'CONTAINER_ENDED',
        details: { ...details, restarts: 1, at: clock.time },
      });
      clock.time += 60 * second;
      driver.die(id, 137, true);
      await reconciler.run();
      expect((await record(id)).error).toMatchObject({
        details: { exit: 137, reason: 'out of memory', outOfMemory: true, restarts: 2 },
      });
    });

    it('says that memory had run out when only the kills before its end tell', async () => {
      const id = await running();
      let kills = 1;
      driver.memoryKills = async () => kills;
      await reconciler.run();
      driver.die(id);
      kills = 0;
      await reconciler.run();
      expect((await record(id)).error).toMatchObject({
        code: 'CONTAINER_ENDED',
        details: { exit: 137, outOfMemory: true, restarts: 1 },
      });
    });

    it('says nothing of one that did not end by itself, and counts from another trouble on', async () => {
      const id = await running();
      await driver.stop(id);
      expect(await kinds()).toEqual(['start']);
      expect((await record(id)).error).toBeNull();
      clock.time += 60 * second;
      const error = { code: 'OTHER', message: 'x', status: 500, retryable: false };
      await store.change(id, (_, save) => save({ error: { ...error, details: { restarts: 7 } } }));
      driver.die(id, 0);
      await reconciler.run();
      expect((await record(id)).error).toMatchObject({ details: { exit: 0, restarts: 1 } });
    });
  });

  describe('programs that were killed for want of memory', () => {
    it('are noted when there are more of them, in a project that runs', async () => {
      const id = await running();
      let kills = 2;
      const asked = jest.spyOn(driver, 'memoryKills').mockImplementation(async () => kills);
      const write = jest.spyOn(service.runtime, 'note');
      await reconciler.run();
      expect((await record(id)).error).toMatchObject({
        code: 'PROGRAM_OUT_OF_MEMORY',
        details: { projectId: id, kills: 2, memoryBytes: quota.memoryBytes, at: clock.time },
      });
      await reconciler.run();
      expect(write).toHaveBeenCalledTimes(1);
      kills = 3;
      await reconciler.run();
      expect((await record(id)).error).toMatchObject({ details: { kills: 3 } });
      kills = 0;
      await reconciler.run();
      expect(write).toHaveBeenCalledTimes(2);
      asked.mockClear();
      await service.stopContainer(id);
      await store.change(id, (_, save) => save({ desiredState: 'stopped' }));
      await reconciler.run();
      expect(asked).not.toHaveBeenCalled();
    });

    it('are no matter of a container that was stopped meanwhile', async () => {
      const id = await running();
      let done!: Promise<unknown>;
      await service.runtime.exclusively(id, async () => {
        let isAsked = false;
        driver.memoryKills = async () => ((isAsked = true), 1);
        done = reconciler.run();
        await waitFor('it asks', () => isAsked, { timeoutMs: 5000, everyMs: 1 });
        await service.runtime.stopNow(id, 0);
      });
      await done;
      expect((await record(id)).error).toBeNull();
    });
  });

  describe('what is left of a project that is not here', () => {
    it('is removed with time to end well, and what is of others is not', async () => {
      const [gone, here] = [await running(), await running()];
      await store.remove(gone);
      const forget = jest.spyOn(driver, 'forget');
      await reconciler.run();
      expect(forget.mock.calls).toEqual([[gone, { graceMs: 10 * second }]]);
      expect((await driver.list()).map(({ projectId }) => projectId)).toEqual([here]);
    });

    it('stays when the project has come meanwhile', async () => {
      const id = await running();
      const known = (await store.get(id))!;
      await store.remove(id);
      let done!: Promise<unknown>;
      await service.runtime.exclusively(id, async () => {
        let isAsked = false;
        const all = driver.known.bind(driver);
        driver.known = async () => ((isAsked = true), all());
        done = reconciler.run();
        await waitFor('it asks', () => isAsked, { timeoutMs: 5000, everyMs: 1 });
        await store.change(id, (_, save) => save(known));
      });
      await done;
      expect(await driver.known()).toEqual([id]);
    });

    it('is swept before the host takes calls, with the ways to containers that are gone', async () => {
      const [gone, dead, alive, still] = await Promise.all([0, 1, 2, 3].map(running));
      await store.remove(gone!);
      await store.change(dead!, (_, save) => save({ linkIndex: 7 }));
      driver.die(dead!);
      await store.change(alive!, (_, save) => save({ linkIndex: 7 }));
      seen(alive!, { linkIndex: 7 });
      // It runs, but elsewhere than its record says.
      await store.change(still!, (_, save) => save({ linkIndex: 8 }));
      await reconciler.sweep();
      expect((await driver.list()).map(({ projectId }) => projectId)).not.toContain(gone);
      const noWay = { address: null, linkIndex: null };
      expect(await record(dead!)).toMatchObject(noWay);
      expect(await record(alive!)).toMatchObject({ address: '127.0.0.1', linkIndex: 7 });
      expect(await record(still!)).toMatchObject(noWay);
      const written = store.history.length;
      await reconciler.sweep();
      expect(store.history).toHaveLength(written);
    });

    it('forgets a way of which only half is known', async () => {
      const [linked, addressed] = [await running(), await running()];
      for (const id of [linked, addressed]) driver.die(id);
      // One that leaves while the list is gone through.
      const [list, left] = [store.list.bind(store), await record(await running())];
      await store.remove(left.projectId);
      store.list = async () => [left, ...(await list())];
      await store.change(linked, (_, save) => save({ address: null, linkIndex: 7 }));
      await store.change(addressed, (_, save) => save({ address: '10.0.0.1', linkIndex: null }));
      await reconciler.sweep();
      for (const id of [linked, addressed]) {
        expect(await record(id)).toMatchObject({ address: null, linkIndex: null });
      }
    });
  });

  describe('the network', () => {
    it('is repaired first, with the policies of those that have one', async () => {
      const [open, shut] = [await running(), await running()];
      const egress: Egress = { mode: 'none', allow: [] };
      await store.change(shut, (one, save) => save({ spec: { ...one!.spec, egress } }));
      driver.die(open);
      const order: string[] = [];
      const start = driver.start.bind(driver);
      driver.start = async (input) => {
        order.push('start');
        return start(input);
      };
      let policies: unknown;
      driver.repairNetwork = async (egressOf?: () => Promise<unknown>) => {
        await new Promise(setImmediate);
        policies = await egressOf?.();
        order.push('repair');
        return ['route'];
      };
      await reconciler.run();
      expect(order).toEqual(['repair', 'start']);
      expect(policies).toEqual(new Map([[shut, egress]]));
    });

    it('holds up nothing when it cannot be repaired', async () => {
      const id = await running();
      driver.die(id);
      driver.repairNetwork = () => Promise.reject(new Error('nft failed'));
      expect(await kinds()).toEqual(['start']);
    });
  });

  describe('what listens in containers', () => {
    it('is written down once a minute', async () => {
      const id = await running();
      const [other] = [await running()];
      await service.stopContainer(other);
      await store.change(other, (_, save) => save({ desiredState: 'stopped' }));
      const note = jest.spyOn(service.runtime, 'noteListeners');
      driver.listen(id, [8080]);
      for (const passMs of [0, 1, 59_998, 1, 59_999, 1]) {
        clock.time += passMs;
        await reconciler.run();
      }
      expect(note.mock.calls).toEqual([[id], [id], [id]]);
      expect((await record(id)).listeners).toMatchObject([{ port: 8080 }]);
    });

    it('is not asked of a container that does not run', async () => {
      const id = await running();
      driver.die(id);
      await store.change(id, (_, save) => save({ fencedBy: newId() }));
      const note = jest.spyOn(service.runtime, 'noteListeners');
      await reconciler.run();
      expect(note).not.toHaveBeenCalled();
    });
  });

  it('passes over a project that somebody works on, and looks after the others', async () => {
    const [busy, other] = [await running(), await running()];
    for (const id of [busy, other]) driver.die(id);
    await service.runtime.exclusively(busy, async () => {
      expect(await reconciler.run()).toMatchObject([{ kind: 'start', projectId: other }]);
    });
    expect(await reconciler.run()).toMatchObject([{ kind: 'start', projectId: busy }]);
  });

  it('looks after the others when one project gives trouble', async () => {
    const [one, other] = [await running(), await running()];
    const [stray, strayToo] = [await running(), await running()];
    for (const id of [stray, strayToo]) await store.remove(id);
    const trouble = (id: string): void => {
      if (id === one || id === stray) throw new Error('trouble');
    };
    driver.memoryKills = async (id?: string) => (trouble(id!), 1);
    const forget = driver.forget.bind(driver);
    driver.forget = async (id) => (trouble(id), forget(id));
    const ports = driver.listeningPorts.bind(driver);
    driver.listeningPorts = async (id) => (trouble(id), ports(id));
    const note = jest.spyOn(service.runtime, 'noteListeners');
    await reconciler.run();
    expect((await record(other)).error).toMatchObject({ code: 'PROGRAM_OUT_OF_MEMORY' });
    expect((await driver.known()).sort()).toEqual([one, other, stray].sort());
    expect(note.mock.calls.map(([id]) => id).sort()).toEqual([one, other, stray].sort());
  });
});
