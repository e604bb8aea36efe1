import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { newId, SystemClock } from '@rookery/core';
import { ProjectSpec, type Fence } from '@rookery/core/contract';
import { SqliteBackupProjects } from '../src/projects/backup-projects.js';
import { SqliteHostProjects, SqliteIngressGate } from '../src/projects/move-projects.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { SqliteBackupJournal, SqliteMoveJournal } from '../src/projects/sqlite-journals.js';
import { FenceGuard } from '@rookery/runner';
import { openDatabase } from '../src/database/database.js';
import { AttemptsRow } from '../src/database/entities/attempts.entity.js';
import type { HostDatabase } from '../src/database/host-database.js';
import { HostRecord } from '../src/hub/host-record.js';
import { RouteCache, SqliteRouteTable } from '../src/ingress/route-cache.js';
import { loadIdentity } from '../src/identity/identity.js';

const spec = ProjectSpec.parse({ image: 'x', quota: {} });

/** Later than it is, by as much as a test says. */
let nowMs = 0;
class LateClock extends SystemClock {
  override now(): number {
    return super.now() + nowMs;
  }
}

describe('the host’s books', () => {
  let folder: string;
  let database: HostDatabase;
  let books: ProjectRepository;
  let moves: SqliteHostProjects;
  let gate: SqliteIngressGate;
  let backups: SqliteBackupProjects;
  const id = newId();
  const move = newId();
  const stopped: string[] = [];
  const fence = (more: Partial<Fence> = {}): Fence => ({
    projectId: id,
    generation: 1,
    operationId: newId(),
    attempt: 1,
    ...more,
  });

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-books-'));
    await open();
    stopped.length = 0;
    nowMs = 0;
    await books.change(id, (_row, save) => save({ spec, generation: 1, state: 'running' }));
  });
  afterEach(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });

  const open = async (): Promise<void> => {
    database = await openDatabase(join(folder, 'books', 'host.sqlite'));
    books = new ProjectRepository(database, new LateClock());
    moves = new SqliteHostProjects(books, {
      stop: async (projectId) => void stopped.push(projectId),
      ensureRunning: async () => undefined,
      endWriters: async () => undefined,
    });
    gate = new SqliteIngressGate(books);
    backups = new SqliteBackupProjects(books, { settle: async () => undefined });
  };
  const reopen = async (): Promise<void> => {
    await database.close();
    await open();
  };

  it('write every commit through to the disk', async () => {
    expect(database.pragma('synchronous')).toBe(2);
    expect(database.pragma('journal_mode')).toBe('wal');
  });

  it('refuse writers while a move holds the fence, also after a restart', async () => {
    await moves.fenceForMove(id, move);
    await moves.fenceForMove(id, move);
    await reopen();
    await expect(books.admit(fence())).rejects.toMatchObject({ code: 'PROJECT_BUSY_MOVING' });
    await expect(moves.fenceForMove(id, newId())).rejects.toMatchObject({ code: 'PROJECT_MOVING' });
    await moves.unfence(id, newId());
    expect(await moves.isFencedBy(id)).toBe(move);
    await moves.unfence(id, move);
    await books.admit(fence());
  });

  it('refuse writers while an archiving has shut them out, also after a restart', async () => {
    const archive = fence();
    const shut = { shutOutBy: archive.operationId };
    await books.change(id, (_row, save) => save({ ...shut, state: 'stopped' }));
    await reopen();
    await expect(books.admit(fence())).rejects.toMatchObject({ code: 'PROJECT_BUSY_ARCHIVING' });
    await books.admit(archive);
    // A move or a restore begins only when the archiving has come to nothing.
    await moves.fenceForMove(id, move);
    expect(await books.get(id)).toMatchObject({ shutOutBy: null, fencedBy: move });
    await moves.unfence(id, move);
    await books.change(id, (_row, save) => save(shut));
    await backups.beginRestore(fence({ generation: 2 }), spec);
    expect(await books.get(id)).toMatchObject({ shutOutBy: null });
  });

  it('refuse older attempts of one operation and other generations', async () => {
    const operationId = newId();
    await books.admit(fence({ operationId, attempt: 2 }));
    const older = books.admit(fence({ operationId, attempt: 1 }));
    await expect(older).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    for (const generation of [0, 2]) {
      const stale = books.admit(fence({ generation }));
      await expect(stale).rejects.toMatchObject({ code: 'STALE_GENERATION' });
    }
  });

  it('refuse a superseded attempt after other operations, a restart and a removal', async () => {
    const operationId = newId();
    const other = { operationId: newId(), attempt: 1, claim: 7 };
    const guard = () => new FenceGuard(books);
    const alone = { exclusive: true };
    await guard().admit(fence({ operationId, attempt: 2, claim: 6 }), alone);
    await guard().admit(fence(other), alone, { desiredState: 'stopped' });
    await reopen();
    const late = [
      fence({ operationId, attempt: 1, claim: 5 }),
      fence({ operationId, attempt: 2, claim: 6 }),
      fence({ operationId: newId(), claim: 6 }),
    ];
    const start = { desiredState: 'running' } as const;
    for (const each of late) {
      const refused = guard().admit(each, alone, start);
      await expect(refused).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    }
    expect(await books.get(id)).toMatchObject({ desiredState: 'stopped' });
    // Work that may run beside others is overtaken by nobody but itself.
    await books.admit(fence({ claim: 4 }));
    await books.remove(id);
    for (const each of late) {
      const refused = guard().admitNew(each, { spec });
      await expect(refused).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
      const restore = backups.beginRestore(each, spec);
      await expect(restore).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    }
  });

  it('forget the operations of projects that left, and let none of them in again', async () => {
    const guard = new FenceGuard(books);
    const create = fence({ claim: 9 });
    await guard.admit(create, { exclusive: true });
    await books.remove(id);
    nowMs += 8 * 24 * 3_600_000;
    await books.expire();
    expect(database.find(AttemptsRow).map((row) => row.projectId)).toEqual(['']);
    const late = guard.admitNew(create, { spec });
    await expect(late).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    await guard.admitNew(fence({ claim: 10 }), { spec });
  });

  it('adopt a newer generation alone', async () => {
    await moves.adopt(id, 1, { ...spec, image: 'older' }, false);
    expect((await books.get(id))?.spec.image).toBe('x');
    await moves.adopt(id, 2, { ...spec, image: 'newer' }, true);
    expect(await moves.get(id)).toMatchObject({ generation: 2, desiredRunning: true });
  });

  it('undo what a restore claimed', async () => {
    const running = fence();
    await expect(backups.beginRestore(running, spec)).rejects.toMatchObject({
      code: 'PROJECT_NOT_STOPPED',
    });
    await books.change(id, (_row, save) => save({ state: 'stopped' }));
    const restore = fence({ generation: 2 });
    await backups.beginRestore(restore, spec);
    await expect(books.admit(fence())).rejects.toMatchObject({ code: 'PROJECT_BUSY_RESTORING' });
    const other = backups.beginRestore(fence({ generation: 2 }), spec);
    await expect(other).rejects.toMatchObject({ code: 'PROJECT_BUSY_RESTORING' });
    await expect(moves.fenceForMove(id, move)).rejects.toMatchObject({ code: 'PROJECT_MOVING' });
    await backups.abandonRestore(restore);
    await books.admit(fence());
    await backups.beginRestore(restore, spec);
    await backups.adoptRestored(restore, spec);
    expect(await books.get(id)).toMatchObject({ generation: 2, restoringBy: null });
  });

  it('leave nothing of a restore that made a new project and failed', async () => {
    const restore = fence({ projectId: newId() });
    await backups.beginRestore(restore, spec);
    expect(await moves.get(restore.projectId)).toBeUndefined();
    await backups.abandonRestore(restore);
    expect(await books.get(restore.projectId)).toBeUndefined();
  });

  it('show the ingress each change at its next look', async () => {
    const record = new HostRecord(database, () => undefined);
    await record.save({
      hostId: newId(),
      hubUrl: 'http://x',
      verificationKeys: [],
      heartbeatEveryMs: 1,
    });
    const path = join(folder, 'books', 'host.sqlite');
    const seen = await RouteCache.open(path, new AbortController().signal);
    try {
      const routes = new SqliteRouteTable(seen);
      const changed: string[] = [];
      routes.onChange((projectId) => changed.push(projectId));
      expect(routes.lookup(id)).toEqual({ state: 'stopped' });
      await books.change(id, (_row, save) => save({ address: '10.0.0.2' }));
      expect(routes.lookup(id)).toEqual({ state: 'running', address: '10.0.0.2' });
      await gate.hold(id);
      expect(routes.lookup(id)).toEqual({ state: 'held' });
      await gate.release(id);
      expect(routes.lookup(id)).toMatchObject({ state: 'running' });
      await gate.moved(id, 'http://new');
      await gate.moved(id, 'http://new');
      expect(routes.lookup(id)).toEqual({ state: 'moved', newUrl: 'http://new' });
      await moves.forget(id, 'http://new');
      await moves.forget(id, 'http://new');
      expect(stopped).toEqual([id]);
      expect(routes.lookup(id)).toEqual({ state: 'moved', newUrl: 'http://new' });
      // It comes back by another move.
      await moves.adopt(id, 3, spec, true);
      expect(routes.lookup(id)).toEqual({ state: 'held' });
      await gate.release(id);
      await books.expire();
      expect(routes.lookup(id)).toEqual({ state: 'stopped' });
      expect(changed).toContain(id);
    } finally {
      seen.close();
    }
  });

  it('tell the ingress which ports to wait for, also after a move', async () => {
    const record = new HostRecord(database, () => undefined);
    await record.save({
      hostId: newId(),
      hubUrl: 'http://x',
      verificationKeys: [],
      heartbeatEveryMs: 1,
    });
    const path = join(folder, 'books', 'host.sqlite');
    const seen = await RouteCache.open(path, new AbortController().signal);
    try {
      const change = (more: object) => books.change(id, (_row, save) => save(more));
      const listeners = [
        { port: 80, isUp: true, startMs: 5 },
        { port: 81, isUp: false, startMs: 20_000 },
        { port: 82, isUp: false },
      ];
      await change({ address: '10.0.0.2', startedAt: 1000, listeners });
      const awaited = [
        { port: 81, until: 61_000 },
        { port: 82, until: 31_000 },
      ];
      const running = { state: 'running', address: '10.0.0.2' };
      expect(seen.lookup(id)).toEqual({ ...running, awaited });
      await change({ state: 'stopped', address: null, startsAgainBy: 7 });
      expect(seen.lookup(id)).toEqual({ state: 'stopped', heldUntil: 7 });
      await change({ state: 'starting' });
      expect(seen.lookup(id)).toEqual({ state: 'held' });
      expect((await moves.get(id))?.listeners).toEqual(listeners);
      await moves.adopt(id, 2, spec, true, [{ port: 90, isUp: true }]);
      await gate.release(id);
      await change({ state: 'running', address: '10.0.0.3' });
      expect(seen.lookup(id)).toEqual({ state: 'running', address: '10.0.0.3' });
      expect(await books.get(id)).toMatchObject({ startsAgainBy: null, startedAt: null });
    } finally {
      seen.close();
    }
  });

  it('keep jobs and moves over a restart', async () => {
    const job = { fence: fence(), kind: 'backup', state: 'running', startedAt: 1 } as const;
    await new SqliteBackupJournal(database).put(job);
    const base = { moveId: move, projectId: id, generation: 1, attempt: 1, claim: 1, updatedAt: 1 };
    const journal = new SqliteMoveJournal(database);
    await journal.saveIncoming({ ...base, needBytes: 5, state: 'authorized' });
    await journal.saveOutgoing({
      ...base,
      state: 'copying',
      confirmed: [],
      pictures: [],
      rounds: [],
    });
    await reopen();
    const jobs = new SqliteBackupJournal(database);
    expect(await jobs.active()).toEqual([job]);
    await jobs.put({ ...job, state: 'failed' });
    expect(await jobs.active()).toEqual([]);
    const again = new SqliteMoveJournal(database);
    expect(await again.incoming(move)).toMatchObject({ needBytes: 5 });
    expect(await again.listOutgoing()).toMatchObject([{ moveId: move, state: 'copying' }]);
  });

  it('keep the host’s keys to itself', async () => {
    const keys = join(folder, 'keys');
    const first = await loadIdentity(keys, database);
    const again = await loadIdentity(keys, database);
    expect(again).toEqual(first);
    expect(first.identityKey).toMatch(/^U[A-Z2-7]{55}$/);
    for (const name of ['identity.nk', 'transfer_ed25519', 'ingress_ed25519']) {
      expect((await stat(join(keys, name))).mode & 0o777).toBe(0o600);
    }
    expect((await stat(keys)).mode & 0o777).toBe(0o700);
  });
});
