import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { CodedError, CoreErrors, GiB, waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { OperationsService, type NewOperation } from '../src/operations/operations.service.js';
import { ProjectOperations } from '../src/projects/project-operations.service.js';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;
let host: FakeHost;

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  host = await FakeHost.join({ name: 'h1', hubUrl: hub.url, joinToken: await hub.joinToken() });
});

afterAll(async () => {
  await host?.disconnect();
  await hub?.close();
  await postgres?.close();
});

const act = (id: string, verb: string, body: object = {}) =>
  hub.ok<{ operation: Operation }>('POST', `/projects/${id}/${verb}`, { body });

describe('a project', () => {
  it('is placed, created and started', async () => {
    const project = await hub.createProject({ start: true });
    expect(project).toMatchObject({
      state: 'running',
      hostId: host.hostId,
      host: 'h1',
      role: 'owner',
      placementGeneration: 1,
      desiredState: 'running',
      move: null,
      error: null,
      image: 'localhost/rookery/debian:13',
    });
    expect(project.url).toBe(`${hub.url}/${project.id}/port/`);
    expect(project.imageDigest).toMatch(/^sha256:/);
    const { items } = await hub.ok<{ items: object[] }>(
      'GET',
      `/projects/${project.id}/placements`,
    );
    expect(items).toMatchObject([
      { chosenHostId: host.hostId, candidates: [{ host: 'h1', eligible: true }] },
    ]);
  });

  it('stops, starts again, and starting what runs does no harm', async () => {
    const { id } = await hub.createProject({ start: true });
    await hub.succeeded(await act(id, 'start'));
    await hub.succeeded(await act(id, 'stop'));
    expect(await hub.project(id)).toMatchObject({ state: 'stopped', desiredState: 'stopped' });
    await hub.succeeded(await act(id, 'start'));
    expect(host.projects.get(id)?.state).toBe('running');
    // Each operation's calls carry a claim above those of all that ended before it.
    const claims = host.attempts.get(id)?.operations.map(({ claim }) => claim) ?? [];
    expect(claims.length).toBeGreaterThanOrEqual(4);
    expect(claims[0]).toBeGreaterThan(0);
    expect(claims.toSorted((a, b) => a - b)).toEqual(claims);
  });

  it('joins simultaneous starts into one', async () => {
    const { id } = await hub.createProject();
    const release = host.hold('projects.start');
    const starts = await Promise.all([1, 2, 3, 4].map(() => act(id, 'start')));
    expect(new Set(starts.map((each) => each.operation.id)).size).toBe(1);
    expect(await hub.problem('POST', `/projects/${id}/stop`, { body: {} })).toBe('PROJECT_BUSY');
    release();
    await hub.succeeded(starts[0]!);
  });

  it('names the work that has begun meanwhile', async () => {
    const { id: projectId } = await hub.createProject();
    const [operations, source] = [hub.app.get(OperationsService), hub.app.get(DataSource)];
    const wanted: NewOperation<'project.start'> = {
      kind: 'project.start',
      lane: 'lifecycle',
      projectId,
      input: { projectId, before: 'stopped' },
    };
    let late: Promise<unknown> | undefined;
    const release = host.hold('projects.start');
    const first = await source.transaction(async (manager) => {
      const begun = await operations.insert(manager, wanted);
      // It sees nothing of the first, and waits at the index until that is committed.
      late = hub.app.get(ProjectOperations).begin((other) => operations.insert(other, wanted));
      late.catch(() => undefined);
      const waits = `SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database() AND query LIKE '%operations%'`;
      await waitFor('it waits', async () => (await source.query(waits)).length > 0, {
        timeoutMs: 10_000,
      });
      return begun;
    });
    await expect(late).rejects.toMatchObject({
      code: 'PROJECT_BUSY',
      details: { kind: 'project.start', operationId: first.id },
      message: `The project is busy with project.start. Wait for operation ${first.id}.`,
    });
    release();
    operations.nudge();
    const begun = await hub.ok<Operation>('GET', `/operations/${first.id}`);
    await hub.succeeded({ operation: begun });
  });

  it('is deleted when stopped, or by force, and is gone then', async () => {
    const { id } = await hub.createProject({ start: true });
    expect(await hub.problem('DELETE', `/projects/${id}`)).toBe('PROJECT_RUNNING');
    await hub.succeeded(await hub.ok('DELETE', `/projects/${id}?force=true`));
    expect(await hub.problem('GET', `/projects/${id}`)).toBe('PROJECT_UNKNOWN');
    expect(host.projects.has(id)).toBe(false);
    expect(await hub.problem('POST', `/projects/${id}/start`, { body: {} })).toBe(
      'PROJECT_UNKNOWN',
    );
  });

  it('changes name, quota and ports; the host refuses a quota below use', async () => {
    const { id, quota } = await hub.createProject();
    const changed = await hub.ok<Project>('PATCH', `/projects/${id}`, {
      body: { name: 'renamed', quota: { diskBytes: 2 ** 31 }, publicPorts: [8080] },
    });
    expect(changed).toMatchObject({
      name: 'renamed',
      publicPorts: [8080],
      quota: { ...quota, diskBytes: 2 ** 31 },
    });
    expect(host.projects.get(id)?.spec.quota.diskBytes).toBe(2 ** 31);
    const below = { code: 'QUOTA_BELOW_USE', message: 'no', status: 409, retryable: false };
    host.fail('projects.update', 'before', 1, new CodedError(below));
    const body = { quota: { diskBytes: 2 ** 28 } };
    expect(await hub.problem('PATCH', `/projects/${id}`, { body })).toBe('QUOTA_BELOW_USE');
    expect((await hub.project(id)).quota.diskBytes).toBe(2 ** 31);
  });

  it('is promised no more than its host can keep, at first and later', async () => {
    const wish = (diskBytes: number, to?: string) => ({
      body: { name: 'n', quota: { diskBytes }, ...(to !== undefined && { host: to }) },
    });
    // The host's volume has 200 GiB.
    expect(await hub.problem('POST', '/projects', wish(500 * GiB))).toBe('NO_HOST');
    expect(await hub.problem('POST', '/projects', wish(500 * GiB, 'h1'))).toBe('DESTINATION_FULL');
    const { id } = await hub.createProject();
    const grow = (diskBytes: number) => ({ body: { quota: { diskBytes } } });
    expect(await hub.problem('PATCH', `/projects/${id}`, grow(500 * GiB))).toBe('QUOTA_OVER_HOST');
    const grown = await hub.ok<Project>('PATCH', `/projects/${id}`, grow(300 * GiB));
    expect(grown.quota.diskBytes).toBe(300 * GiB);
  });

  it('is held to less than its host allows, never to more, and so is its copy', async () => {
    const allow = ['203.0.113.0/24:443'];
    const wish = (egress: object | null) => ({ body: { name: 'n', egress } });
    expect(await hub.problem('POST', '/projects', wish({ mode: 'open' }))).toBe(
      'EGRESS_NOT_ALLOWED',
    );
    for (const wrong of [
      { mode: 'none', allow },
      { mode: 'allow-list', allow: ['10.0.0.1:0'] },
    ]) {
      expect(await hub.problem('POST', '/projects', wish(wrong))).toBe('INVALID_INPUT');
    }
    const { id } = await hub.createProject();
    expect(await hub.project(id)).toMatchObject({ egress: null });
    const egress = { mode: 'allow-list', allow };
    expect(await hub.ok('PATCH', `/projects/${id}`, { body: { egress } })).toMatchObject({
      egress,
    });
    expect(host.projects.get(id)?.spec.egress).toEqual(egress);
    // Another change leaves it as it is.
    await hub.ok('PATCH', `/projects/${id}`, { body: { publicPorts: [80] } });
    expect(host.projects.get(id)?.spec.egress).toEqual(egress);
    const refused = { body: { egress: { mode: 'open' } } };
    expect(await hub.problem('PATCH', `/projects/${id}`, refused)).toBe('EGRESS_NOT_ALLOWED');
    const copied = await hub.ok<{ operation: Operation; project: Project }>(
      'POST',
      `/projects/${id}/clone`,
      { body: { name: 'copy' } },
    );
    await hub.succeeded(copied);
    expect(await hub.project(copied.project.id)).toMatchObject({ egress });
    await hub.ok('PATCH', `/projects/${id}`, { body: { egress: null } });
    expect(host.projects.get(id)?.spec).not.toHaveProperty('egress');
  });

  it('keeps and shows why its image could not be had, and can be started again', async () => {
    const { operation, project } = await hub.ok<{ operation: Operation; project: Project }>(
      'POST',
      '/projects',
      { body: { name: 'n', image: 'denied/image', start: true } },
    );
    expect(await hub.ended(operation.id)).toMatchObject({ state: 'failed' });
    expect(await hub.project(project.id)).toMatchObject({
      state: 'error',
      error: { code: 'INVALID_INPUT' },
    });
    const again = await hub.ended((await act(project.id, 'start')).operation.id);
    expect(again).toMatchObject({ state: 'failed', error: { code: 'INVALID_INPUT' } });
    await hub.succeeded(await hub.ok('DELETE', `/projects/${project.id}`));
  });
});

describe('an operation', () => {
  it.each([
    ['projects.create', 'before'],
    ['projects.create', 'after'],
    ['projects.start', 'before'],
    ['projects.start', 'after'],
  ] as const)('goes on when %s fails %s its effect', async (method, when) => {
    host.fail(method, when, 2);
    const project = await hub.createProject({ start: true });
    expect(project.state).toBe('running');
    expect(host.projects.get(project.id)).toMatchObject({ state: 'running', generation: 1 });
  });

  it.each([
    ['stop', 'projects.stop', 'stopped'],
    ['start', 'projects.start', 'running'],
  ])('%s survives a lost reply', async (verb, method, state) => {
    const { id } = await hub.createProject({ start: verb === 'stop' });
    host.fail(method, 'after');
    await hub.succeeded(await act(id, verb));
    expect((await hub.project(id)).state).toBe(state);
  });

  it('fails HOST_OFFLINE when its host stays away, and the project is as before', async () => {
    const { id } = await hub.createProject();
    await host.disconnect();
    const ended = await hub.ended((await act(id, 'start')).operation.id);
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'HOST_OFFLINE' } });
    expect(await hub.project(id)).toMatchObject({ state: 'created', desiredState: 'running' });
    await waitFor(
      'the host is offline',
      async () => {
        const view = await hub.ok<{ status: string }>('GET', `/hosts/${host.hostId}`);
        return view.status === 'offline';
      },
      { timeoutMs: 5000 },
    );
    const create = (body: object) =>
      hub.problem('POST', '/projects', { body: { name: 'n', ...body } });
    expect(await create({})).toBe('NO_HOST');
    expect(await create({ host: 'h1' })).toBe('HOST_OFFLINE');
    expect(await create({ host: 'nobody' })).toBe('HOST_UNKNOWN');
    await host.connect();
    await hub.succeeded(await act(id, 'start'));
  });

  it('waits for a host that comes back in time', async () => {
    const { id } = await hub.createProject();
    await host.disconnect();
    const started = await act(id, 'start');
    await waitFor(
      'it is under way',
      async () => {
        const { state } = await hub.ok<Operation>('GET', `/operations/${started.operation.id}`);
        return state === 'running';
      },
      { timeoutMs: 5000 },
    );
    await host.connect();
    await hub.succeeded(started);
  });

  it('streams its progress and ends the stream with the final view', async () => {
    const { id } = await hub.createProject();
    const release = host.hold('projects.start');
    const { operation } = await act(id, 'start');
    const response = await fetch(`${hub.url}/api/v1/operations/${operation.id}/events`, {
      headers: { authorization: `Bearer ${hub.admin.token}` },
    });
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    const text = response.text();
    release();
    const events = (await text)
      .split('\n\n')
      .filter(Boolean)
      .map((event) => JSON.parse(event.replace(/^data: /, '')) as Operation);
    expect(events.length).toBeGreaterThan(1);
    expect(events.at(-1)).toMatchObject({ id: operation.id, state: 'succeeded' });
  });

  it('is canceled before its point of no return, and not after its end', async () => {
    const { id } = await hub.createProject();
    const release = host.hold('projects.start');
    const { operation } = await act(id, 'start');
    const canceled = await hub.ok<Operation>('POST', `/operations/${operation.id}/cancel`, {
      body: {},
    });
    expect(canceled.cancelRequested).toBe(true);
    expect((await hub.ended(operation.id)).state).toBe('canceled');
    release();
    expect(await hub.problem('POST', `/operations/${operation.id}/cancel`, { body: {} })).toBe(
      'CANCEL_TOO_LATE',
    );
  });
});

describe('a root filesystem that no longer starts', () => {
  const rescued = async (): Promise<string> => {
    const { id } = await hub.createProject({ start: true });
    await hub.succeeded(await act(id, 'start', { rescue: true }));
    return id;
  };
  const modeOf = async (id: string) => {
    const { state, rescue } = await hub.project(id);
    return { state, rescue, atHost: host.projects.get(id)?.spec.rescue === true };
  };
  const ordinary = { state: 'running', rescue: false, atHost: false };
  const inRescue = { state: 'running', rescue: true, atHost: true };

  it('is set aside until a start without --rescue, whatever else happens', async () => {
    const id = await rescued();
    expect(await modeOf(id)).toEqual(inRescue);
    await hub.ok('PATCH', `/projects/${id}`, { body: { publicPorts: [80] } });
    expect(await modeOf(id)).toEqual(inRescue);
    await hub.succeeded(await act(id, 'stop'));
    expect(await modeOf(id)).toMatchObject({ state: 'stopped', rescue: false });
    await hub.succeeded(await act(id, 'start'));
    expect(await modeOf(id)).toEqual(ordinary);
    await hub.succeeded(await act(id, 'start', { rescue: true }));
    await hub.succeeded(await act(id, 'start'));
    expect(await modeOf(id)).toEqual(ordinary);
  });

  it('is not set aside by a start that is under way in the other mode', async () => {
    const { id } = await hub.createProject();
    const release = host.hold('projects.start');
    const [first, same] = [await act(id, 'start'), await act(id, 'start')];
    expect(same.operation.id).toBe(first.operation.id);
    const other = { body: { rescue: true } };
    expect(await hub.problem('POST', `/projects/${id}/start`, other)).toBe('PROJECT_BUSY');
    release();
    await hub.succeeded(first);
  });

  it('shows the mode in which the project runs, not the one that its host refused', async () => {
    const { id } = await hub.createProject({ start: true });
    host.fail('projects.start', 'before', 1, CoreErrors.INVALID_INPUT({ reason: 'no' }));
    expect((await hub.ended((await act(id, 'start', { rescue: true })).operation.id)).state).toBe(
      'failed',
    );
    expect(await modeOf(id)).toEqual(ordinary);
    host.knowsRescue = false;
    const ended = await hub.ended((await act(id, 'start', { rescue: true })).operation.id);
    host.knowsRescue = true;
    expect(ended.error?.code).toBe('RESCUE_UNSUPPORTED');
    expect(await modeOf(id)).toMatchObject(ordinary);
  });

  it.each(['none', 'before', 'after'] as const)(
    'is begun anew once, although the host fails %s its effect, and runs in the ordinary mode',
    async (when) => {
      const id = await rescued();
      if (when !== 'none') host.fail('snapshots.resetRootfs', when, 2);
      const { result, kind } = await hub.succeeded(await act(id, 'reset-rootfs'));
      const kept = [...(host.projects.get(id)?.snapshots.keys() ?? [])];
      expect(kept).toEqual([expect.stringMatching(/^before-reset-/)]);
      expect({ kind, result }).toEqual({
        kind: 'project.reset-rootfs',
        result: { projectId: id, previous: kept[0] },
      });
      expect(await modeOf(id)).toEqual(ordinary);
    },
  );

  it('is begun anew without a snapshot, and does not start what was stopped', async () => {
    const { id } = await hub.createProject();
    const ended = await hub.succeeded(await act(id, 'reset-rootfs', { discard: true }));
    expect(ended.result).toEqual({ projectId: id, previous: null });
    expect(host.projects.get(id)).toMatchObject({ state: 'created', snapshots: new Map() });
  });

  it('stays as it is when its host refuses, and the project runs as before', async () => {
    const id = await rescued();
    const error = CoreErrors.INVALID_INPUT({ reason: 'no snapshots' });
    host.fail('snapshots.resetRootfs', 'before', 1, error);
    const { operation } = await act(id, 'reset-rootfs');
    expect(await hub.ended(operation.id)).toMatchObject({ state: 'failed' });
    expect(await modeOf(id)).toEqual(inRescue);
  });

  it('that keeps a project from running is begun anew, and then it runs', async () => {
    const { id } = await hub.createProject();
    const broken = CoreErrors.INVALID_INPUT({ reason: 'no root filesystem' });
    host.fail('projects.start', 'before', 1, broken);
    expect((await hub.ended((await act(id, 'start')).operation.id)).state).toBe('failed');
    await hub.succeeded(await act(id, 'reset-rootfs'));
    expect(await modeOf(id)).toEqual(ordinary);
  });

  it('is in its place again when the whole project goes back to a snapshot', async () => {
    const id = await rescued();
    const path = `/projects/${id}/snapshots`;
    await hub.ok('POST', path, { body: { name: 'one' } });
    const restore = (body: object) =>
      hub.ok<{ operation: Operation }>('POST', `${path}/one/restore`, { body });
    await hub.succeeded(await restore({ path: 'a' }));
    expect(await modeOf(id)).toEqual(inRescue);
    await hub.succeeded(await restore({}));
    expect(await modeOf(id)).toEqual(ordinary);
  });
});

describe('snapshots', () => {
  it('are taken, locked, listed, restored and deleted', async () => {
    const { id } = await hub.createProject({ start: true });
    const path = `/projects/${id}/snapshots`;
    const content = host.projects.get(id)!.content;
    expect(await hub.ok('POST', path, { body: { name: 'one' } })).toMatchObject({ name: 'one' });
    await hub.ok('PATCH', `${path}/one`, { body: { locked: true } });
    const { items } = await hub.ok<{ items: object[] }>('GET', path);
    expect(items).toMatchObject([{ name: 'one', locked: true }]);
    host.projects.get(id)!.content = 'overwritten';
    const restored = await hub.succeeded(await hub.ok('POST', `${path}/one/restore`, { body: {} }));
    expect(restored.result).toMatchObject({ previous: 'before-restore' });
    expect(host.projects.get(id)).toMatchObject({ content, state: 'running' });
    await hub.ok('DELETE', `${path}/one`);
  });

  it('are restored although the project cannot start, and what could not be says so', async () => {
    const { id } = await hub.createProject({ start: true });
    const path = `/projects/${id}/snapshots`;
    await hub.ok('POST', path, { body: { name: 'one' } });
    const code = 'CONTAINER_START_FAILED';
    const error = new CodedError({ code, message: 'no', status: 500, retryable: true });
    host.fail('projects.start', 'before', 100, error);
    const restore = () =>
      hub.ok<{ operation: Operation }>('POST', `${path}/one/restore`, { body: {} });
    const restored = await hub.succeeded(await restore());
    expect(restored.result).toMatchObject({ previous: 'before-restore', startError: { code } });
    expect(await hub.project(id)).toMatchObject({ error: { code } });
    host.faults = [];
    await hub.succeeded(await act(id, 'start'));

    // The same for the way back: what cannot be started again is no reason to be stuck.
    host.fail('projects.start', 'before', 100, error);
    const gone = CoreErrors.NOT_FOUND({ what: 'snapshot', id: 'one' });
    host.faults.push({ method: 'snapshots.restore', when: 'before', error: gone });
    const failed = await hub.ended((await restore()).operation.id);
    expect(failed).toMatchObject({ state: 'failed', error: { code: 'NOT_FOUND' } });
    host.faults = [];
    await hub.succeeded(await act(id, 'start'));
  });

  it('that are not there stop no project', async () => {
    const { id } = await hub.createProject({ start: true });
    const before = host.calls.length;
    expect(await hub.problem('POST', `/projects/${id}/snapshots/none/restore`, { body: {} })).toBe(
      'SNAPSHOT_NOT_FOUND',
    );
    expect(host.calls.slice(before)).not.toContain('projects.stop');
    expect((await hub.project(id)).state).toBe('running');
  });

  it('start the project again when the restore fails', async () => {
    const { id } = await hub.createProject({ start: true });
    const path = `/projects/${id}/snapshots`;
    await hub.ok('POST', path, { body: { name: 'one' } });
    const error = CoreErrors.NOT_FOUND({ what: 'snapshot', id: 'one' });
    host.faults.push({ method: 'snapshots.restore', when: 'before', error });
    const { operation } = await hub.ok<{ operation: Operation }>('POST', `${path}/one/restore`, {
      body: {},
    });
    expect(await hub.ended(operation.id)).toMatchObject({
      state: 'failed',
      error: { code: 'NOT_FOUND' },
    });
    expect(host.calls).toContain('projects.stop');
    expect(host.projects.get(id)?.state).toBe('running');
    expect((await hub.project(id)).state).toBe('running');
  });
});

describe('what is changed', () => {
  it('leaves audit rows in one unbroken chain', async () => {
    const { id } = await hub.createProject();
    const audit = () =>
      hub.ok<{ items: { action: string; actor: string }[] }>('GET', `/audit?subject=project:${id}`);
    expect((await audit()).items).toMatchObject([
      { action: 'project.create', actor: `account:${hub.admin.accountId}` },
    ]);
  });
});
