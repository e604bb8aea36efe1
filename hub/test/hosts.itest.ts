import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { HostView } from '@rookery/api';
import { ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { hostReports, projectStreams } from '@rookery/fleet/contract';
import { CodedError, createLogger, GiB, newId, waitFor } from '@rookery/core';
import type { ProjectState } from '@rookery/core/contract';
import { DataSource } from 'typeorm';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;
let host: FakeHost;
const closing: (() => Promise<void>)[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  host = await FakeHost.join({ name: 'h1', hubUrl: hub.url, joinToken: await hub.joinToken() });
});

afterAll(async () => {
  for (const close of closing.reverse()) await close();
  await host?.disconnect();
  await hub?.close();
  await postgres?.close();
});

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (error) {
    if (CodedError.is(error)) return error.code;
    throw error;
  }
  throw new Error('it succeeded');
}

describe('a host that cannot serve', () => {
  it('is shown with its own reason, until it serves again', async () => {
    const silent = new FakeHost({
      name: 'silent',
      hubUrl: hub.url,
      joinToken: await hub.joinToken(),
    });
    await silent.register();
    const error = { code: 'VOLUME_ABSENT', message: 'mount it', status: 503, retryable: false };
    await silent.sayTrouble(error);
    const show = () => hub.ok<HostView>('GET', `/hosts/${silent.hostId}`);
    const { trouble } = await show();
    expect(trouble).toMatchObject(error);
    expect(Math.abs(Date.parse(trouble!.at) - Date.now())).toBeLessThan(60_000);
    const { items } = await hub.ok<{ items: HostView[] }>('GET', '/hosts');
    expect(items.find(({ id }) => id === silent.hostId)?.trouble).toMatchObject(error);
    // Nobody says it of another.
    await expect(silent.sayTrouble(error, host.hostId)).rejects.toThrow();
    expect((await hub.ok<HostView>('GET', `/hosts/${host.hostId}`)).trouble).toBeNull();
    await silent.connect();
    closing.push(() => silent.disconnect());
    expect((await show()).trouble).toBeNull();
    await silent.disconnect();
    await hub.ok('DELETE', `/hosts/${silent.hostId}`);
  });
});

describe('joining', () => {
  it('uses a token up; repeated with the same keys it is the same host', async () => {
    const joinToken = await hub.joinToken();
    const first = new FakeHost({ name: 'twice', hubUrl: hub.url, joinToken });
    await first.register();
    const { hostId } = first;
    await first.register();
    expect(first.hostId).toBe(hostId);
    const thief = new FakeHost({ name: 'thief', hubUrl: hub.url, joinToken });
    expect(await codeOf(thief.register())).toBe('JOIN_TOKEN_INVALID');
    await hub.ok('DELETE', `/hosts/${hostId}`);
  });

  it('is refused with an unknown or expired token, at the door', async () => {
    const unknown = new FakeHost({
      name: 'x',
      hubUrl: hub.url,
      joinToken: `join_${'A'.repeat(43)}`,
    });
    expect(await codeOf(unknown.register())).toBe('CONAT_UNAUTHORIZED');
    const joinToken = await hub.joinToken();
    await hub.app
      .get(DataSource)
      .query(`UPDATE join_tokens SET expires_at = now() - interval '1 s' WHERE used_at IS NULL`);
    const late = new FakeHost({ name: 'late', hubUrl: hub.url, joinToken });
    expect(await codeOf(late.register())).toBe('CONAT_UNAUTHORIZED');
  });

  it('gives many that join at once with one name different ones; placement names ten of them', async () => {
    const crowd = await Promise.all(
      Array.from({ length: 12 }, async () => {
        const joinToken = await hub.joinToken();
        const joining = { name: 'crowd', hubUrl: hub.url, joinToken, diskFreeBytes: 1000 };
        const each = new FakeHost(joining);
        await each.register();
        return each.hostId;
      }),
    );
    const { items } = await hub.ok<{ items: { id: string; name: string }[] }>('GET', '/hosts');
    const names = items.filter(({ id }) => crowd.includes(id)).map(({ name }) => name);
    expect(new Set(names).size).toBe(12);
    const { id } = await hub.createProject();
    const placements = await hub.ok<{ items: { candidates: object[]; others: object }[] }>(
      'GET',
      `/projects/${id}/placements`,
    );
    expect(placements.items[0]?.candidates).toHaveLength(10);
    expect(placements.items[0]?.others).toMatchObject({
      count: 3,
      reasons: { 'too little disk': 3 },
    });
    for (const hostId of crowd) await hub.ok('DELETE', `/hosts/${hostId}`);
  });

  it('gives two hosts of one name different ones', async () => {
    const again = await FakeHost.join({
      name: 'h1',
      hubUrl: hub.url,
      joinToken: await hub.joinToken(),
    });
    closing.push(() => again.disconnect());
    expect(await hub.ok('GET', `/hosts/${again.hostId}`)).toMatchObject({ name: 'h1-2' });
    await again.disconnect();
    await hub.ok('DELETE', `/hosts/${again.hostId}`);
  });
});

describe('reports', () => {
  it('are taken over from the owner at its generation, and from nobody else', async () => {
    const other = await FakeHost.join({
      name: 'other',
      hubUrl: hub.url,
      joinToken: await hub.joinToken(),
    });
    closing.push(() => other.disconnect());
    const { id } = await hub.createProject({ host: 'h1', start: true });
    expect(host.owned).toEqual(expect.arrayContaining([]));
    const mine = host.projects.get(id)!;
    // No operation has set the state of late: nothing but owner and generation speaks against it.
    const set = (column: string, value: number | null) =>
      hub.app
        .get(DataSource)
        .query(`UPDATE projects SET ${column} = $2 WHERE id = $1`, [id, value]);
    await set('state_set_at', null);
    await other.heartbeat([[id, { ...mine, state: 'error' }]]);
    expect((await hub.project(id)).state).toBe('running');
    await set('placement_generation', 2);
    // Its heartbeats on the timer say the same from here on.
    mine.state = 'error';
    await host.heartbeat();
    expect((await hub.project(id)).state).toBe('running');
    mine.generation = 2;
    mine.state = 'stopped';
    await waitFor('it is believed', async () => (await hub.project(id)).state === 'stopped', {
      timeoutMs: 5000,
    });
    expect((await hub.project(id)).diskUsedBytes).toBe(4096);
    expect(host.owned).toContainEqual({ projectId: id, generation: 2 });
    const spoof = createServiceClient(await other.raw(), hostReports, { hostId: host.hostId });
    await expect(
      spoof.heartbeat({ version: 'evil', projects: [], ...figuresOf(other) }, { timeoutMs: 500 }),
    ).rejects.toThrow();
    expect(await hub.ok('GET', `/hosts/${host.hostId}`)).toMatchObject({ version: '0.1.0' });
    await hub.ok('PATCH', `/hosts/${other.hostId}`, { body: { schedulable: false } });
  });

  const figuresOf = (from: FakeHost) => {
    const { capabilities, capacity } = from.registration();
    return { capabilities, capacity };
  };

  describe('of many projects', () => {
    const count = 300;
    let ids: string[];
    const sql = <T>(query: string, values: unknown[] = []): Promise<T[]> =>
      hub.app.get(DataSource).query<T[]>(query, values);
    const reportsHub = async () =>
      createServiceClient(await host.raw(), hostReports, { hostId: host.hostId });
    const reportsOf = (some: readonly string[], state: ProjectState) =>
      some.map((projectId) => ({ projectId, generation: 1, state, diskUsedBytes: 1 }));

    beforeAll(async () => {
      const rows = await sql<{ id: string }>(
        `INSERT INTO projects (id, title, host_id, placement_generation, run_quota, state,
           desired_state)
         SELECT gen_random_uuid(), 'p' || n, $1, 1, '{}', 'stopped', 'stopped'
         FROM generate_series(1, $2) n RETURNING id`,
        [host.hostId, count],
      );
      ids = rows.map(({ id }) => id);
    });
    afterAll(() => sql('DELETE FROM projects WHERE id = ANY($1)', [ids]));

    it('write no row that says the same as before', async () => {
      const hubReports = await reportsHub();
      await hubReports.projects({ projects: reportsOf(ids, 'running') });
      const versions = () =>
        sql('SELECT id, xmin, xmax, ctid FROM projects WHERE id = ANY($1) ORDER BY id', [ids]);
      const before = await versions();
      await hubReports.projects({ projects: reportsOf(ids, 'running') });
      expect(await versions()).toEqual(before);
      const [first, ...others] = ids as [string, ...string[]];
      await hubReports.projects({
        projects: [...reportsOf([first], 'stopped'), ...reportsOf(others, 'running')],
      });
      const rows = await sql<{ id: string; state: string }>(
        `SELECT id, state FROM projects WHERE id = ANY($1) AND state <> 'running'`,
        [ids],
      );
      expect(rows).toEqual([{ id: first, state: 'stopped' }]);
    });

    it('may overlap: none waits for rows of another that waits for its own', async () => {
      const hubReports = await reportsHub();
      const few = [...ids].sort().reverse().slice(0, 40);
      const waves = Array.from({ length: 12 }, (_, n) => n % 2 === 0);
      const answers = await Promise.allSettled(
        waves.flatMap((even) => [
          hubReports.projects({ projects: reportsOf(ids, even ? 'running' : 'stopped') }),
          hubReports.projects({ projects: reportsOf(few, even ? 'stopped' : 'running') }),
        ]),
      );
      const failures = answers.filter(({ status }) => status === 'rejected');
      expect(failures).toEqual([]);
    });

    it('are answered with what was asked about, however much the host owns', async () => {
      const hubReports = await reportsHub();
      const [known] = ids as [string];
      const { owned } = await hubReports.projects({
        projects: reportsOf([known, randomUUID()], 'running'),
      });
      expect(owned).toEqual([{ projectId: known, generation: 1 }]);
    });
  });

  it('end a problem when the project runs again, and leave the reason why one does not', async () => {
    const { id: recovers } = await hub.createProject({ host: 'h1', start: true });
    const { id: stays } = await hub.createProject({ host: 'h1' });
    const problem = {
      code: 'OOM',
      message: 'It ran out of memory.',
      status: 500,
      retryable: false,
    };
    host.projects.get(stays)!.state = 'stopped';
    await hub.app.get(DataSource).query(
      `UPDATE projects SET state_set_at = NULL, error = $2,
         state = CASE WHEN id = $3 THEN 'error' ELSE 'stopped' END WHERE id = ANY($1)`,
      [[recovers, stays], JSON.stringify(problem), recovers],
    );
    await waitFor('it runs', async () => (await hub.project(recovers)).state === 'running', {
      timeoutMs: 5000,
    });
    expect(await hub.project(recovers)).toMatchObject({ error: null });
    await host.heartbeat();
    expect(await hub.project(stays)).toMatchObject({ state: 'stopped', error: problem });
  });

  it('are refused to a generation that a host has left behind', async () => {
    const { id } = await hub.createProject({ host: 'h1' });
    host.projects.get(id)!.generation = 9;
    const { operation } = await hub.ok<{ operation: Operation }>('POST', `/projects/${id}/start`, {
      body: {},
    });
    expect(await hub.ended(operation.id)).toMatchObject({
      state: 'failed',
      error: { code: 'STALE_GENERATION' },
    });
    host.projects.get(id)!.generation = 1;
  });
});

describe('what a host lacks, and what it holds beside its own', () => {
  const missing = (id: string) =>
    waitFor(
      'the hub notices',
      async () => {
        const project = await hub.project(id);
        return project.error?.code === 'PROJECT_MISSING' ? project : undefined;
      },
      { timeoutMs: 10_000 },
    );

  it('is shown on the project and the host, and is over when the host has it again', async () => {
    const { id } = await hub.createProject({ host: 'h1', start: true });
    const mine = host.projects.get(id)!;
    mine.generation = 7;
    const lost = await missing(id);
    expect(lost).toMatchObject({ state: 'error', desiredState: 'running' });
    expect(lost.error?.message).toContain('generation 7 instead of 1');
    expect(lost.error?.message).toContain(`rookery host adopt h1 ${id}`);
    expect(await hub.ok('GET', `/hosts/${host.hostId}`)).toMatchObject({ missing: 1 });
    mine.generation = 1;
    await waitFor('it is back', async () => (await hub.project(id)).state === 'running', {
      timeoutMs: 5000,
    });
    expect((await hub.project(id)).error).toBeNull();
    expect(await hub.ok('GET', `/hosts/${host.hostId}`)).toMatchObject({ missing: 0 });
  });

  it('lets an administrator take the files back, which start as they should', async () => {
    const { id } = await hub.createProject({ host: 'h1', start: true });
    const { content } = host.projects.get(id)!;
    host.projects.delete(id);
    await missing(id);
    const adopt = () =>
      hub.ok<{ operation: Operation }>('POST', `/hosts/${host.hostId}/copies/${id}/adopt`, {
        body: {},
      });
    expect(await hub.ended((await adopt()).operation.id)).toMatchObject({
      state: 'failed',
      error: { code: 'NOTHING_TO_ADOPT' },
    });
    host.copies.set(id, content);
    await hub.succeeded(await adopt());
    expect(host.projects.get(id)).toMatchObject({ content, generation: 1, state: 'running' });
    expect(await hub.project(id)).toMatchObject({ state: 'running', error: null });
  });

  it('shows copies, keeps them, and removes them in the project’s turn', async () => {
    const other = await FakeHost.join({
      name: 'second',
      hubUrl: hub.url,
      joinToken: await hub.joinToken(),
    });
    closing.push(() => other.disconnect());
    const { id } = await hub.createProject({ host: 'h1' });
    const unknown = newId();
    for (const each of [id, unknown]) other.copies.set(each, 'old');
    const path = `/hosts/${other.hostId}/copies`;
    const list = async () => (await hub.ok<{ items: object[] }>('GET', path)).items;
    expect(await list()).toMatchObject([
      { projectId: id, name: 'a project', belongs: 'elsewhere', owner: 'h1', kept: false },
      { projectId: unknown, name: null, belongs: 'unknown', owner: null },
    ]);
    await other.heartbeat();
    expect(await hub.ok('GET', `/hosts/${other.hostId}`)).toMatchObject({ copies: 2 });
    const keep = { body: { kept: true } };
    expect(await hub.ok('PATCH', `${path}/${unknown}`, keep)).toMatchObject({ kept: true });
    await other.heartbeat();
    expect(await hub.ok('GET', `/hosts/${other.hostId}`)).toMatchObject({ copies: 1 });

    expect(await hub.problem('DELETE', `${path}/${newId()}`)).toBe('COPY_UNKNOWN');
    expect(await hub.problem('POST', `${path}/${id}/adopt`, { body: {} })).toBe('COPY_NOT_OWNED');
    host.copies.set(id, 'all that is left');
    expect(await hub.problem('DELETE', `/hosts/${host.hostId}/copies/${id}`)).toBe('COPY_IS_OWNED');
    host.copies.delete(id);
    // While it goes nothing brings the project to that host.
    const release = other.hold('copies.delete');
    const started = await hub.ok<{ operation: Operation }>('DELETE', `${path}/${id}`);
    const move = { body: { host: 'second' } };
    expect(await hub.problem('POST', `/projects/${id}/move`, move)).toBe('PROJECT_BUSY');
    release();
    await hub.succeeded(started);
    await hub.succeeded(await hub.ok('DELETE', `${path}/${unknown}`));
    expect(await list()).toEqual([]);
    const { token } = await hub.createAccount('no-admin@example.org');
    expect(await hub.problem('GET', path, { token })).toBe('FORBIDDEN');
    await hub.ok('PATCH', `/hosts/${other.hostId}`, { body: { schedulable: false } });
  });
});

describe('placement', () => {
  it('spreads a hundred simultaneous projects and overfills no host', async () => {
    const small: FakeHost[] = [];
    for (let n = 0; n < 3; n += 1) {
      const joinToken = await hub.joinToken();
      const each = await FakeHost.join({
        name: `small-${n}`,
        hubUrl: hub.url,
        joinToken,
        diskFreeBytes: 10 * GiB,
      });
      small.push(each);
      closing.push(() => each.disconnect());
    }
    await hub.ok('PATCH', `/hosts/${host.hostId}`, { body: { schedulable: false } });
    const releases = small.map((each) => each.hold('projects.create'));
    // Each sets 0.5 GiB aside: 20 a host, 60 in all.
    const answers = await Promise.all(
      Array.from({ length: 100 }, (_, n) =>
        hub.call<{ project?: Project; code?: string }>('POST', '/projects', {
          body: { name: `p${n}` },
        }),
      ),
    );
    for (const release of releases) release();
    const counts = new Map<string, number>();
    for (const { body } of answers) {
      const key = body.project?.host ?? body.code ?? '';
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(Object.fromEntries(counts)).toEqual({
      'small-0': 20,
      'small-1': 20,
      'small-2': 20,
      NO_HOST: 40,
    });
    await hub.ok('PATCH', `/hosts/${host.hostId}`, { body: { schedulable: true } });
  });
});

describe('streams', () => {
  const short = { timeoutMs: 1000 };

  async function as(token: string) {
    const access = await hub.ok<{ url: string; token: string; inboxPrefix: string }>(
      'POST',
      '/conat-tokens',
      { token, body: {} },
    );
    const client = await ConatClient.connect({
      servers: access.url,
      identity: access.inboxPrefix.replace('_INBOX.', ''),
      credentials: { token: access.token },
      connectTimeoutMs: 5000,
      logger: createLogger('test', 'silent'),
    });
    closing.push(() => client.close());
    return client;
  }

  it('relay an exec and logs to the owning host, audited, for members alone', async () => {
    const { id: projectId } = await hub.createProject({ host: 'h1', start: true });
    const streams = createServiceClient(await as(hub.admin.token), projectStreams, { projectId });
    const call = await streams.exec({ command: ['echo', 'hello'] });
    const output = text(call.stdout);
    call.stdin.end('and more ');
    expect(await call.result).toEqual({ exit: 7 });
    expect(await output).toBe('and more echo hello');
    const logs = await streams.logs({});
    expect(await text(logs.stdout)).toBe('a line\n');
    const { items } = await hub.ok<{ items: object[] }>(
      'GET',
      `/audit?subject=project:${projectId}`,
    );
    expect(items).toContainEqual(expect.objectContaining({ action: 'project.exec' }));

    const viewer = await hub.createAccount('viewer@example.org');
    await hub.ok('PUT', `/projects/${projectId}/collaborators/${viewer.accountId}`, {
      body: { role: 'viewer' },
    });
    const reading = createServiceClient(await as(viewer.token), projectStreams, { projectId });
    expect(await text((await reading.logs({})).stdout)).toBe('a line\n');
    const execAsViewer = async () => (await reading.exec({ command: ['id'] }, short)).result;
    await expect(execAsViewer()).rejects.toThrow();

    const stranger = await hub.createAccount('stranger@example.org');
    const foreign = createServiceClient(await as(stranger.token), projectStreams, { projectId });
    const refused = async () => {
      const tried = await foreign.exec({ command: ['id'] }, short);
      await tried.result;
    };
    await expect(refused()).rejects.toThrow();
    expect(host.calls.filter((each) => each === 'projects.exec')).toHaveLength(1);
  });
});

describe('the way to a project', () => {
  it('leads through the proxy to its host with a token, and not without a right', async () => {
    const seen: string[] = [];
    const ingress = createServer((request, response) => {
      seen.push(`${request.url} ${String(request.headers.cookie)}`);
      response.end(`at ${request.url}`);
    });
    await new Promise<void>((resolve) => ingress.listen(0, '127.0.0.1', resolve));
    closing.push(() => new Promise((resolve) => ingress.close(() => resolve())));
    const { port } = ingress.address() as AddressInfo;
    const { id } = await hub.createProject({ host: 'h1', start: true });
    await hub.app
      .get(DataSource)
      .query('UPDATE project_hosts SET internal_url = $1 WHERE id = $2', [
        `http://127.0.0.1:${port}`,
        host.hostId,
      ]);
    const get = (token?: string) =>
      fetch(`${hub.url}/${id}/port/8080/x?y=1`, {
        ...(token !== undefined && { headers: { authorization: `Bearer ${token}` } }),
      });
    const answer = await get(hub.admin.token);
    expect([answer.status, await answer.text()]).toEqual([200, `at /${id}/port/8080/x?y=1`]);
    const stranger = await hub.createAccount('walker@example.org');
    expect((await get(stranger.token)).status).toBe(403);
    expect((await get()).status).toBe(401);
    // What opens the way in is what is cut out; this is neither.
    const odd = `${hub.url}/${id}/port/8080/x?a?rookery_token=${hub.admin.token}`;
    expect((await fetch(odd)).status).toBe(401);
    expect(seen).toHaveLength(1);
    const inQuery = `${hub.url}/${id}/port/8080/x?a&rookery_token=${hub.admin.token}`;
    expect(await (await fetch(inQuery)).text()).toBe(`at /${id}/port/8080/x?a`);
  });
});

describe('what images hold', () => {
  it('is the first word about each; who says something else is shown', async () => {
    const imageDigest = `sha256:${newId().replaceAll('-', '')}`;
    const tree = (digit: string): string => `tree1:${digit.repeat(64)}`;
    const hosts: FakeHost[] = [];
    for (const name of ['honest', 'other', 'agreeing']) {
      const joined = await FakeHost.join({
        name,
        hubUrl: hub.url,
        joinToken: await hub.joinToken(),
      });
      closing.push(() => joined.disconnect());
      hosts.push(joined);
    }
    const [honest, other, agreeing] = hosts as [FakeHost, FakeHost, FakeHost];
    const say = async (from: FakeHost, treeDigest: string, as = from) => {
      const client = createServiceClient(await from.raw(), hostReports, { hostId: as.hostId });
      return (await client.imageTrees({ trees: [{ imageDigest, treeDigest }] })).differing;
    };
    const differing = async (of: FakeHost) =>
      (await hub.ok<HostView>('GET', `/hosts/${of.hostId}`)).imagesDiffering;
    expect(await say(honest, tree('a'))).toEqual([]);
    expect(await say(other, tree('b'))).toEqual([imageDigest]);
    expect(await say(other, tree('b'))).toEqual([imageDigest]);
    expect(await say(agreeing, tree('a'))).toEqual([]);
    // A host cannot take its own word back, nor speak for another.
    expect(await say(honest, tree('b'))).toEqual([imageDigest]);
    await expect(say(other, tree('b'), honest)).rejects.toThrow();
    expect(await differing(other)).toEqual([]);
    for (const each of hosts) {
      each.images = [imageDigest];
      await each.heartbeat();
    }
    expect(await differing(other)).toEqual([imageDigest]);
    expect(await differing(honest)).toEqual([imageDigest]);
    expect(await differing(agreeing)).toEqual([]);
    const { items } = await hub.ok<{ items: { action: string; subject: string }[] }>(
      'GET',
      '/audit?limit=100',
    );
    const noted = items.filter(({ action }) => action === 'host.image-differs');
    expect(noted.filter(({ subject }) => subject === `host:${other.hostId}`)).toHaveLength(1);
    // A host that goes takes its word along: the next one counts.
    for (const each of [honest, agreeing]) await each.disconnect();
    await hub.ok('DELETE', `/hosts/${honest.hostId}`);
    expect(await differing(other)).toEqual([]);
    expect(await differing(agreeing)).toEqual([imageDigest]);
    await hub.ok('DELETE', `/hosts/${agreeing.hostId}`);
    await other.disconnect();
    await hub.ok('DELETE', `/hosts/${other.hostId}`);
  });
});
