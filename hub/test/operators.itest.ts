import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { GiB, MiB, waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { FakeHost, type FakeHostOptions, type FakeRepository } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

/** What operators do about work that does not end by itself, and what must not need them. */
const operationsMax = 2;
let postgres: TestPostgres;
let hub: TestHub;
let a: FakeHost;
let b: FakeHost;
const hosts: FakeHost[] = [];
const repository: FakeRepository = new Map();

async function join(name: string, more: Partial<FakeHostOptions> = {}): Promise<FakeHost> {
  const joinToken = await hub.joinToken();
  const host = await FakeHost.join({ name, hubUrl: hub.url, joinToken, repository, ...more });
  host.peers = () => hosts;
  hosts.push(host);
  return host;
}

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url, {}, { operationsMax, debtsMs: 100 });
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

describe('a destination that is lost', () => {
  /** A move that is at `method` of one of its hosts. */
  async function moveTo(to: FakeHost, at: FakeHost, method: string) {
    const { id } = await onA();
    at.calls.length = 0;
    const release = at.hold(method);
    const { operation } = await post(`/projects/${id}/move`, { host: to.name });
    await waitFor(`${method} was called`, () => at.calls.includes(method), { timeoutMs: 10_000 });
    return { id, operation, release };
  }
  const runsOnA = (id: string, generation: number) =>
    waitFor(
      'the project runs on a again',
      async () => {
        const { fenced, state } = a.projects.get(id) ?? {};
        const shown = await hub.project(id);
        const isBack = shown.hostId === a.hostId && shown.placementGeneration === generation;
        return isBack && shown.state === 'running' && state === 'running' && fenced === false;
      },
      { timeoutMs: 10_000 },
    );

  it('after the fence: the project runs on its source at once, shown truly, and may be used', async () => {
    const c = await join('c');
    const { id, operation, release } = await moveTo(c, a, 'move.source.cutover');
    expect(await hub.project(id)).toMatchObject({ state: 'stopping', desiredState: 'running' });
    await c.disconnect();
    release();
    expect((await hub.ended(operation.id)).state).toBe('failed');
    await runsOnA(id, 1);
    await hub.succeeded(await post(`/projects/${id}/stop`));
    expect(await hub.ok('GET', `/hosts/${c.hostId}`)).toMatchObject({ owed: 1 });
    expect(c.landings.size).toBe(1);
    await c.connect();
    await waitFor('the landing is dropped', () => c.landings.size === 0, { timeoutMs: 10_000 });
    await waitFor('nothing is owed', async () => (await owed(c)) === 0, { timeoutMs: 10_000 });
    await hub.ok('DELETE', `/hosts/${c.hostId}`);
  });

  it('can be removed without anything else being done', async () => {
    const d = await join('d');
    const { id, operation } = await moveTo(d, d, 'move.destination.verify');
    expect(await hub.problem('DELETE', `/hosts/${d.hostId}?lost=true`)).toBe('HOST_ONLINE');
    expect(await hub.project(id)).toMatchObject({ state: 'stopped', desiredState: 'running' });
    await d.disconnect();
    await isOffline(d);
    expect(await hub.problem('DELETE', `/hosts/${d.hostId}`)).toBe('HOST_BUSY');
    expect(await hub.ok('DELETE', `/hosts/${d.hostId}?lost=true`)).toEqual({
      projectsTakenBack: 0,
      projectsLost: 0,
    });
    expect(await hub.ended(operation.id)).toMatchObject({
      state: 'failed',
      error: { code: 'OPERATION_RESOLVED' },
    });
    await runsOnA(id, 1);
  });

  it('after the commit: the source has the project again; what it alone had is archived', async () => {
    const e = await join('e');
    const [kept, gone] = [
      await hub.createProject({ host: 'e' }),
      await hub.createProject({ host: 'e' }),
    ];
    await hub.succeeded(await post(`/projects/${kept.id}/backups`));
    const { id, operation } = await moveTo(e, e, 'move.destination.activate');
    expect(await hub.project(id)).toMatchObject({ state: 'starting', hostId: e.hostId });
    await e.disconnect();
    await isOffline(e);
    expect(await hub.ok('DELETE', `/hosts/${e.hostId}?lost=true`)).toEqual({
      projectsTakenBack: 1,
      projectsLost: 2,
    });
    expect((await hub.ended(operation.id)).state).toBe('failed');
    await runsOnA(id, 3);
    expect(await hub.project(kept.id)).toMatchObject({
      state: 'archived',
      hostId: null,
      error: { code: 'HOST_LOST' },
    });
    expect(await hub.project(gone.id)).toMatchObject({
      state: 'error',
      hostId: null,
      error: { code: 'PROJECT_LOST' },
    });
    expect(await hub.problem('POST', `/projects/${gone.id}/start`, { body: {} })).toBe(
      'PROJECT_LOST',
    );
    await hub.succeeded(await hub.ok('DELETE', `/projects/${gone.id}`));
    await hub.succeeded(await post(`/projects/${kept.id}/rehydrate`, { host: 'b' }));
    expect(await hub.project(kept.id)).toMatchObject({ state: 'stopped', host: 'b', error: null });
  });

  const owed = async (host: FakeHost) =>
    (await hub.ok<{ owed: number }>('GET', `/hosts/${host.hostId}`)).owed;
  const isOffline = (host: FakeHost) =>
    waitFor(
      'the host is offline',
      async () => (await hub.ok('GET', `/hosts/${host.hostId}`))['status'] === 'offline',
      { timeoutMs: 10_000 },
    );
});

describe('an operation that does not end', () => {
  /** A move that is stuck because the destination refuses to take over. */
  async function stuckMove(): Promise<{ id: string; operation: Operation }> {
    const { id } = await onA();
    b.fail('move.destination.activate', 'before', 1000, new Error('refused'));
    const { operation } = await post(`/projects/${id}/move`, { host: 'b' });
    await waitFor('it has failed', async () => (await shown(operation)).tries > 0, {
      timeoutMs: 10_000,
    });
    return { id, operation };
  }
  const shown = ({ id }: Operation) => hub.ok<Operation>('GET', `/operations/${id}`);
  const resolve = (operation: Operation, as: string, token = hub.admin.token) =>
    hub.call<Operation & { code?: string }>('POST', `/operations/${operation.id}/resolve`, {
      token,
      body: { as },
    });

  it('shows its step, its last error, its tries, who it waits for and since when', async () => {
    const before = Date.now();
    const { operation } = await stuckMove();
    const view = await shown(operation);
    expect(view).toMatchObject({
      step: 'activating',
      attempt: 1,
      lastError: { code: 'INTERNAL' },
      waitsFor: { kind: 'host', id: b.hostId, name: 'b' },
    });
    expect(Date.parse(view.waitsFor?.since ?? '')).toBeGreaterThanOrEqual(before - 1000);
    b.faults = [];
    await hub.succeeded({ operation });
    expect(await shown(operation)).toMatchObject({ tries: 0, lastError: null, waitsFor: null });
  });

  it('goes on at once when it is stuck and tried again', async () => {
    const { operation } = await stuckMove();
    const source = hub.app.get(DataSource);
    // As if its tries were used up: the worker loses it, and nobody claims it for an hour.
    await source.query(
      `UPDATE operations SET state = 'stuck', attempt = attempt + 1, lease_expires_at = NULL,
         run_at = now() + interval '1 h' WHERE id = $1`,
      [operation.id],
    );
    b.faults = [];
    await post(`/operations/${operation.id}/retry`);
    await waitFor('it ends', async () => (await shown(operation)).endedAt !== null, {
      timeoutMs: 10_000,
    });
    expect((await shown(operation)).state).toBe('succeeded');
    expect(await hub.problem('POST', `/operations/${operation.id}/retry`, { body: {} })).toBe(
      'OPERATION_ENDED',
    );
  });

  it('is ended by an administrator alone, as what the owner allows, and says what is left', async () => {
    const { id, operation } = await stuckMove();
    const { token, accountId } = await hub.createAccount('editor@example.org');
    await hub.ok('PUT', `/projects/${id}/collaborators/${accountId}`, { body: { role: 'editor' } });
    expect((await resolve(operation, 'failed', token)).body.code).toBe('FORBIDDEN');
    expect((await resolve(operation, 'done')).body.code).toBe('RESOLVE_REFUSED');
    const { body } = await resolve(operation, 'failed');
    expect(body).toMatchObject({ state: 'failed', error: { code: 'OPERATION_RESOLVED' } });
    expect(body.leaves.join()).toMatch(/host a has the project again.*host b/);
    b.faults = [];
    await waitFor('it runs on a', () => a.projects.get(id)?.state === 'running', {
      timeoutMs: 10_000,
    });
    expect(a.projects.get(id)).toMatchObject({ generation: 3, fenced: false });
    expect(await hub.project(id)).toMatchObject({ hostId: a.hostId, placementGeneration: 3 });
    await hub.succeeded(await post(`/projects/${id}/stop`));
    const { items } = await hub.ok<{ items: { action: string }[] }>(
      'GET',
      `/audit?subject=operation:${operation.id}`,
    );
    expect(items.map(({ action }) => action)).toContain('operation.resolve');
  });

  it('of any kind is ended, and the project is free for others', async () => {
    const { id } = await onA(false);
    const release = a.hold('projects.start');
    const { operation } = await post(`/projects/${id}/start`);
    await waitFor('it has begun', async () => (await shown(operation)).attempt === 1, {
      timeoutMs: 5000,
    });
    expect((await resolve(operation, 'failed')).body).toMatchObject({
      state: 'failed',
      leaves: [expect.stringMatching('host a')],
    });
    expect(await hub.project(id)).toMatchObject({ state: 'created' });
    release();
    await hub.succeeded(await post(`/projects/${id}/start`));
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

describe('what is promised while work is under way', () => {
  /** May promise 3 GiB of memory: one project of the usual 2 GiB. */
  const narrow = (name: string) => join(name, { memoryBytes: 96 * MiB });
  const codes = async (answers: Promise<{ status: number; body: { code?: string } }>[]) =>
    (await Promise.all(answers)).map(({ status, body }) => body.code ?? String(status));
  const full = 'DESTINATION_FULL';

  it('counts at the destination of a move: of eight at once one is admitted', async () => {
    const to = await narrow('narrow');
    const made = await Promise.all(Array.from({ length: 8 }, () => onA(false)));
    const release = to.hold('move.destination.prepare');
    const move = ({ id }: Project) =>
      hub.call<Partial<Begun> & { code?: string }>('POST', `/projects/${id}/move`, {
        body: { host: to.name },
      });
    const answers = await Promise.all(made.map(move));
    const refused = made.filter((_, n) => answers[n]?.body.code === full);
    expect(refused).toHaveLength(7);
    const [other] = refused;

    // So do the other ways there, while it is under way.
    const clone = { name: 'copy', host: to.name };
    expect(await hub.problem('POST', `/projects/${other!.id}/clone`, { body: clone })).toBe(full);
    const backup = await hub.succeeded(await post(`/projects/${other!.id}/backups`));
    const restore = { host: to.name, replace: true, discard: true };
    const { backupId } = backup.result as { backupId: string };
    const path = `/projects/${other!.id}/backups/${backupId}/restore`;
    expect(await hub.problem('POST', path, { body: restore })).toBe(full);
    const fresh = { name: 'new', host: to.name };
    expect(await hub.problem('POST', '/projects', { body: fresh })).toBe(full);

    // An undone move gives back what it was promised, at once.
    const { operation } = answers.find(({ status }) => status === 202)!.body;
    await post(`/operations/${operation!.id}/cancel`);
    release();
    expect((await hub.ended(operation!.id)).state).toBe('canceled');
    await hub.succeeded(await post(path, restore));
    expect((await hub.project(other!.id)).hostId).toBe(to.hostId);
    expect(await codes(refused.slice(1).map(move))).toEqual(Array(6).fill(full));

    // One that has ended leaves the promise with its destination alone.
    await hub.succeeded(await post(`/projects/${other!.id}/move`, { host: 'b' }));
    await hub.succeeded(await post(`/projects/${refused[1]!.id}/move`, { host: to.name }));
  });

  it('counts at both ends of a clone, and for each that grows', async () => {
    const to = await narrow('narrow-too');
    const { id } = await onA(false);
    const clone = (host?: string) =>
      hub.call('POST', `/projects/${id}/clone`, { body: { name: 'copy', host } });
    const release = a.hold('projects.clone');
    const both = await codes([clone(to.name), clone(to.name)]);
    expect(both.toSorted()).toEqual(['202', full]);
    release();
    await waitFor('it is there', () => to.projects.size === 1, { timeoutMs: 10_000 });
    const [there] = to.projects.keys();
    await waitFor('its clone has ended', async () => (await hub.project(there!)).move === null, {
      timeoutMs: 10_000,
    });
    expect(await hub.problem('POST', `/projects/${there}/clone`, { body: { name: 'c' } })).toBe(
      full,
    );

    await hub.ok('DELETE', `/projects/${there}?force=true`);
    await waitFor('it is gone', () => to.projects.size === 0, { timeoutMs: 10_000 });
    const small = { host: to.name, quota: { memoryBytes: 512 * MiB } };
    const pair = await Promise.all([hub.createProject(small), hub.createProject(small)]);
    const grow = ({ id: one }: Project) =>
      hub.call('PATCH', `/projects/${one}`, { body: { quota: { memoryBytes: 2 * GiB } } });
    const letGo = to.hold('projects.update');
    const grown = pair.map(grow);
    await Promise.race(grown);
    letGo();
    expect((await codes(grown)).toSorted()).toEqual(['200', 'QUOTA_OVER_HOST']);
  });
});
