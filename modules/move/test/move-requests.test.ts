import { describe, expect, it, jest } from '@jest/globals';
import { CodedError, newId } from '@rookery/core';
import { moveProject, newSagaRecord, SagaExecutor } from '@rookery/move';
import { MemorySagaStore } from '@rookery/move/testing';
import { BusyWorld } from './busy-world.js';
import { treeOf } from './small-storage.js';

const once = { firstMs: 1, maxMs: 1, attempts: 1 };

function move(busy: BusyWorld, roundsMax?: number, moveId = busy.moveId) {
  const store = new MemorySagaStore();
  const operationId = newId();
  const input = { ...busy.input, moveId, ...(roundsMax !== undefined && { roundsMax }) };
  store.create(newSagaRecord(moveProject, { operationId, input }));
  const executor = new SagaExecutor({ store, retry: once, mustRetry: once });
  const ports = { authority: busy.authority, hosts: busy, debts: busy.debts, images: busy.images };
  return executor.run(moveProject, ports, store.claim(operationId));
}

const coded = (code: string) =>
  new CodedError({ code, message: code, status: 503, retryable: false });

describe('what a move asks of its hosts', () => {
  it.each([
    ['SERVICE_UNAVAILABLE', 'DESTINATION_OFFLINE'],
    ['CONAT_ROUTE_MISSING', 'DESTINATION_OFFLINE'],
    ['DESTINATION_FULL', 'DESTINATION_FULL'],
  ])('says of a destination that answers %s: %s', async (answer, code) => {
    const busy = new BusyWorld();
    await busy.start();
    const answers = jest.spyOn(busy.to.destination, 'prepare').mockRejectedValue(coded(answer));
    expect(await move(busy)).toMatchObject({ status: 'failed', error: { code } });
    expect(answers).toHaveBeenCalled();
  });

  it('names the image that the source has, and that it must be sent', async () => {
    const busy = new BusyWorld();
    await busy.start();
    // The hub has not heard of it yet.
    const { imageDigest: _, ...spec } = busy.spec;
    const load = busy.authority.loadMove.bind(busy.authority);
    busy.authority.loadMove = async (moveId) => ({ ...(await load(moveId)), spec });
    const prepare = jest.spyOn(busy.to.destination, 'prepare');
    const copy = jest.spyOn(busy.from.source, 'copy');
    const activate = jest.spyOn(busy.to.destination, 'activate');
    expect(await move(busy, 3)).toMatchObject({ status: 'succeeded' });
    const { imageDigest } = busy.spec;
    expect(prepare.mock.lastCall?.[0]).toMatchObject({ spec: { imageDigest } });
    expect(copy.mock.lastCall?.[0]).toMatchObject({ sendImage: true, roundsMax: 3 });
    expect(activate.mock.lastCall?.[0]).toMatchObject({ spec: { imageDigest }, start: true });
  });

  it('sends no image that nobody has pinned, and in the usual number of rounds', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const { imageDigest: _, ...spec } = busy.spec;
    const load = busy.authority.loadMove.bind(busy.authority);
    busy.authority.loadMove = async (moveId) => ({ ...(await load(moveId)), spec });
    const { projects } = busy.from;
    await projects.forget(busy.projectId);
    await projects.adopt(busy.projectId, 1, spec, true);
    await projects.startContainer(busy.projectId);
    const prepare = jest.spyOn(busy.to.destination, 'prepare');
    const copy = jest.spyOn(busy.from.source, 'copy');
    const activate = jest.spyOn(busy.to.destination, 'activate');
    expect(await move(busy)).toMatchObject({ status: 'succeeded' });
    expect(prepare.mock.lastCall?.[0].spec).not.toHaveProperty('imageDigest');
    expect(copy.mock.lastCall?.[0]).toMatchObject({ sendImage: false, roundsMax: 5 });
    expect(activate.mock.lastCall?.[0].spec).not.toHaveProperty('imageDigest');
  });

  describe('of an image that the destination lacks', () => {
    it('asks the source what it holds only when nobody has said so yet', async () => {
      const busy = new BusyWorld();
      await busy.start();
      const ask = jest.spyOn(busy.from.source, 'imageTree');
      const prepare = jest.spyOn(busy.to.destination, 'prepare');
      expect(await move(busy)).toMatchObject({ status: 'succeeded' });
      expect(ask).toHaveBeenCalledTimes(1);
      const imageTree = treeOf(busy.spec.imageDigest);
      expect([...busy.images.trees]).toEqual([[busy.spec.imageDigest, imageTree]]);
      expect(prepare.mock.lastCall?.[0]).toMatchObject({ imageTree });

      const other = new BusyWorld();
      await other.start();
      other.images.trees.set(other.spec.imageDigest, treeOf(other.spec.imageDigest));
      const again = jest.spyOn(other.from.source, 'imageTree');
      expect(await move(other)).toMatchObject({ status: 'succeeded' });
      expect(again).not.toHaveBeenCalled();
    });

    it('takes the hub’s word, not the source’s, and stays when it cannot have it', async () => {
      const busy = new BusyWorld();
      await busy.start();
      const { imageDigest } = busy.spec;
      busy.images.trees.set(imageDigest, treeOf(busy.spec.imageDigest));
      busy.from.storage.tampered.add(imageDigest);
      const outcome = await move(busy);
      expect(outcome).toMatchObject({ status: 'failed', error: { code: 'MOVE_IMAGE_REFUSED' } });
      expect(busy.to.storage.images.size).toBe(0);
      await busy.check(outcome);

      busy.to.fetchImage = async (digest) => void busy.to.storage.images.add(digest);
      const moveId = newId();
      busy.plan(moveId);
      const fetched = await move(busy, undefined, moveId);
      expect(fetched).toMatchObject({ status: 'succeeded' });
    });

    /** A source of an earlier release. */
    async function withEarlierSource(): Promise<BusyWorld> {
      const busy = new BusyWorld();
      await busy.start();
      const tell = busy.from.source.describe.bind(busy.from.source);
      const earlier: typeof tell = async (input) => {
        const { tellsImageTree: _, ...said } = await tell(input);
        return said as Awaited<ReturnType<typeof tell>>;
      };
      jest.spyOn(busy.from.source, 'describe').mockImplementation(earlier);
      return busy;
    }

    it('takes none of a source that cannot say what it holds', async () => {
      const busy = await withEarlierSource();
      const copy = jest.spyOn(busy.from.source, 'copy');
      const outcome = await move(busy);
      expect(outcome).toMatchObject({ status: 'failed', error: { code: 'MOVE_IMAGE_REFUSED' } });
      expect(copy).not.toHaveBeenCalled();
      await busy.check(outcome);

      const other = await withEarlierSource();
      other.to.fetchImage = async (digest) => void other.to.storage.images.add(digest);
      const sent = jest.spyOn(other.from.source, 'copy');
      expect(await move(other)).toMatchObject({ status: 'succeeded' });
      expect(sent.mock.lastCall?.[0]).toMatchObject({ sendImage: false });
    });

    it('waits for a destination that restarts while it fetches', async () => {
      const busy = new BusyWorld();
      await busy.start();
      busy.images.trees.set(busy.spec.imageDigest, `tree1:${'0'.repeat(64)}`);
      const away = new CodedError({ ...coded('HOST_OFFLINE').toJSON(), retryable: true });
      busy.to.fetchImage = () => Promise.reject(away);
      const outcome = await move(busy);
      expect(outcome).toMatchObject({ status: 'failed', error: { code: 'HOST_OFFLINE' } });
    });
  });

  it('shows each state as it is entered, with what was sent until then', async () => {
    const busy = new BusyWorld();
    await busy.start();
    const shown = jest.spyOn(busy.authority, 'setState');
    const cutover = jest.spyOn(busy.from.source, 'cutover');
    const copy = jest.spyOn(busy.from.source, 'copy');
    const outcome = await move(busy);
    const copied = (await copy.mock.results[0]!.value) as { bytes: number; rounds: number };
    const { bytes, rounds } = copied;
    const last = (await cutover.mock.results[0]!.value) as { bytes: number };
    const all = bytes + last.bytes;
    expect(outcome).toMatchObject({ status: 'succeeded', result: { bytes: all } });
    const calls = shown.mock.calls as readonly (readonly unknown[])[];
    expect(calls.map(([, , state, sent]) => [state, sent])).toStrictEqual([
      ['preparing', {}],
      ['copying', {}],
      ['cutover', { bytes, rounds }],
      ['verifying', { bytes: all, rounds }],
      ['committing', { bytes: all, rounds }],
      ['activating', { bytes: all, rounds }],
      ['cleaning', { bytes: all, rounds }],
      ['done', undefined],
    ]);
  });
});
