import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { FakeHost, type FakeRepository } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;
let a: FakeHost;
let b: FakeHost;
const repository: FakeRepository = new Map();

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  const join = async (name: string) =>
    FakeHost.join({ name, hubUrl: hub.url, joinToken: await hub.joinToken(), repository });
  a = await join('a');
  b = await join('b');
  a.peers = b.peers = () => [a, b];
});

afterEach(() => {
  a.faults = [];
  b.faults = [];
});

afterAll(async () => {
  await a?.disconnect();
  await b?.disconnect();
  await hub?.close();
  await postgres?.close();
});

const post = (path: string, body: object = {}) =>
  hub.ok<{ operation: Operation; project?: Project }>('POST', path, { body });

const onA = (start = true) => hub.createProject({ host: 'a', start });

/** Invariant 1, as the hub's books and both hosts say. */
async function ownedOnlyBy(owner: FakeHost, id: string, generation: number): Promise<void> {
  const other = owner === a ? b : a;
  expect(await hub.project(id)).toMatchObject({
    hostId: owner.hostId,
    host: owner.name,
    placementGeneration: generation,
    move: null,
  });
  expect(owner.projects.get(id)).toMatchObject({ generation, fenced: false });
  expect(other.projects.has(id)).toBe(false);
  expect([...a.landings, ...b.landings]).toEqual([]);
}

describe('a move', () => {
  it('changes the owner, with content, and the project runs again', async () => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    const moved = await hub.succeeded(await post(`/projects/${id}/move`, { host: 'b' }));
    expect(moved.result).toMatchObject({ hostId: b.hostId, generation: 2 });
    await ownedOnlyBy(b, id, 2);
    expect(b.projects.get(id)).toMatchObject({ content, state: 'running' });
    await hub.succeeded(await post(`/projects/${id}/move`));
    await ownedOnlyBy(a, id, 3);
  });

  it('carries the mode in which the project runs; a backup in its place ends it', async () => {
    const { id } = await onA();
    await hub.succeeded(await post(`/projects/${id}/start`, { rescue: true }));
    await hub.succeeded(await post(`/projects/${id}/move`, { host: 'b' }));
    expect(b.projects.get(id)).toMatchObject({ state: 'running', spec: { rescue: true } });
    expect(await hub.project(id)).toMatchObject({ state: 'running', rescue: true });
    await hub.succeeded(await post(`/projects/${id}/backups`));
    await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, { replace: true }));
    expect(b.projects.get(id)?.spec).not.toHaveProperty('rescue');
    expect(await hub.project(id)).toMatchObject({ state: 'running', rescue: false });
    await hub.succeeded(await post(`/projects/${id}/start`, { rescue: true }));
    await hub.succeeded(await post(`/projects/${id}/archive`));
    await hub.succeeded(await post(`/projects/${id}/rehydrate`, { start: true }));
    expect(await hub.project(id)).toMatchObject({ state: 'running', rescue: false });
  });

  const methods = [
    ['a', 'move.source.describe'],
    ['b', 'move.destination.prepare'],
    ['a', 'move.source.copy'],
    ['a', 'move.source.cutover'],
    ['b', 'move.destination.verify'],
    ['b', 'move.destination.activate'],
    ['a', 'move.source.retire'],
  ] as const;
  it.each(
    methods.flatMap(
      ([host, method]) =>
        [
          [host, method, 'before'],
          [host, method, 'after'],
        ] as const,
    ),
  )('arrives although %s’s %s fails once %s its effect', async (name, method, when) => {
    const { id } = await onA();
    (name === 'a' ? a : b).fail(method, when);
    await hub.succeeded(await post(`/projects/${id}/move`, { host: 'b' }));
    // A source that did not answer at the very end is told later.
    await waitFor('the old copy is gone', () => !a.projects.has(id), { timeoutMs: 15_000 });
    await ownedOnlyBy(b, id, 2);
    expect(b.projects.get(id)?.state).toBe('running');
  });

  it.each([
    ['b', 'move.destination.prepare'],
    ['a', 'move.source.cutover'],
    ['b', 'move.destination.verify'],
  ] as const)(
    'is undone when %s’s %s refuses, and the project runs where it was',
    async (...at) => {
      const { id } = await onA();
      const error = Object.assign(new Error('refused'), { name: 'Refusal' });
      (at[0] === 'a' ? a : b).fail(at[1], 'after', 1, error);
      const { operation } = await post(`/projects/${id}/move`, { host: 'b' });
      expect((await hub.ended(operation.id)).state).toBe('failed');
      await ownedOnlyBy(a, id, 1);
      expect(a.projects.get(id)?.state).toBe('running');
    },
  );

  it('goes on after every connection to Postgres was cut in the middle', async () => {
    const { id } = await onA();
    const release = a.hold('move.source.cutover');
    const { operation } = await post(`/projects/${id}/move`, { host: 'b' });
    const moving = async () => (await hub.project(id)).move?.state === 'cutover';
    await waitFor('it is at the cutover', moving, { timeoutMs: 5000 });
    await hub.app.get(DataSource).query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE pid <> pg_backend_pid() AND datname = current_database()`,
    );
    release();
    await hub.succeeded({ operation });
    await ownedOnlyBy(b, id, 2);
  });

  it('is canceled before the commit; meanwhile nothing else may begin', async () => {
    const { id } = await onA();
    const release = a.hold('move.source.copy');
    const { operation } = await post(`/projects/${id}/move`, { host: 'b' });
    await waitFor('it copies', async () => (await hub.project(id)).move?.state === 'copying', {
      timeoutMs: 5000,
    });
    const tries = [
      hub.problem('POST', `/projects/${id}/move`, { body: { host: 'b' } }),
      hub.problem('POST', `/projects/${id}/start`, { body: {} }),
      hub.problem('POST', `/projects/${id}/stop`, { body: {} }),
      hub.problem('DELETE', `/projects/${id}?force=true`),
      hub.problem('POST', `/projects/${id}/backups`, { body: {} }),
      hub.problem('POST', `/projects/${id}/snapshots`, { body: { name: 's' } }),
      hub.problem('PATCH', `/projects/${id}`, { body: { publicPorts: [] } }),
    ];
    expect(new Set(await Promise.all(tries))).toEqual(new Set(['PROJECT_MOVING']));
    await post(`/operations/${operation.id}/cancel`);
    release();
    expect((await hub.ended(operation.id)).state).toBe('canceled');
    await ownedOnlyBy(a, id, 1);
  });

  it('is refused: to the same host, an unknown, cordoned or full one', async () => {
    const { id } = await onA(false);
    const move = (host: string) => hub.problem('POST', `/projects/${id}/move`, { body: { host } });
    expect(await move('a')).toBe('MOVE_SAME_HOST');
    expect(await move(a.hostId)).toBe('MOVE_SAME_HOST');
    expect(await move('nobody')).toBe('HOST_UNKNOWN');
    await hub.ok('PATCH', `/hosts/${b.hostId}`, { body: { schedulable: false } });
    expect(await move('b')).toBe('HOST_CORDONED');
    await hub.ok('PATCH', `/hosts/${b.hostId}`, { body: { schedulable: true } });
    b.diskFreeBytes = 1000;
    await b.heartbeat();
    expect(await move('b')).toBe('DESTINATION_FULL');
    expect(await hub.problem('POST', `/projects/${id}/move`, { body: {} })).toBe('NO_HOST');
    b.diskFreeBytes = 100 * 1024 ** 3;
    await b.heartbeat();
    await ownedOnlyBy(a, id, 1);
  });
});

describe('a backup', () => {
  const backUp = async (id: string) => {
    const { result } = await hub.succeeded(await post(`/projects/${id}/backups`));
    return result?.['backupId'] as string;
  };

  it('is run, listed, and refused while another runs', async () => {
    const { id } = await onA();
    const release = a.hold('backup.run');
    const first = await post(`/projects/${id}/backups`);
    expect(await hub.problem('POST', `/projects/${id}/backups`, { body: {} })).toBe(
      'BACKUP_IN_PROGRESS',
    );
    expect(await hub.problem('POST', `/projects/${id}/move`, { body: {} })).toBe(
      'BACKUP_IN_PROGRESS',
    );
    await hub.succeeded(await post(`/projects/${id}/stop`));
    release();
    await hub.succeeded(first);
    const { items } = await hub.ok<{ items: object[] }>('GET', `/projects/${id}/backups`);
    expect(items).toMatchObject([{ projectId: id, hostId: a.hostId, driver: 'restic' }]);
    expect((await hub.project(id)).lastBackupAt).not.toBeNull();
  });

  it.each(['before', 'after'] as const)('survives a failure %s its effect', async (when) => {
    const { id } = await onA();
    a.fail('backup.run', when);
    await backUp(id);
    const { items } = await hub.ok<{ items: object[] }>('GET', `/projects/${id}/backups`);
    expect(items).toHaveLength(1);
  });

  it('is restored into a new project, and by path', async () => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    await backUp(id);
    a.projects.get(id)!.content = 'changed';
    const restored = await post(`/projects/${id}/backups/latest/restore`, { host: 'b' });
    await hub.succeeded(restored);
    expect(restored.project!.id).not.toBe(id);
    await ownedOnlyBy(b, restored.project!.id, 1);
    expect(b.projects.get(restored.project!.id)?.content).toBe(content);
    expect(a.projects.get(id)?.content).toBe('changed');
    await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, { path: 'f' }));
    expect(a.projects.get(id)?.content).toBe(content);
    const none = `/projects/${id}/backups/${'0'.repeat(64)}/restore`;
    expect(await hub.problem('POST', none, { body: {} })).toBe('BACKUP_NOT_FOUND');
  });

  it('takes the place of a project whose host lost its data', async () => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    await backUp(id);
    a.projects.delete(id);
    const body = { replace: true, host: 'b' };
    await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, body));
    await ownedOnlyBy(b, id, 2);
    expect(b.projects.get(id)).toMatchObject({ content, state: 'running' });
  });

  it('takes the place of a project whose host is away, which owns nothing afterwards', async () => {
    const { id } = await onA();
    await backUp(id);
    await a.disconnect();
    const body = { replace: true, host: 'b' };
    await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, body));
    await a.connect();
    expect(a.owned.map((each) => each.projectId)).not.toContain(id);
    // What the old owner says of its stale copy is not believed.
    a.projects.get(id)!.state = 'error';
    await a.heartbeat();
    expect(await hub.project(id)).toMatchObject({ state: 'running', hostId: b.hostId });
    a.projects.delete(id);
    await ownedOnlyBy(b, id, 2);
  });

  it.each(['before', 'after'] as const)(
    'takes a project’s place on its own host, also when the restore fails once %s its effect',
    async (when) => {
      const { id } = await onA();
      const { content } = a.projects.get(id)!;
      await backUp(id);
      a.projects.get(id)!.content = 'changed';
      a.fail('backup.restore', when);
      const body = { replace: true, host: 'a' };
      await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, body));
      await ownedOnlyBy(a, id, 2);
      expect(a.projects.get(id)).toMatchObject({ content, state: 'running' });
    },
  );

  it.each([
    ['a', 'before', 1],
    ['b', 'before', 1],
    ['b', 'after', 1],
  ] as const)('leaves the project as it was when %s refuses it %s its effect', async (...at) => {
    const [name, when, generation] = at;
    const { id } = await onA();
    await backUp(id);
    const target = name === 'a' ? a : b;
    target.fail('backup.restore', when, 1, new Error('refused'));
    const { operation } = await post(`/projects/${id}/backups/latest/restore`, {
      replace: true,
      host: name,
      discard: true,
    });
    expect((await hub.ended(operation.id)).state).toBe('failed');
    await ownedOnlyBy(a, id, generation);
    expect(a.projects.get(id)?.state).toBe('running');
  });

  it('lists and restores what the repository holds, whatever was recorded', async () => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    await backUp(id);
    a.projects.get(id)!.content = 'second';
    await backUp(id);
    const list = async () =>
      (await hub.call<{ items: { id: string }[] }>('GET', `/projects/${id}/backups`)).body.items;
    const [newest] = await list();
    const record = a.repository.get(newest!.id)!;
    a.repository.delete(newest!.id);
    expect(await list()).toHaveLength(1);
    await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, { path: 'f' }));
    expect(a.projects.get(id)?.content).toBe(content);
    // Made where this hub did not see it.
    a.repository.set(newest!.id, record);
    const found = await hub.call('POST', `/projects/${id}/backups/reindex`);
    expect(found.body).toEqual({ asked: true, backups: 2 });
  });

  it('goes on to the next backup when the latest is gone, but not when one was named', async () => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    await backUp(id);
    a.projects.get(id)!.content = 'second';
    const second = await backUp(id);
    a.projects.get(id)!.content = 'third';
    const third = await backUp(id);
    // The index is as it was when the restores begin: the host does not answer just then.
    const unlisted = async (backupId: string) => {
      a.fail('backup.list', 'before', 1, new Error('refused'));
      return post(`/projects/${id}/backups/${backupId}/restore`, { path: 'f' });
    };
    a.repository.delete(second);
    const { operation } = await unlisted(second);
    expect((await hub.ended(operation.id)).error).toMatchObject({ code: 'BACKUP_GONE' });
    a.repository.delete(third);
    await hub.succeeded(await unlisted('latest'));
    expect(a.projects.get(id)?.content).toBe(content);
    a.fail('backup.list', 'before', 1, new Error('refused'));
    const path = `/projects/${id}/backups`;
    expect((await hub.ok<{ items: object[] }>('GET', path)).items).toHaveLength(1);
  });

  it('keeps what was recorded while the repository was being listed', async () => {
    const { id } = await onA();
    await backUp(id);
    const asked = a.calls.length;
    const release = a.hold('backup.list');
    const reindexed = hub.call('POST', `/projects/${id}/backups/reindex`);
    const listing = () => a.calls.slice(asked).includes('backup.list');
    await waitFor('the host is asked', listing, { timeoutMs: 5000 });
    const made = await backUp(id);
    const record = a.repository.get(made)!;
    // As if the list had been taken before the backup was made.
    a.repository.delete(made);
    release();
    expect((await reindexed).body).toEqual({ asked: true, backups: 2 });
    a.repository.set(made, record);
  });

  it('loses nothing of a host that still has the project, unless it is told to', async () => {
    const { id } = await onA();
    await backUp(id);
    const restore = (body: object) => post(`/projects/${id}/backups/latest/restore`, body);
    const ended = async (body: object) => hub.ended((await restore(body)).operation.id);
    expect((await ended({ replace: true, host: 'b' })).error?.code).toBe('RESTORE_NEEDS_DISCARD');
    await hub.call('POST', `/projects/${id}/snapshots`, { body: { name: 'mine' } });
    const lock = { body: { locked: true } };
    await hub.call('PATCH', `/projects/${id}/snapshots/mine`, lock);
    const discard = { replace: true, host: 'b', discard: true };
    expect((await ended(discard)).error?.code).toBe('SNAPSHOTS_LOCKED');
    await ownedOnlyBy(a, id, 1);
    expect(a.projects.get(id)?.state).toBe('running');
    // Unasked, it stays where its snapshots are.
    await hub.succeeded(await restore({ replace: true }));
    await ownedOnlyBy(a, id, 2);
  });

  it('does not go back while the same host has yet to swap the content', async () => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    await backUp(id);
    a.projects.get(id)!.content = 'changed';
    a.stallsAtPlacing = true;
    const body = { replace: true, host: 'a' };
    const restored = await post(`/projects/${id}/backups/latest/restore`, body);
    await hub.succeeded(restored).finally(() => (a.stallsAtPlacing = false));
    expect(a.unfinished.size).toBe(0);
    await ownedOnlyBy(a, id, 2);
    expect(a.projects.get(id)).toMatchObject({ content, state: 'running' });
  });

  it('goes forward when the same host swapped the content and then failed', async () => {
    const { id } = await onA();
    await backUp(id);
    a.fail('backup.restore', 'after', 1, new Error('refused'));
    const body = { replace: true, host: 'a' };
    await hub.succeeded(await post(`/projects/${id}/backups/latest/restore`, body));
    await ownedOnlyBy(a, id, 2);
  });
});

describe('the archive', () => {
  it('takes no project with a locked snapshot, and no backup that was not read back', async () => {
    const { id } = await onA();
    await hub.call('POST', `/projects/${id}/snapshots`, { body: { name: 'mine' } });
    await hub.call('PATCH', `/projects/${id}/snapshots/mine`, { body: { locked: true } });
    const ended = async () => hub.ended((await post(`/projects/${id}/archive`)).operation.id);
    expect((await ended()).error?.code).toBe('SNAPSHOTS_LOCKED');
    await hub.call('PATCH', `/projects/${id}/snapshots/mine`, { body: { locked: false } });
    a.verifies = false;
    expect((await ended()).error?.code).toBe('BACKUP_UNVERIFIED');
    a.verifies = true;
    await ownedOnlyBy(a, id, 1);
    expect(a.projects.get(id)?.state).toBe('running');
  });

  it('keeps writers out from before the backup to the end, and lets them in when it comes to nothing', async () => {
    const { id } = await onA();
    const backups = () => a.calls.filter((method) => method === 'backup.run').length;
    const before = backups();
    let release = a.hold('backup.run');
    a.verifies = false;
    const { operation } = await post(`/projects/${id}/archive`);
    await waitFor('the backup begins', () => backups() > before, { timeoutMs: 5000 });
    expect(a.projects.get(id)).toMatchObject({ state: 'stopped', shutOut: true });
    release();
    expect((await hub.ended(operation.id)).error?.code).toBe('BACKUP_UNVERIFIED');
    expect(a.projects.get(id)).toMatchObject({ state: 'running', shutOut: false });
    a.verifies = true;
    release = a.hold('projects.delete');
    const again = await post(`/projects/${id}/archive`);
    const isArchived = async () => (await hub.project(id)).state === 'archived';
    await waitFor('the archive', isArchived, { timeoutMs: 5000 });
    expect(a.projects.get(id)).toMatchObject({ state: 'stopped', shutOut: true });
    release();
    await hub.succeeded(again);
  });

  it.each(['none', 'before', 'after'] as const)(
    'frees the disk and brings the project back (fault at the deletion: %s)',
    async (when) => {
      const { id } = await onA();
      const { content } = a.projects.get(id)!;
      if (when !== 'none') a.fail('projects.delete', when);
      await hub.succeeded(await post(`/projects/${id}/archive`));
      expect(await hub.project(id)).toMatchObject({
        state: 'archived',
        hostId: null,
        host: null,
        placementGeneration: 2,
      });
      expect(a.projects.has(id)).toBe(false);
      expect(await hub.problem('POST', `/projects/${id}/start`, { body: {} })).toBe(
        'PROJECT_ARCHIVED',
      );
      await hub.succeeded(await post(`/projects/${id}/rehydrate`, { host: 'b', start: true }));
      await ownedOnlyBy(b, id, 3);
      expect(b.projects.get(id)).toMatchObject({ content, state: 'running' });
      expect(await hub.problem('POST', `/projects/${id}/rehydrate`, { body: {} })).toBe(
        'PROJECT_NOT_ARCHIVED',
      );
    },
  );

  it('keeps the project when the backup is not in the repository', async () => {
    const { id } = await onA();
    const list = [...repository.keys()];
    a.fail('backup.list', 'before', 9, new Error('refused'));
    const { operation } = await post(`/projects/${id}/archive`);
    expect((await hub.ended(operation.id)).state).toBe('failed');
    expect(repository.size).toBeGreaterThan(list.length - 1);
    await ownedOnlyBy(a, id, 1);
    expect(a.projects.get(id)?.state).toBe('running');
  });
});

describe('a clone', () => {
  it.each(['a', 'b'])('has the content, on its own or another host: %s', async (target) => {
    const { id } = await onA();
    const { content } = a.projects.get(id)!;
    const body = { name: 'copy', host: target, start: true };
    const cloned = await post(`/projects/${id}/clone`, body);
    await hub.succeeded(cloned);
    const owner = target === 'a' ? a : b;
    await ownedOnlyBy(owner, cloned.project!.id, target === 'a' ? 1 : 2);
    expect(owner.projects.get(cloned.project!.id)).toMatchObject({ content, state: 'running' });
    await ownedOnlyBy(a, id, 1);
  });
});

describe('draining', () => {
  it('moves everything away, and an empty host can be forgotten', async () => {
    for (const { id } of (await hub.ok<{ items: Project[] }>('GET', '/projects?limit=500')).items) {
      await hub.succeeded(await hub.ok('DELETE', `/projects/${id}?force=true`));
    }
    const c = await FakeHost.join({
      name: 'c',
      hubUrl: hub.url,
      joinToken: await hub.joinToken(),
      repository,
    });
    try {
      c.peers = a.peers = b.peers = () => [a, b, c];
      const made = await Promise.all([1, 2, 3, 4].map(() => hub.createProject({ host: 'c' })));
      expect(await hub.problem('DELETE', `/hosts/${c.hostId}`)).toBe('HOST_NOT_EMPTY');
      const drained = await hub.succeeded(await post(`/hosts/${c.hostId}/drain`));
      expect(drained.result).toEqual({ hostId: c.hostId, moved: 4 });
      for (const { id } of made) expect((await hub.project(id)).hostId).not.toBe(c.hostId);
      const { items } = await hub.ok<{ items: Operation[] }>('GET', '/operations?limit=500');
      expect(items.filter((each) => each.parentId === drained.id)).toHaveLength(4);
      await hub.ok('DELETE', `/hosts/${c.hostId}`);
      expect(await hub.problem('GET', `/hosts/${c.hostId}`)).toBe('HOST_UNKNOWN');
      await expect(c.heartbeat()).rejects.toThrow();
    } finally {
      await c.disconnect();
    }
  });
});

describe('the audit log', () => {
  it('is sealed into unbroken chains that cannot be rewritten', async () => {
    const source = hub.app.get(DataSource);
    const unsealed = async () =>
      Number((await source.query('SELECT count(*) AS n FROM audit_log WHERE hash IS NULL'))[0].n);
    await waitFor('all is sealed', async () => (await unsealed()) === 0, { timeoutMs: 15_000 });
    const broken = await source.query(
      `SELECT * FROM (SELECT previous_hash, lag(hash) OVER (PARTITION BY writer ORDER BY sequence)
         AS before FROM audit_log) AS chain
       WHERE before IS NOT NULL AND before <> previous_hash`,
    );
    expect(broken).toEqual([]);
    await expect(source.query(`UPDATE audit_log SET actor = 'x'`)).rejects.toThrow(/append-only/);
    await expect(source.query('DELETE FROM audit_log')).rejects.toThrow(/append-only/);
  });
});
