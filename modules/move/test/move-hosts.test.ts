import { PassThrough, Readable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { CodedError, newId, waitFor } from '@rookery/core';
import { moveClaims, moveProject, newSagaRecord, SagaExecutor } from '@rookery/move';
import { MemorySagaStore } from '@rookery/move/testing';
import { BusyWorld } from './busy-world.js';
import { treeOf } from './small-storage.js';
import type { Wrap } from './two-hosts.js';

const fast = { firstMs: 1, maxMs: 2, attempts: 3 };

async function move(busy: BusyWorld) {
  const store = new MemorySagaStore();
  const operationId = newId();
  store.create(newSagaRecord(moveProject, { operationId, input: busy.input }));
  const executor = new SagaExecutor({ store, retry: fast, mustRetry: fast });
  const lease = store.claim(operationId);
  const { authority, debts, images } = busy;
  return executor.run(moveProject, { authority, debts, images, hosts: busy }, lease);
}

/** Fails the n-th call that the hosts' services make to any of their ports. */
class PortFault {
  calls = 0;
  struck = '';
  armed = false;

  constructor(
    private readonly nth: number,
    private readonly when: 'before' | 'after',
    private readonly retryable: boolean,
  ) {}

  readonly wrap: Wrap = (name, port) =>
    new Proxy(port, {
      get: (target, key, receiver) => {
        const value: unknown = Reflect.get(target, key, receiver);
        // Streams are made, not awaited: they break in tests of their own.
        if (typeof value !== 'function') return value;
        const stream = name === 'storage' && key === 'send';
        if (stream || !this.armed) return value.bind(target) as unknown;
        return async (...args: unknown[]) => {
          const call = (): unknown => (value as (...a: unknown[]) => unknown).apply(target, args);
          this.calls += 1;
          if (this.calls !== this.nth) return call();
          this.struck = `${name}.${String(key)}`;
          if (this.when === 'after') await call();
          throw new CodedError({
            code: 'PORT_FAULT',
            message: this.struck,
            status: 500,
            retryable: this.retryable,
          });
        };
      },
    });
}

/** More than a move makes: the last rounds strike nothing, which ends the loop. */
const callsMax = 300;

describe('a host whose ports fail at any call', () => {
  it.each([
    // After one call's effect is nearly before the next call's: samples do for the latter.
    ['before its effect, passingly', 'before', true, 7],
    ['after its effect, passingly', 'after', true, 2],
    ['before its effect, for good', 'before', false, 7],
    ['after its effect, for good', 'after', false, 1],
  ] as const)('keeps the invariants when one fails %s', async (_, when, retryable, every) => {
    let nth = 1;
    for (; nth <= callsMax; nth += every) {
      const fault = new PortFault(nth, when, retryable);
      const busy = new BusyWorld(fault.wrap);
      await busy.start();
      fault.armed = true;
      const outcome = await move(busy);
      fault.armed = false;
      if (fault.struck === '') break;
      if (fault.struck === 'projects.startContainer') await busy.reconcile();
      try {
        if (retryable) expect(outcome.status).toBe('succeeded');
        else expect(['succeeded', 'failed']).toContain(outcome.status);
        await busy.check(outcome);
      } catch (error) {
        throw new Error(`call ${nth}, ${fault.struck}: ${JSON.stringify(outcome)}`, {
          cause: error,
        });
      }
    }
    expect(nth).toBeGreaterThan(100);
    expect(nth).toBeLessThan(callsMax);
  });
});

async function started(): Promise<BusyWorld> {
  const busy = new BusyWorld();
  await busy.start();
  return busy;
}

function call(busy: BusyWorld, attempt = 1, generation = 1) {
  const { projectId, moveId } = busy;
  return { fence: { projectId, generation, operationId: moveId, attempt }, moveId };
}

function preparation(busy: BusyWorld, attempt = 1) {
  return {
    ...call(busy, attempt),
    sourceHostId: busy.from.hostId,
    sourceTransferKey: busy.from.transferKey,
    spec: busy.spec,
    needBytes: 100,
    imageTree: treeOf(busy.spec.imageDigest),
  };
}

const target = (busy: BusyWorld) => ({
  hostId: busy.to.hostId,
  sshHost: 'localhost',
  sshPort: 22,
  ingressKey: busy.to.transferKey,
});

/** A receive whose sender says nothing. */
const hanging = (signal?: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(new Error('aborted')), { once: true });
  });

describe('the source of a move', () => {
  it('refuses a cutover that comes late, after its undo, also of the same attempt', async () => {
    const busy = await started();
    const source = busy.source(busy.from.hostId);
    await source.resume({ ...call(busy), restart: true });
    for (const attempt of [1, 2]) {
      await expect(
        source.cutover({ ...call(busy, attempt), target: target(busy) }),
      ).rejects.toMatchObject({ code: 'MOVE_UNDONE' });
    }
    expect(busy.from.projects.running.has(busy.projectId)).toBe(true);
    expect(await busy.from.projects.isFencedBy(busy.projectId)).toBeUndefined();
  });

  it('refuses an older attempt and another generation', async () => {
    const busy = await started();
    const source = busy.source(busy.from.hostId);
    const given = { target: target(busy) };
    await expect(source.copy({ ...call(busy, 1, 0), ...given })).rejects.toMatchObject({
      code: 'STALE_GENERATION',
    });
    await expect(source.copy({ ...call(busy, 2, 7), ...given })).rejects.toMatchObject({
      code: 'MOVE_NOT_OWNER',
    });
    await expect(source.cutover({ ...call(busy, 1), ...given })).rejects.toMatchObject({
      code: 'STALE_ATTEMPT',
    });
  });

  it('shuts writers out before the container stops, until the project has gone', async () => {
    const busy = await started();
    const { projects, storage } = busy.from;
    const fences: unknown[] = [];
    /** What wants the project to run comes at the worst time, and its container writes. */
    const interfere = async (): Promise<void> => {
      fences.push(await projects.isFencedBy(busy.projectId));
      await busy.reconcile();
      busy.write();
    };
    const stop = projects.stopContainer.bind(projects);
    projects.stopContainer = async (id) => {
      await stop(id);
      await interfere();
    };
    const freeze = storage.freeze.bind(storage);
    storage.freeze = async (id, name) => {
      const frozen = await freeze(id, name);
      if (name.endsWith('-final')) await interfere();
      return frozen;
    };
    const outcome = await move(busy);
    expect(outcome.status).toBe('succeeded');
    expect(new Set(fences)).toEqual(new Set([busy.moveId]));
    await busy.check(outcome);
  });

  it('ends a copy that hangs before it undoes it', async () => {
    const busy = await started();
    const destination = busy.destination(busy.to.hostId);
    await destination.prepare(preparation(busy));
    let receiving = false;
    busy.to.storage.receive = (_, __, options) => {
      receiving = true;
      return hanging(options?.signal);
    };
    const source = busy.source(busy.from.hostId);
    const copy = source.copy({ ...call(busy), target: target(busy), sendImage: true });
    const ended = copy.catch((error: unknown) => error);
    await waitFor('the stream hangs', () => receiving, { timeoutMs: 5000, everyMs: 1 });
    await source.resume({ ...call(busy), restart: true });
    expect(await ended).toMatchObject({ code: 'STALE_ATTEMPT' });
    expect(await busy.from.storage.listTemporarySnapshots(busy.projectId)).toEqual([]);
  });

  it('does not remove a project that came back meanwhile', async () => {
    const busy = await started();
    await busy.from.projects.forget(busy.projectId);
    await busy.from.projects.adopt(busy.projectId, 3, busy.spec, true);
    await busy.source(busy.from.hostId).retire(call(busy));
    expect(busy.from.storage.volumes.has(busy.projectId)).toBe(true);
    expect(await busy.from.projects.get(busy.projectId)).toMatchObject({ generation: 3 });
  });

  it('finishes by itself what a crash left of a retirement', async () => {
    const busy = await started();
    const { storage } = busy.from;
    const deleteVolume = storage.deleteVolume.bind(storage);
    storage.deleteVolume = () => Promise.reject(new Error('power cut'));
    await expect(busy.source(busy.from.hostId).retire(call(busy))).rejects.toThrow('power cut');
    storage.deleteVolume = deleteVolume;
    await busy.from.source.converge(new AbortController().signal);
    expect(storage.volumes.size).toBe(0);
    expect(await busy.from.journal.outgoing(busy.moveId)).toMatchObject({ state: 'retired' });
  });
});

describe('the destination of a move', () => {
  it('promises the same room only once', async () => {
    const busy = await started();
    busy.to.storage.freeBytes = 150;
    const destination = busy.destination(busy.to.hostId);
    const other = { ...preparation(busy), moveId: newId() };
    const both = await Promise.allSettled([
      destination.prepare(preparation(busy)),
      destination.prepare({ ...other, fence: { ...other.fence, projectId: newId() } }),
    ]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await destination.abandon(call(busy));
    await destination.prepare({
      ...other,
      moveId: newId(),
      fence: { ...other.fence, projectId: newId() },
    });
  });

  it('refuses a prepare that comes late, after its undo', async () => {
    const busy = await started();
    const destination = busy.destination(busy.to.hostId);
    await destination.abandon(call(busy));
    await expect(destination.prepare(preparation(busy))).rejects.toMatchObject({
      code: 'MOVE_UNDONE',
    });
    expect(busy.to.storage.landings.size).toBe(0);
    expect(await busy.to.receiver.authorize(busy.from.hostId, busy.from.transferKey)).toBeNull();
  });

  it('refuses a project that it owns, and one whose old copy still lies here', async () => {
    const busy = await started();
    await expect(
      busy.destination(busy.from.hostId).prepare(preparation(busy)),
    ).rejects.toMatchObject({ code: 'MOVE_SAME_HOST' });
    busy.to.storage.create(busy.projectId, {}, {});
    await expect(busy.destination(busy.to.hostId).prepare(preparation(busy))).rejects.toMatchObject(
      {
        code: 'MOVE_STALE_COPY',
        message: expect.stringContaining(
          `rookery host copies delete ${busy.to.hostId} ${busy.projectId}`,
        ),
      },
    );
  });

  it('does not activate before the commit', async () => {
    const busy = await started();
    const destination = busy.destination(busy.to.hostId);
    await destination.prepare(preparation(busy));
    const manifest = { snapshots: [], final: { name: 'x', uuid: newId() } };
    await expect(
      destination.activate({ ...call(busy), manifest, spec: busy.spec, start: true }),
    ).rejects.toMatchObject({ code: 'STALE_GENERATION' });
    expect(await busy.to.projects.get(busy.projectId)).toBeUndefined();
  });

  it('tells the storage reconciler what is still needed', async () => {
    const busy = await started();
    await busy.destination(busy.to.hostId).prepare(preparation(busy));
    expect(await moveClaims(busy.to.journal)).toMatchObject({
      moves: [busy.moveId],
      images: [busy.spec.imageDigest],
    });
    await busy.source(busy.from.hostId).copy({
      ...call(busy),
      target: target(busy),
      sendImage: true,
    });
    const { frozen } = await moveClaims(busy.from.journal);
    for (const { name } of await busy.from.storage.listTemporarySnapshots(busy.projectId)) {
      expect(frozen).toContainEqual({ projectId: busy.projectId, name });
    }
    await busy.destination(busy.to.hostId).abandon(call(busy));
    expect((await moveClaims(busy.to.journal)).moves).toEqual([]);
  });
});

describe('the receiver of a move', () => {
  const never = new AbortController().signal;
  const stream = () => Readable.from([Buffer.from('{}')]);

  it('lets in only the announced source, move and image', async () => {
    const busy = await started();
    await busy.destination(busy.to.hostId).prepare(preparation(busy));
    const { receiver } = busy.to;
    const { moveId } = busy;
    const sourceHostId = busy.from.hostId;
    const good = { moveId, sourceHostId, kind: 'snapshot' as const, name: newId() };
    const bad = [
      { ...good, sourceHostId: newId() },
      { ...good, moveId: newId() },
      { ...good, kind: 'image' as const, name: 'sha256:ffffffffffffffff' },
    ];
    for (const request of bad) {
      await expect(receiver.receive(request, stream(), never)).rejects.toMatchObject({
        code: 'MOVE_NOT_AUTHORIZED',
      });
    }
    expect(await receiver.authorize(newId(), busy.from.transferKey)).toBeNull();
    expect(await receiver.authorize(sourceHostId, busy.to.transferKey)).toBeNull();
    expect(await receiver.authorize(sourceHostId, busy.from.transferKey)).toEqual([moveId]);
  });

  it('refuses a subvolume that arrives as another one', async () => {
    const busy = await started();
    await busy.destination(busy.to.hostId).prepare(preparation(busy));
    const { moveId } = busy;
    const lie = Readable.from([Buffer.from(JSON.stringify({ uuid: newId(), files: {} }))]);
    await expect(
      busy.to.receiver.receive(
        { moveId, sourceHostId: busy.from.hostId, kind: 'snapshot', name: newId() },
        lie,
        never,
      ),
    ).rejects.toMatchObject({ code: 'MOVE_VERIFY_FAILED' });
  });

  it('ends a stream when the move is undone, by whatever process', async () => {
    const busy = await started();
    await busy.destination(busy.to.hostId).prepare(preparation(busy));
    busy.to.storage.receive = (_, __, options) => hanging(options?.signal);
    const endless = new PassThrough();
    const received = busy.to.receiver.receive(
      { moveId: busy.moveId, sourceHostId: busy.from.hostId, kind: 'delta', name: newId() },
      endless,
      never,
    );
    await busy.destination(busy.to.hostId).abandon(call(busy));
    await expect(received).rejects.toMatchObject({ code: 'MOVE_NOT_AUTHORIZED' });
    expect(endless.destroyed).toBe(true);
    expect(busy.to.storage.landings.size).toBe(0);
  });
});
