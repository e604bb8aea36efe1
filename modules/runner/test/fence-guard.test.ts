import { beforeEach, describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import type { Fence, ProjectSpec } from '@rookery/core/contract';
import { FenceGuard } from '@rookery/runner';
import { MemoryProjectStore } from '@rookery/runner/testing';

const quota = { diskBytes: 1, memoryBytes: 1, cpus: 1, pidsMax: 1 };
const spec: ProjectSpec = { image: 'debian:13', quota, publicPorts: [] };
const projectId = newId();
const alone = { exclusive: true };
const busy = [
  ['fencedBy', 'PROJECT_BUSY_MOVING'],
  ['restoringBy', 'PROJECT_BUSY_RESTORING'],
] as const;

let store: MemoryProjectStore;
let guard: FenceGuard;

const fence = (more: Partial<Fence> = {}): Fence => ({
  projectId,
  generation: 5,
  operationId: newId(),
  attempt: 1,
  ...more,
});
const code = (name: string) => ({ code: name });

beforeEach(async () => {
  store = new MemoryProjectStore();
  guard = new FenceGuard(store);
  await store.change(projectId, (_, save) => save({ spec, generation: 5 }));
});

describe('the fence, for a call that works on a project', () => {
  it('gives the record, changed only where the call says so', async () => {
    const before = await store.get(projectId);
    expect(await guard.admit(fence(), alone)).toEqual(before);
    const wanted = { ...before, desiredState: 'running' };
    expect(await guard.admit(fence(), alone, { desiredState: 'running' })).toEqual(wanted);
    expect(await store.get(projectId)).toEqual(wanted);
  });

  it('remembers nobody whom it refuses', async () => {
    const operationId = newId();
    await store.change(projectId, (_, save) => save({ fencedBy: newId() }));
    const later = guard.admit(fence({ operationId, attempt: 2 }), alone, { state: 'running' });
    await expect(later).rejects.toMatchObject(code('PROJECT_BUSY_MOVING'));
    await store.change(projectId, (_, save) => save({ fencedBy: null }));
    expect(await guard.admit(fence({ operationId }), alone)).toMatchObject({ state: 'created' });
  });
});

describe('the fence, for a call that brings a project', () => {
  it('lets the owner’s generation and a newer one in, and no older one', async () => {
    expect(await guard.admitNew(fence(), { spec })).toMatchObject({ generation: 5 });
    const older = guard.admitNew(fence({ generation: 4 }), { spec });
    await expect(older).rejects.toMatchObject(code('STALE_GENERATION'));
    expect(await guard.admitNew(fence({ generation: 6 }), { spec })).toMatchObject({
      generation: 6,
    });
  });

  it.each(busy)(
    'refuses it while the project is held (%s), also when it is newer',
    async (...at) => {
      const [column, refusal] = at;
      await store.change(projectId, (_, save) => save({ [column]: newId() }));
      for (const generation of [5, 6]) {
        const refused = guard.admitNew(fence({ generation }), { spec });
        await expect(refused).rejects.toMatchObject(code(refusal));
      }
      expect(await store.get(projectId)).toMatchObject({ generation: 5 });
    },
  );

  it('remembers the attempt, and that it had the project for itself', async () => {
    const fresh = newId();
    const call = fence({ projectId: fresh, attempt: 2, claim: 7 });
    await guard.admitNew(call, { spec });
    const late = [
      { ...call, attempt: 1 },
      { ...call, operationId: newId(), attempt: 1, claim: 6 },
    ];
    for (const each of late) {
      const refused = guard.admitNew(each, { spec });
      await expect(refused).rejects.toMatchObject(code('STALE_ATTEMPT'));
    }
  });
});

describe('the fence, for a call that takes a project away', () => {
  it('lets the owner’s generation and a newer one in, and no older one', async () => {
    const older = guard.admitRemoval(fence({ generation: 4 }), { state: 'stopped' });
    await expect(older).rejects.toMatchObject(code('STALE_GENERATION'));
    for (const generation of [5, 6]) {
      const call = fence({ generation });
      const left = await guard.admitRemoval(call, { desiredState: 'stopped' });
      expect(left).toMatchObject({ generation: 5, desiredState: 'stopped' });
    }
  });

  it('says of a project that it does not know that it is not here', async () => {
    const unknown = guard.admitRemoval(fence({ projectId: newId() }), {});
    await expect(unknown).rejects.toMatchObject(code('PROJECT_NOT_HERE'));
  });

  it.each(busy)(
    'refuses it while the project is held (%s), also when it is newer',
    async (...at) => {
      const [column, refusal] = at;
      await store.change(projectId, (_, save) => save({ [column]: newId() }));
      for (const generation of [5, 6]) {
        const refused = guard.admitRemoval(fence({ generation }), {});
        await expect(refused).rejects.toMatchObject(code(refusal));
      }
    },
  );

  it('remembers the attempt, and that it had the project for itself', async () => {
    const call = fence({ attempt: 2, claim: 7 });
    await guard.admitRemoval(call, {});
    const late = [
      { ...call, attempt: 1 },
      { ...call, operationId: newId(), attempt: 1, claim: 6 },
    ];
    for (const each of late) {
      const refused = guard.admit(each, alone);
      await expect(refused).rejects.toMatchObject(code('STALE_ATTEMPT'));
    }
  });
});

describe('the fence, after an operation has shut out all others', () => {
  const archive = fence({ claim: 3 });

  beforeEach(() => store.change(projectId, (_, save) => save({ shutOutBy: archive.operationId })));

  it('lets in that operation alone, of those that may run beside others', async () => {
    const beside = { exclusive: false };
    const other = guard.admit(fence({ claim: 9 }), beside);
    await expect(other).rejects.toMatchObject(code('PROJECT_BUSY_ARCHIVING'));
    const own = await guard.admit(archive, beside, { state: 'stopped' });
    expect(own).toMatchObject({ shutOutBy: archive.operationId, state: 'stopped' });
    await guard.admitRemoval({ ...archive, generation: 6 }, {});
    expect(await store.get(projectId)).toMatchObject({ shutOutBy: archive.operationId });
  });

  it.each([
    ['works on it', (call: Fence) => guard.admit(call, alone)],
    ['brings it', (call: Fence) => guard.admitNew(call, { spec })],
    ['takes it away', (call: Fence) => guard.admitRemoval(call, {})],
  ])('is open again to a later one that has the project for itself and %s', async (_, call) => {
    await guard.admit(archive, alone);
    const stale = call(fence({ claim: 2 }));
    await expect(stale).rejects.toMatchObject(code('STALE_ATTEMPT'));
    expect(await store.get(projectId)).toMatchObject({ shutOutBy: archive.operationId });
    await call(fence({ claim: 4 }));
    expect(await store.get(projectId)).toMatchObject({ shutOutBy: null });
  });
});
