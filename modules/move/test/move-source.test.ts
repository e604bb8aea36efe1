import { describe, expect, it, jest } from '@jest/globals';
import { Clock, CodedError, newId, waitFor } from '@rookery/core';
import { loopback } from '@rookery/rpc/testing';
import { moveSource } from '@rookery/fleet/contract';
import {
  MoveSourceService,
  type MoveOptions,
  type MoveSourceClient,
  type OutgoingMove,
} from '@rookery/move';
import { LocalTransferSender } from '@rookery/move/testing';
import { BusyWorld } from './busy-world.js';
import { SlowPorts } from './slow-ports.js';
import { treeOf } from './small-storage.js';

/** Time passes when the test says so. */
class SetClock extends Clock {
  ms = 1_000_000;
  now(): number {
    return this.ms;
  }
  async delay(): Promise<void> {}
}

/** A source of its own over the first host's ports, each of which takes a while. */
async function slowSource(options: Partial<MoveOptions> = {}) {
  const busy = new BusyWorld();
  await busy.start();
  const { from, to } = busy;
  const slow = new SlowPorts();
  const clock = new SetClock();
  const receivers = new Map([[to.hostId, to.receiver]]);
  const service = new MoveSourceService(
    {
      storage: slow.wrap('storage', from.storage.driver),
      projects: slow.wrap('projects', from.projects),
      sender: slow.wrap(
        'sender',
        new LocalTransferSender(from.hostId, from.transferKey, receivers),
      ),
      journal: slow.wrap('journal', from.journal),
      gate: slow.wrap('gate', from.gate),
      clock,
    },
    { ...from.options, ...options },
  );
  const source: MoveSourceClient = loopback(moveSource, service);
  const { projectId, moveId } = busy;
  const call = (attempt = 1, generation = 1) => {
    return { fence: { projectId, generation, operationId: moveId, attempt }, moveId };
  };
  const sourceHostId = from.hostId;
  await busy.destination(to.hostId).prepare({
    ...call(),
    sourceHostId,
    sourceTransferKey: from.transferKey,
    spec: busy.spec,
    needBytes: 100,
    imageTree: treeOf(busy.spec.imageDigest),
  });
  const target = {
    hostId: to.hostId,
    sshHost: 'localhost',
    sshPort: 22,
    ingressKey: to.transferKey,
  };
  const copy = (roundsMax: number, attempt = 1) =>
    source.copy({ ...call(attempt), target, sendImage: true, roundsMax });
  const cutover = (attempt = 1) => source.cutover({ ...call(attempt), target });
  const row = async (): Promise<OutgoingMove> => (await from.journal.outgoing(moveId))!;
  return { busy, slow, clock, service, source, call, copy, cutover, target, row };
}
type World = Awaited<ReturnType<typeof slowSource>>;

/** Everything that was begun has ended, each thing after the one before. */
function expectInOrder({ slow }: World): string[] {
  expect(slow.early).toEqual([]);
  expect(slow.isIdle).toBe(true);
  const effects = slow.effects.splice(0).filter((each) => each !== 'send' && each !== 'freeze');
  return effects.filter((effect, at) => effect !== effects[at - 1]);
}

const saved = async ({ busy, row }: World, change: Partial<OutgoingMove>): Promise<void> =>
  busy.from.journal.saveOutgoing({ ...(await row()), ...change });

describe('the source of a move, step by step', () => {
  it('fences, holds requests, stops, and sends the last; an undo lifts all of it', async () => {
    const world = await slowSource();
    const { busy, source, call } = world;
    await world.copy(2);
    expect(expectInOrder(world)).toEqual(['saved copying']);
    const { manifest, wasRunning } = await world.cutover();
    expect(expectInOrder(world)).toEqual([
      'saved fenced',
      'fenceForMove',
      'saved fenced',
      'hold',
      'stopContainer',
      'saved fenced',
    ]);
    expect(wasRunning).toBe(true);
    expect(manifest).toStrictEqual({
      snapshots: (await busy.from.storage.listSnapshots(busy.projectId)).map((each) => {
        const { name, uuid, locked, createdAt } = each;
        return { name, uuid, locked, createdAt };
      }),
      final: { name: `move-${busy.moveId}-final`, uuid: expect.any(String) },
      persistence: { name: `move-${busy.moveId}-final`, uuid: expect.any(String) },
      imageDigest: busy.spec.imageDigest,
    });
    await source.resume({ ...call(), restart: true });
    expect(expectInOrder(world)).toEqual([
      'saved undoing',
      'unfence',
      'startContainer',
      'release',
      'saved undone',
    ]);
    expect(await world.row()).toMatchObject({ state: 'undone', pictures: [] });
    expect(await busy.from.storage.listTemporarySnapshots(busy.projectId)).toEqual([]);
    await source.resume({ ...call(), restart: true });
    expect(expectInOrder(world)).toEqual([]);
  });

  it('writes down that it retires before it removes the copy, and does so once', async () => {
    const world = await slowSource();
    const { busy, source, call } = world;
    const newUrl = 'http://elsewhere.test/';
    await world.copy(1);
    await world.cutover();
    expectInOrder(world);
    await source.retire({ ...call(), newUrl });
    // The pictures go before the volume that they are of.
    const removal = world.slow.effects.filter((each) => ['freeze', 'deleteVolume'].includes(each));
    expect(new Set(removal.slice(0, -1))).toEqual(new Set(['freeze']));
    expect(removal.at(-1)).toBe('deleteVolume');
    expect(expectInOrder(world)).toEqual([
      'saved retiring',
      'moved',
      'forget',
      'deleteVolume',
      'saved retired',
    ]);
    expect(await world.row()).toMatchObject({ state: 'retired', pictures: [], newUrl });
    expect(busy.from.gate.gone.get(busy.projectId)).toBe(newUrl);
    expect(busy.from.projects.forgotten.get(busy.projectId)).toBe(newUrl);
    await source.retire({ ...call(2), newUrl });
    expect(expectInOrder(world)).toEqual(['saved retired']);
  });

  it('removes what lies here of a project that it has forgotten already', async () => {
    const world = await slowSource();
    await world.busy.from.projects.forget(world.busy.projectId);
    await world.source.retire(world.call());
    expect(expectInOrder(world)).toEqual([
      'saved copying',
      'saved retiring',
      'moved',
      'deleteVolume',
      'saved retired',
    ]);
    expect(await world.row()).not.toHaveProperty('newUrl');
  });

  it('finishes what a crash left of undos and retirements, and leaves the others alone', async () => {
    const { signal } = new AbortController();
    for (const state of ['copying', 'fenced', 'undone', 'retired'] as const) {
      const world = await slowSource();
      await world.copy(1);
      await saved(world, { state });
      expectInOrder(world);
      await world.service.converge(signal);
      expect(expectInOrder(world)).toEqual([]);
    }
    const world = await slowSource();
    await world.copy(1);
    await saved(world, { state: 'undoing', wasRunning: true });
    expectInOrder(world);
    await world.service.converge(signal);
    expect(expectInOrder(world)).toEqual([
      'saved undoing',
      'unfence',
      'startContainer',
      'release',
      'saved undone',
    ]);
    await saved(world, { state: 'retiring' });
    await world.service.converge(signal);
    expect(expectInOrder(world).at(-1)).toBe('saved retired');
  });

  it.each([
    ['was not to run', { wasRunning: false }, true],
    ['was never fenced', {}, true],
    ['is not to be started', { wasRunning: true }, false],
  ])('does not start a project again that %s', async (_, change, restart) => {
    const world = await slowSource();
    await world.copy(1);
    await saved(world, change);
    await world.source.resume({ ...world.call(), restart });
    expect(expectInOrder(world)).not.toContain('startContainer');
    expect(await world.row()).toMatchObject({ state: 'undone' });
  });

  it('lets requests through again also when the project cannot be started now', async () => {
    const world = await slowSource();
    await world.copy(1);
    await world.cutover();
    const { projects, gate } = world.busy.from;
    projects.onStart = () => {
      throw new CodedError({ code: 'BUSY', message: 'x', status: 503, retryable: true });
    };
    const resumed = world.source.resume({ ...world.call(), restart: true });
    await expect(resumed).rejects.toMatchObject({ code: 'BUSY' });
    expect(gate.held.size).toBe(0);
    expect(await world.row()).toMatchObject({ state: 'undoing' });
  });

  it('remembers that the project ran, whatever a later try finds', async () => {
    const world = await slowSource();
    const { projects } = world.busy.from;
    jest.spyOn(projects, 'stopContainer').mockRejectedValueOnce(new Error('power cut'));
    await expect(world.cutover()).rejects.toThrow('power cut');
    const get = projects.get.bind(projects);
    projects.get = async (id) => ({ ...(await get(id))!, desiredRunning: false });
    expect(await world.cutover(2)).toMatchObject({ wasRunning: true });
  });

  it('tells of a project that it was not to run', async () => {
    const world = await slowSource();
    const { projects } = world.busy.from;
    const get = projects.get.bind(projects);
    projects.get = async (id) => ({ ...(await get(id))!, desiredRunning: false });
    expect(await world.cutover()).toMatchObject({ wasRunning: false });
  });
});

describe('a move that is over at its source', () => {
  it.each([
    ['undoing', 'MOVE_UNDONE'],
    ['undone', 'MOVE_UNDONE'],
    ['retiring', 'MOVE_COMMITTED'],
    ['retired', 'MOVE_COMMITTED'],
  ] as const)('%s: refuses what comes late with %s', async (state, code) => {
    const world = await slowSource();
    const { source, call } = world;
    await world.copy(1);
    await saved(world, { state });
    expectInOrder(world);
    await expect(world.copy(1)).rejects.toMatchObject({ code });
    await expect(world.cutover()).rejects.toMatchObject({ code });
    const other =
      code === 'MOVE_UNDONE' ? source.retire(call()) : source.resume({ ...call(), restart: true });
    await expect(other).rejects.toMatchObject({ code });
    expect(expectInOrder(world)).toEqual([]);
    expect(await world.row()).toMatchObject({ state });
  });
});

describe('what the source of a move says of a project', () => {
  it('is its size, image, snapshots and whether it is to run', async () => {
    const { busy, source, call } = await slowSource();
    const { storage, projects } = busy.from;
    const { usedBytes } = await storage.usage(busy.projectId);
    const { imageDigest } = busy.spec;
    const all = { usedBytes, imageDigest, snapshots: 2, running: true, tellsImageTree: true };
    expect(await source.describe(call())).toStrictEqual(all);
    const [get, pinned] = [projects.get.bind(projects), 'sha256:fedcba9876543210'];
    projects.get = async (id) => ({ ...(await get(id))!, imageDigest: pinned });
    expect(await source.describe(call())).toMatchObject({ imageDigest: pinned });
    projects.get = async (id) => {
      const { imageDigest: _, ...project } = (await get(id))!;
      return { ...project, desiredRunning: false };
    };
    expect(await source.describe(call())).toStrictEqual({ ...all, running: false });
    projects.get = async (id) => {
      const { imageDigest: _, ...project } = (await get(id))!;
      const { imageDigest: __, ...spec } = project.spec;
      return { ...project, spec };
    };
    expect(await source.describe(call())).not.toHaveProperty('imageDigest');
    storage.capabilities.snapshots = false;
    storage.listSnapshots = () => Promise.reject(new Error('this driver has none'));
    expect(await source.describe(call())).toMatchObject({ snapshots: 0 });
  });

  it('is refused to an older attempt, and of a project that is not its own', async () => {
    const world = await slowSource();
    const { source, call } = world;
    await world.copy(1, 2);
    await expect(source.describe(call(1))).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    const refusals = { 0: 'STALE_GENERATION', 2: 'MOVE_NOT_OWNER' };
    for (const [generation, code] of Object.entries(refusals)) {
      const refused = source.describe(call(2, Number(generation)));
      await expect(refused).rejects.toMatchObject({ code });
    }
  });
});

describe('the rounds of a copy', () => {
  const names = async ({ busy }: World): Promise<string[]> =>
    (await busy.from.storage.listTemporarySnapshots(busy.projectId)).map(({ name }) => name);

  it('are as many as asked, each drops the picture before the last, and the next goes on', async () => {
    const world = await slowSource();
    const { moveId } = world.busy;
    const first = await world.copy(3);
    const { rounds } = await world.row();
    expect(first).toEqual({
      rounds: 3,
      bytes: (await world.row()).confirmed.reduce((sum, { bytes }) => sum + bytes, 0),
      lastDeltaBytes: rounds.at(-1)!.bytes,
    });
    expect(await names(world)).toEqual([`move-${moveId}-3`]);
    expectInOrder(world);
    expect(await world.copy(3, 2)).toEqual({ ...first, bytes: 0 });
    expect((await world.copy(4, 2)).rounds).toBe(4);
    expect(await names(world)).toEqual([`move-${moveId}-4`]);
  });

  it('are one at least, and send no image that is not asked for', async () => {
    const world = await slowSource();
    const { source, call, target, busy } = world;
    const sent = { ...call(), target, sendImage: false, roundsMax: 1 };
    expect((await source.copy(sent)).rounds).toBe(1);
    expect(busy.from.storage.sent.map(({ kind }) => kind)).not.toContain('image');
    await source.copy({ ...sent, sendImage: true });
    expect(busy.from.storage.sent.map(({ kind }) => kind)).toContain('image');
  });

  it('end with the first that was small', async () => {
    const { lastDeltaBytes } = await (await slowSource()).copy(1);
    const enough = await slowSource({ deltaBytesGoal: lastDeltaBytes });
    expect((await enough.copy(3)).rounds).toBe(1);
    const less = await slowSource({ deltaBytesGoal: lastDeltaBytes - 1 });
    expect((await less.copy(3)).rounds).toBe(3);
  });

  it('end with the first that was quick', async () => {
    const counts = [];
    for (const deltaMsGoal of [100, 101]) {
      const world = await slowSource({ deltaMsGoal });
      const { storage } = world.busy.from;
      const freeze = storage.freeze.bind(storage);
      storage.freeze = (id, name) => {
        world.clock.ms += 100;
        return freeze(id, name);
      };
      counts.push((await world.copy(3)).rounds);
    }
    expect(counts).toEqual([3, 1]);
  });
});

describe('work of a move that hangs at its source', () => {
  async function hanging() {
    const world = await slowSource();
    let [reading, left] = [0, 0];
    world.busy.to.storage.receive = (_, __, options) => {
      reading += 1;
      return new Promise((_resolve, reject) => {
        const end = (): void => {
          left += 1;
          reject(new Error('aborted'));
        };
        options?.signal?.addEventListener('abort', () => setImmediate(end), { once: true });
      });
    };
    const copies = [world.copy(1), world.copy(1)].map((copy) =>
      copy.catch((error: unknown) => error),
    );
    await waitFor('the first one hangs', () => reading === 1, { timeoutMs: 5000, everyMs: 1 });
    return { ...world, copies, left: () => left };
  }

  it('is ended by an undo, also when the request came twice', async () => {
    const { source, call, copies, left } = await hanging();
    await source.resume({ ...call(), restart: true });
    expect(left()).toBe(1);
    for (const copy of copies) expect(await copy).toMatchObject({ code: 'STALE_ATTEMPT' });
  });

  it('has ended when the host stops', async () => {
    const { service, copies, left } = await hanging();
    await service.close();
    expect(left()).toBe(1);
    for (const copy of copies) expect(await copy).toMatchObject({ code: 'INTERRUPTED' });
  });

  it('is refused when a newer attempt came before it', async () => {
    const world = await slowSource();
    const { row } = world;
    await world.copy(1, 2);
    await expect(world.copy(1, 1)).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    expect(await row()).toMatchObject({ attempt: 2, projectId: world.busy.projectId });
    const unknown = { ...world.call(3), moveId: newId() };
    await world.source.resume({ ...unknown, restart: true });
    expect(await world.busy.from.journal.outgoing(unknown.moveId)).toMatchObject({
      state: 'undone',
      attempt: 3,
      generation: 1,
      updatedAt: world.clock.ms,
    });
  });
});
