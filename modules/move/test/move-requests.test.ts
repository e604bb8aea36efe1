import { describe, expect, it, jest } from '@jest/globals';
import { CodedError, newId } from '@rookery/core';
import { moveProject, newSagaRecord, SagaExecutor } from '@rookery/move';
import { MemorySagaStore } from '@rookery/move/testing';
import { BusyWorld } from './busy-world.js';

const once = { firstMs: 1, maxMs: 1, attempts: 1 };

function move(busy: BusyWorld, roundsMax?: number) {
  const store = new MemorySagaStore();
  const operationId = newId();
  const input = { ...busy.input, ...(roundsMax !== undefined && { roundsMax }) };
  store.create(newSagaRecord(moveProject, { operationId, input }));
  const executor = new SagaExecutor({ store, retry: once, mustRetry: once });
  const ports = { authority: busy.authority, hosts: busy, debts: busy.debts };
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
