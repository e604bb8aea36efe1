import { describe, expect, it } from '@jest/globals';
import { CodedError, newId } from '@rookery/core';
import {
  moveProject,
  newSagaRecord,
  payMoveDebt,
  SagaExecutor,
  type MoveDebt,
  type MoveSagaTypes,
} from '@rookery/move';
import { MemorySagaStore, sagaTorture, type TortureWorld } from '@rookery/move/testing';
import { BusyWorld } from './busy-world.js';

const world = async (): Promise<TortureWorld<MoveSagaTypes>> => {
  const busy = new BusyWorld();
  await busy.start();
  return {
    ports: { authority: busy.authority, hosts: busy, debts: busy.debts, images: busy.images },
    input: busy.input,
    check: (outcome) => busy.check(outcome),
  };
};

describe('moving a project, under torture', () => {
  for (const { name, run } of sagaTorture({ saga: moveProject, world })) it(name, run);
});

const fast = { firstMs: 1, maxMs: 2, attempts: 3 };

function run(busy: BusyWorld, input: MoveSagaTypes['input'] = busy.input) {
  const store = new MemorySagaStore();
  const operationId = newId();
  store.create(newSagaRecord(moveProject, { operationId, input }));
  const executor = new SagaExecutor({ store, retry: fast, mustRetry: fast });
  return executor.run(
    moveProject,
    { authority: busy.authority, hosts: busy, debts: busy.debts, images: busy.images },
    store.claim(operationId),
  );
}

describe('moving a project', () => {
  it('sends each snapshot and round relative to the one before', async () => {
    const busy = new BusyWorld();
    await busy.start();
    expect(await run(busy, { ...busy.input, roundsMax: 2 })).toMatchObject({
      status: 'succeeded',
      result: { hostId: busy.to.hostId, generation: 2 },
    });
    expect(busy.from.storage.sent).toEqual([
      { kind: 'image', incremental: false },
      { kind: 'snapshot', incremental: false },
      { kind: 'snapshot', incremental: true },
      { kind: 'persistence', incremental: false },
      { kind: 'frozen', incremental: true },
      { kind: 'persistence', incremental: true },
      { kind: 'frozen', incremental: true },
      { kind: 'persistence', incremental: true },
      { kind: 'frozen', incremental: true },
    ]);
  });

  it('does not send an image that the destination has', async () => {
    const busy = new BusyWorld();
    await busy.start();
    busy.to.storage.images.add(busy.spec.imageDigest);
    await run(busy);
    expect(busy.from.storage.sent.map(({ kind }) => kind)).not.toContain('image');
  });

  it('tells the destination what listened, as it was when the container had been stopped', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const { projects } = busy.from;
    const listeners = [{ port: 8080, isUp: true, startMs: 1500 }];
    const stop = projects.stopContainer.bind(projects);
    projects.stopContainer = async (id) => {
      await stop(id);
      projects.listeners = listeners;
    };
    expect((await run(busy)).status).toBe('succeeded');
    expect(await busy.to.projects.get(busy.projectId)).toMatchObject({ listeners });
  });

  it('moves back again', async () => {
    const busy = new BusyWorld();
    await busy.start();
    await run(busy);
    const moveId = newId();
    busy.plan(moveId, busy.to, busy.from, 2);
    const back = await run(busy, {
      moveId,
      projectId: busy.projectId,
      fromHostId: busy.to.hostId,
      toHostId: busy.from.hostId,
    });
    expect(back).toMatchObject({ status: 'succeeded', result: { generation: 3 } });
    expect(busy.from.storage.volumes.get(busy.projectId)?.live).toEqual(busy.promised);
    expect(busy.to.storage.volumes.size).toBe(0);
  });

  it('brings over a project that cannot start, and back one that can no more', async () => {
    const cannot = (): never => {
      throw new CodedError({ code: 'BROKEN', message: 'x', status: 500, retryable: false });
    };
    const busy = new BusyWorld();
    await busy.start();
    busy.to.projects.onStart = cannot;
    expect(await run(busy)).toMatchObject({
      status: 'succeeded',
      result: { startError: { code: 'BROKEN' } },
    });
    expect(await busy.to.projects.get(busy.projectId)).toMatchObject({ desiredRunning: true });
    expect(busy.from.storage.volumes.size).toBe(0);

    const each = new BusyWorld();
    await each.start();
    each.to.projects.onStart = () => {
      const code = 'CONTAINER_START_FAILED';
      throw new CodedError({ code, message: 'each time', status: 500, retryable: true });
    };
    expect(await run(each)).toMatchObject({
      status: 'succeeded',
      result: { startError: { code: 'CONTAINER_START_FAILED' } },
    });

    const back = new BusyWorld();
    await back.start();
    back.from.projects.onStart = cannot;
    back.authority.commit = () => Promise.reject(new Error('refused'));
    expect(await run(back)).toMatchObject({ status: 'failed' });
    expect(await back.from.projects.isFencedBy(back.projectId)).toBeUndefined();
    expect(back.from.gate.held.size).toBe(0);
  });

  it('leaves a stopped project stopped', async () => {
    const busy = new BusyWorld();
    await busy.start();
    await busy.from.projects.forget(busy.projectId);
    await busy.from.projects.adopt(busy.projectId, 1, busy.spec, false);
    expect(await run(busy)).toMatchObject({ status: 'succeeded' });
    expect(busy.to.projects.running.size).toBe(0);
    expect(await busy.to.projects.get(busy.projectId)).toMatchObject({ desiredRunning: false });
  });

  it('refuses a destination without room, and one that ran full on the way', async () => {
    const busy = new BusyWorld();
    await busy.start();
    busy.to.storage.freeBytes = 10;
    const refused = await run(busy);
    expect(refused).toMatchObject({ status: 'failed', error: { code: 'DESTINATION_FULL' } });
    await busy.check(refused);

    const later = new BusyWorld();
    await later.start();
    let calls = 0;
    later.onCall = () => {
      later.write();
      calls += 1;
      if (calls === 3) later.to.storage.freeBytes = 10;
    };
    const full = await run(later);
    expect(full).toMatchObject({ status: 'failed', error: { code: 'DESTINATION_FULL' } });
    await later.check(full);
  });

  it('takes along a snapshot that was made, and leaves one that was replaced, while copying', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const { storage } = busy.from;
    let calls = 0;
    const replaced = storage.deleteSnapshot.bind(storage);
    busy.onCall = () => {
      calls += 1;
      // The call of cutover: everything else has been copied.
      if (calls === 4) {
        void replaced(busy.projectId, 'monday');
        storage.write(busy.projectId, { 'home/late': 'y' });
        busy.promised['home/late'] = 'y';
        void storage.createSnapshot(busy.projectId, 'monday');
      }
    };
    expect(await run(busy)).toMatchObject({ status: 'succeeded' });
    const arrived = busy.to.storage.volumes.get(busy.projectId)?.snapshots;
    expect([...(arrived?.keys() ?? [])].sort()).toEqual(['monday', 'tuesday']);
    expect(arrived?.get('monday')?.files).toEqual(busy.promised);
  });

  it('does not commit what is not there', async () => {
    const busy = new BusyWorld();
    await busy.start();
    let calls = 0;
    busy.onCall = () => {
      calls += 1;
      // The call of verify: something happened to what had arrived.
      if (calls === 5) {
        const landing = busy.to.storage.landings.get(busy.moveId);
        const item = [...(landing?.items ?? [])].find(([name]) => name.startsWith('snapshot.'));
        if (item) item[1].readOnly = false;
      }
    };
    const outcome = await run(busy);
    expect(outcome).toMatchObject({ status: 'failed', error: { code: 'MOVE_VERIFY_FAILED' } });
    await busy.check(outcome);
  });

  const away = () =>
    Promise.reject(
      new CodedError({ code: 'HOST_OFFLINE', message: 'x', status: 409, retryable: true }),
    );
  const { signal } = new AbortController();

  it('ends without a destination that went away after the fence, and owes it the rest', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const destination = busy.destination.bind(busy);
    busy.destination = (id) => ({ ...destination(id), verify: away, abandon: away });
    const outcome = await run(busy);
    expect(outcome).toMatchObject({ status: 'failed', error: { code: 'HOST_OFFLINE' } });
    expect(busy.from.projects.running.has(busy.projectId)).toBe(true);
    expect(await busy.from.projects.isFencedBy(busy.projectId)).toBeUndefined();
    expect(busy.debts.debts).toMatchObject([{ kind: 'abandon', hostId: busy.to.hostId }]);
    expect(busy.to.storage.landings.size).toBe(1);
    busy.destination = destination;
    for (const debt of busy.debts.debts) await payMoveDebt(busy, debt, { signal });
    await busy.check(outcome);
  });

  it('ends without a source that went away after the commit, and owes it the removal', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const source = busy.source.bind(busy);
    busy.source = (id) => ({ ...source(id), retire: away });
    const outcome = await run(busy);
    expect(outcome).toMatchObject({ status: 'succeeded' });
    expect(busy.debts.debts).toMatchObject([{ kind: 'retire', hostId: busy.from.hostId }]);
    busy.source = source;
    for (const debt of busy.debts.debts) await payMoveDebt(busy, debt, { signal });
    await busy.check(outcome);
  });

  it('is taken back by its source when the destination is lost after the commit', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const destination = busy.destination.bind(busy);
    busy.destination = (id) => ({ ...destination(id), activate: away });
    expect(await run(busy)).toMatchObject({ status: 'stuck' });
    expect(await busy.from.projects.isFencedBy(busy.projectId)).toBe(busy.moveId);
    const fence = { projectId: busy.projectId, generation: 1, operationId: newId(), attempt: 9 };
    const takeBack = { generation: 3, spec: busy.spec };
    const debt = { kind: 'resume', hostId: busy.from.hostId, moveId: busy.moveId, fence, takeBack };
    for (let n = 0; n < 2; n += 1) await payMoveDebt(busy, debt as MoveDebt, { signal });
    expect(await busy.from.projects.get(busy.projectId)).toMatchObject({
      generation: 3,
      state: 'running',
      desiredRunning: true,
    });
    expect(await busy.from.projects.isFencedBy(busy.projectId)).toBeUndefined();
    expect(busy.from.gate.held.size).toBe(0);
  });
});
