import { describe, expect, it } from '@jest/globals';
import { CodedError, newId } from '@rookery/core';
import { moveProject, newSagaRecord, SagaExecutor, type MoveSagaTypes } from '@rookery/move';
import { MemorySagaStore, sagaTorture, type TortureWorld } from '@rookery/move/testing';
import { BusyWorld } from './busy-world.js';

const world = async (): Promise<TortureWorld<MoveSagaTypes>> => {
  const busy = new BusyWorld();
  await busy.start();
  return {
    ports: { authority: busy.authority, hosts: busy },
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
    { authority: busy.authority, hosts: busy },
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
});
