import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

/** What operators do about work that does not end by itself, and what must not need them. */
const operationsMax = 2;
let postgres: TestPostgres;
let hub: TestHub;
let a: FakeHost;
let b: FakeHost;
const hosts: FakeHost[] = [];

async function join(name: string): Promise<FakeHost> {
  const host = await FakeHost.join({ name, hubUrl: hub.url, joinToken: await hub.joinToken() });
  host.peers = () => hosts;
  hosts.push(host);
  return host;
}

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url, {}, { operationsMax });
  a = await join('a');
  b = await join('b');
});

afterEach(() => {
  for (const host of hosts) host.faults = [];
});

afterAll(async () => {
  for (const host of hosts) await host.disconnect();
  await hub?.close();
  await postgres?.close();
});

type Begun = { operation: Operation; project: Project };
const post = (path: string, body: object = {}) => hub.ok<Begun>('POST', path, { body });
const onA = (start = true) => hub.createProject({ host: 'a', start });

describe('work that waits for other work', () => {
  it('holds no worker: as many clones to another host as there are workers all end', async () => {
    const { id } = await onA();
    const release = a.hold('move.source.copy');
    const clones = await Promise.all(
      ['one', 'two', 'three'].map((name) => post(`/projects/${id}/clone`, { name, host: 'b' })),
    );
    release();
    for (const cloned of clones) {
      await hub.succeeded(cloned);
      expect((await hub.project(cloned.project.id)).hostId).toBe(b.hostId);
    }
  });

  it('ends at once when it is canceled', async () => {
    const { id } = await onA();
    const release = a.hold('move.source.copy');
    const cloned = await post(`/projects/${id}/clone`, { name: 'canceled', host: 'b' });
    const { id: operationId } = cloned.operation;
    const child = await waitForChild(operationId);
    await hub.ok('POST', `/operations/${operationId}/cancel`, { body: {} });
    expect(await hub.ended(operationId, 5000)).toMatchObject({ state: 'canceled' });
    release();
    await hub.ended(child.id);
  });
});

async function waitForChild(parentId: string): Promise<Operation> {
  return waitFor(
    'its move has begun',
    async () => {
      const { items } = await hub.ok<{ items: Operation[] }>('GET', '/operations');
      return items.find((each) => each.parentId === parentId);
    },
    { timeoutMs: 5000 },
  );
}
