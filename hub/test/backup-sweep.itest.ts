import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { createLogger, waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { BackupIndex } from '../src/projects/backup-index.service.js';
import { BackupSweep } from '../src/projects/backup-sweep.service.js';
import { FakeHost, type FakeRepository } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

interface Group {
  readonly projectId: string;
  readonly name: string | null;
  readonly state: string;
  readonly backups: number;
  readonly latestId: string;
}

let postgres: TestPostgres;
let hub: TestHub;
let a: FakeHost;
let b: FakeHost;
const repository: FakeRepository = new Map();
/** Longer than a test: what is swept has not yet had its second turn. */
const sweepMs = 60_000;

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url, {}, { backupSweepMs: sweepMs });
  const join = async (name: string) =>
    FakeHost.join({
      name,
      hubUrl: hub.url,
      joinToken: await hub.joinToken(),
      repository,
      repositoryId: 'feedc0de',
    });
  a = await join('a');
  b = await join('b');
});

afterAll(async () => {
  await a?.disconnect();
  await b?.disconnect();
  await hub?.close();
  await postgres?.close();
});

const post = (path: string, body: object = {}) =>
  hub.ok<{ operation: Operation; project?: Project }>('POST', path, { body });
const query = <T>(sql: string, parameters: unknown[] = []): Promise<T[]> =>
  hub.app.get(DataSource).query<T[]>(sql, parameters);
const sweepOf = (options: { enabled: boolean; everyMs: number }): BackupSweep => {
  const { app } = hub;
  const log = createLogger('sweep', 'silent');
  const more = { ...options, hostOfflineAfterMs: 5000, log };
  return new BackupSweep(app.get(DataSource), app.get(BackupIndex), more);
};
const backUp = async (id: string) =>
  (await hub.succeeded(await post(`/projects/${id}/backups`))).result?.['backupId'] as string;
const indexed = async (id: string) => {
  const rows = await query<{ id: string }>('SELECT id FROM backups WHERE project_id = $1', [id]);
  return rows.map((row) => row.id).sort();
};
const groups = async (unknown: boolean): Promise<Group[]> => {
  const path = `/hosts/${a.hostId}/backups?unknown=${unknown}`;
  return (await hub.ok<{ items: Group[] }>('GET', path)).items;
};

describe('the index of backups', () => {
  let sweep: BackupSweep;

  beforeAll(() => {
    // The hub's own turn would only come later.
    sweep = sweepOf({ enabled: true, everyMs: 100 });
    sweep.onApplicationBootstrap();
  });
  afterAll(() => sweep?.onModuleDestroy());

  it('loses what the repository has lost, and gains what others made, without being asked', async () => {
    const { id } = await hub.createProject({ host: 'a', start: false });
    const lost = await backUp(id);
    const kept = await backUp(id);
    expect(await indexed(id)).toEqual([lost, kept].sort());
    const record = repository.get(lost)!;
    repository.delete(lost);
    await waitFor('the row goes', async () => (await indexed(id)).length === 1, {
      timeoutMs: 20_000,
    });
    expect(await indexed(id)).toEqual([kept]);
    // Of a project that this hub never had.
    const projectId = crypto.randomUUID();
    repository.set(lost, { ...record, projectId });
    await waitFor('the row comes', async () => (await indexed(projectId)).length === 1, {
      timeoutMs: 20_000,
    });
  });
});

describe('a claim of the sweep', () => {
  it('gives a host, and all that share its repository, to one process at a time', async () => {
    const asked = () => [a, b].flatMap(({ calls }) => calls).filter(isListAll).length;
    const sweeps = [1, 2, 3, 4].map(() => sweepOf({ enabled: false, everyMs: sweepMs }));
    for (let round = 0; round < 100; round += 1) {
      await query('UPDATE project_hosts SET backups_swept_at = NULL');
      const before = asked();
      await Promise.all(sweeps.map((sweep) => sweep.sweepDue()));
      expect(asked() - before).toBe(Math.max(1, Math.ceil(repository.size / a.pageSize)));
      const swept = await query<object>('SELECT DISTINCT backups_swept_at FROM project_hosts');
      expect(swept).toHaveLength(1);
    }
    // The next turn is later.
    const after = asked();
    await Promise.all(sweeps.map((sweep) => sweep.sweepDue()));
    expect(asked()).toBe(after);
  });
});

const isListAll = (method: string): boolean => method === 'backup.listAll';

describe('a hub that has lost its database', () => {
  let id: string;
  let content: string;
  let older: string;
  let newest: string;

  beforeEach(async () => {
    const quota = { diskBytes: 3 * 1024 ** 3 };
    ({ id } = await hub.createProject({ host: 'a', name: 'Größe, 50 %', quota, start: false }));
    const changes = { publicPorts: [8080], egress: { mode: 'none' } };
    await hub.ok('PATCH', `/projects/${id}`, { body: changes });
    older = await backUp(id);
    content = `written ${id}`;
    a.projects.get(id)!.content = content;
    newest = await backUp(id);
    await query('TRUNCATE backups, projects CASCADE');
  });

  const adopt = (projectId: string, body: object = {}) =>
    post(`/hosts/${a.hostId}/backups/${projectId}/adopt`, body);

  it('finds its projects’ backups again and makes the projects of them', async () => {
    a.projects.delete(id);
    const reindexed = await hub.ok('POST', `/hosts/${a.hostId}/backups/reindex`);
    expect(reindexed).toMatchObject({ backups: repository.size });
    expect(await indexed(id)).toEqual([older, newest].sort());
    const found = (await groups(true)).find(({ projectId }) => projectId === id);
    expect(found).toMatchObject({
      name: 'Größe, 50 %',
      state: 'unknown',
      backups: 2,
      latestId: newest,
    });
    const { accountId, token } = await hub.createAccount('ann@example.org');
    const started = await adopt(id, { owner: 'ann@example.org', name: 'found', start: true });
    await hub.succeeded(started);
    const project = await hub.ok<Project>('GET', `/projects/${id}`, { token });
    expect(project).toMatchObject({
      id,
      name: 'found',
      state: 'running',
      host: 'a',
      role: 'owner',
      publicPorts: [8080],
      quota: { diskBytes: 3 * 1024 ** 3 },
      egress: { mode: 'none' },
    });
    expect(a.projects.get(id)).toMatchObject({ content });
    expect((await groups(true)).map(({ projectId }) => projectId)).not.toContain(id);
    const audit = await hub.ok<{ items: { action: string; details: object }[] }>(
      'GET',
      `/audit?subject=project:${id}`,
    );
    expect(audit.items.find(({ action }) => action === 'backup.adopt')?.details).toMatchObject({
      fromProjectId: id,
      backupId: newest,
      ownerId: accountId,
    });
    // Its other backups are its own again.
    const restore = await hub.call<{ operation: Operation }>(
      'POST',
      `/projects/${id}/backups/${older}/restore`,
      { token, body: { path: 'f' } },
    );
    expect((await hub.ended(restore.body.operation.id, 20_000, token)).state).toBe('succeeded');
    expect(a.projects.get(id)?.content).not.toBe(content);
    const twice = `/hosts/${a.hostId}/backups/${id}/adopt`;
    expect(await hub.problem('POST', twice, { body: {} })).toBe('PROJECT_KNOWN');
  });

  it('does not put a backup in the place of a project that a host still has', async () => {
    a.projects.get(id)!.content = 'newer than any backup';
    const path = `/hosts/${b.hostId}/backups/${id}/adopt`;
    expect(await hub.problem('POST', path, { body: {} })).toBe('PROJECT_COPY_FOUND');
    const { projectId } = await hub.succeeded(await adopt(id, { newId: true, backupId: older }));
    expect(projectId).not.toBe(id);
    expect(await hub.project(projectId!)).toMatchObject({ name: 'Größe, 50 %', host: 'a' });
    expect(a.projects.get(id)?.content).toBe('newer than any backup');
  });

  it('gives a deleted project another id, and shows backups and repositories to administrators alone', async () => {
    a.projects.delete(id);
    await hub.succeeded(await adopt(id));
    await hub.succeeded(await hub.ok('DELETE', `/projects/${id}`));
    const found = (await groups(true)).find(({ projectId }) => projectId === id);
    expect(found).toMatchObject({ state: 'deleted', backups: 2 });
    const { projectId } = await hub.succeeded(await adopt(id));
    expect(projectId).not.toBe(id);
    expect(a.projects.get(projectId!)).toMatchObject({ content });
    expect(
      await hub.problem('POST', `/hosts/${a.hostId}/backups/${id}/adopt`, {
        body: { backupId: 'ab'.repeat(32) },
      }),
    ).toBe('BACKUP_NOT_FOUND');
    const { token } = await hub.createAccount(`${id}@example.org`);
    for (const [method, path] of [
      ['GET', `/hosts/${a.hostId}/backups`],
      ['POST', `/hosts/${a.hostId}/backups/reindex`],
      ['POST', `/hosts/${a.hostId}/backups/${id}/adopt`],
    ] as const) {
      const body = method === 'POST' ? { body: {} } : {};
      expect(await hub.problem(method, path, { token, ...body })).toBe('FORBIDDEN');
    }
  });
});
