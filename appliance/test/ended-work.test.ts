import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { loopback } from '@rookery/rpc/testing';
import Sqlite from 'better-sqlite3';
import { CoreErrors, createLogger, newId, SystemClock } from '@rookery/core';
import { ProjectSpec, type Fence } from '@rookery/core/contract';
import { MoveDestinationService, MoveOptions, MoveSourceService } from '@rookery/move';
import { moveDestination, moveSource } from '@rookery/fleet/contract';
import { MemoryStorageDriver } from '@rookery/storage/testing';
import { EndedWork } from '../src/projects/ended-work.js';
import { SqliteBackupProjects } from '../src/projects/backup-projects.js';
import { SqliteHostProjects, SqliteIngressGate } from '../src/projects/move-projects.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { SqliteBackupJournal, SqliteMoveJournal } from '../src/projects/sqlite-journals.js';
import { openDatabase } from '../src/database/database.js';
import { IncomingMoveRow, JobRow, OutgoingMoveRow } from '../src/database/entities/work.entity.js';
import type { HostDatabase } from '../src/database/host-database.js';

const dayMs = 86_400_000;
const keepMs = 30 * dayMs;
const [P, Q, hostId] = [newId(), newId(), newId()] as [string, string, string];
const spec = ProjectSpec.parse({ image: 'x', quota: {} });
const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0vKp2LrDq3nJcVPQkZ0l1bJ4m5T8eXG7dYw2u9a1bc';
const signal = new AbortController().signal;

/** Later than it is, by as much as a test says. */
let laterMs = 0;
class LateClock extends SystemClock {
  override now(): number {
    return super.now() + laterMs;
  }
}

describe('work that is over on a host', () => {
  let folder: string;
  let database: HostDatabase;
  let books: ProjectRepository;
  let journal: SqliteMoveJournal;
  let storage: MemoryStorageDriver;
  let ended: EndedWork;
  let source: ReturnType<typeof sourceOf>;
  let destination: ReturnType<typeof destinationOf>;
  /** What the hub says is over, with its newest claim; and what it was asked. */
  let over: Map<string, number | undefined>;
  let asked: string[][];
  /** What was started and stopped. */
  let containers: string[];
  const clock = new LateClock();

  const movePorts = () => {
    const projects = new SqliteHostProjects(books, {
      stop: async (id) => void containers.push(`stop ${id}`),
      ensureRunning: async (id) => void containers.push(`start ${id}`),
      endWriters: async () => undefined,
    });
    const gate = new SqliteIngressGate(books);
    return { storage, projects, journal, gate, clock };
  };
  const sourceOf = () => {
    const sender = {
      send: async () => {
        throw CoreErrors.INTERRUPTED({ reason: 'no destination' });
      },
    };
    return loopback(
      moveSource,
      new MoveSourceService({ ...movePorts(), sender }, MoveOptions.parse({})),
    );
  };
  const destinationOf = () =>
    loopback(
      moveDestination,
      new MoveDestinationService(movePorts(), MoveOptions.parse({ reserveBytes: 0 })),
    );
  const open = async (): Promise<void> => {
    database = await openDatabase(join(folder, 'host.sqlite'));
    books = new ProjectRepository(database, clock);
    journal = new SqliteMoveJournal(database);
    [source, destination] = [sourceOf(), destinationOf()];
    ended = new EndedWork({ database, clock, keepMs, logger: createLogger('test', 'silent') });
    ended.attach({
      endedMoves: async ({ moveIds }) => {
        asked.push(moveIds);
        const known = moveIds.filter((id) => over.has(id));
        return {
          over: known.map((moveId) => {
            const claim = over.get(moveId);
            return claim === undefined ? { moveId } : { moveId, claim };
          }),
        };
      },
    });
  };

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-ended-'));
    storage = new MemoryStorageDriver();
    await storage.open();
    [laterMs, over, asked, containers] = [0, new Map(), [], []];
    await open();
    for (const id of [P, Q]) {
      await storage.createVolume(id, { quotaBytes: 1024 ** 2 });
      await books.change(id, (_row, save) => save({ spec, generation: 1, state: 'running' }));
    }
  });
  afterEach(async () => {
    await database.close();
    await storage.close();
    await rm(folder, { recursive: true, force: true });
  });

  const call = (claim: number, more: Partial<Fence> & { moveId?: string } = {}) => {
    const { moveId = newId(), ...rest } = more;
    const fence = { projectId: P, generation: 1, operationId: moveId, attempt: 1, claim, ...rest };
    return { fence, moveId };
  };
  const target = { hostId, sshHost: 'localhost', sshPort: 22, ingressKey: key };
  const arrival = { sourceHostId: hostId, sourceTransferKey: key, spec, needBytes: 1 };
  const manifest = { snapshots: [], final: { name: 'f', uuid: 'f' } };
  const rows = () => [
    database.find(OutgoingMoveRow).map(({ moveId }) => moveId),
    database.find(IncomingMoveRow).map(({ moveId }) => moveId),
  ];
  const stale = { code: 'STALE_ATTEMPT' };

  it('is forgotten when the hub has acknowledged its end, and not before', async () => {
    const gone = call(5);
    const undone = call(6, { projectId: Q });
    const copying = call(7, { projectId: newId() });
    await source.retire(gone);
    await source.resume({ ...undone, restart: true });
    await journal.saveOutgoing({
      moveId: copying.moveId,
      projectId: copying.fence.projectId,
      generation: 1,
      attempt: 1,
      claim: 7,
      state: 'copying',
      confirmed: [],
      pictures: [],
      rounds: [],
      updatedAt: 1,
    });
    const here = call(8, { projectId: newId() });
    await destination.abandon({ ...here, takenBack: false });
    over.set(gone.moveId, 5);
    await ended.run(signal);
    // What ended just now is not asked about yet.
    expect(asked).toEqual([]);
    laterMs += 11 * 60_000;
    await ended.run(signal);
    expect(asked.map((ids) => ids.sort())).toEqual([
      [gone.moveId, undone.moveId].sort(),
      [here.moveId],
    ]);
    expect(rows()).toEqual([[undone.moveId, copying.moveId].sort(), [here.moveId]]);
    over.set(undone.moveId, 6).set(here.moveId, 8).set(copying.moveId, 7);
    await ended.run(signal);
    expect(rows()).toEqual([[copying.moveId], []]);
  });

  it('is answered rightly when it is asked for late, also after a restart', async () => {
    const retired = call(5);
    const undone = call(6, { projectId: Q });
    await source.retire(retired);
    await source.resume({ ...undone, restart: true });
    // The hub had given out a claim that never came here.
    over.set(retired.moveId, 9).set(undone.moveId, 6);
    laterMs += 3_600_000;
    await ended.run(signal);
    await database.close();
    await open();
    expect(rows()).toEqual([[], []]);
    // The project has come back by another move.
    await storage.createVolume(P, { quotaBytes: 1024 ** 2 });
    await books.change(P, (_row, save) => save({ spec, generation: 3, state: 'running' }));
    containers = [];
    const retry = { ...retired, fence: { ...retired.fence, attempt: 2, claim: 9 } };
    for (const late of [retired, retry]) {
      await source.retire(late);
      await source.resume({ ...late, restart: true });
      await expect(source.copy({ ...late, target })).rejects.toMatchObject(stale);
      await destination.abandon({ ...late, takenBack: false });
      await expect(destination.prepare({ ...late, ...arrival })).rejects.toMatchObject(stale);
      const landed = { ...late, manifest, spec, start: true };
      await expect(destination.activate(landed)).rejects.toMatchObject(stale);
    }
    await expect(source.cutover({ ...undone, target })).rejects.toMatchObject(stale);
    expect(rows()).toEqual([[], []]);
    expect(containers).toEqual([]);
    expect(await books.get(P)).toMatchObject({ generation: 3, ingressState: 'open' });
    expect(await storage.volume(P)).toBeDefined();
    // What was claimed later is another move.
    await source.resume({ ...call(10, { generation: 3 }), restart: true });
    expect(rows()[0]).toHaveLength(1);
  });

  it('stays refused when the project’s own calls are forgotten', async () => {
    const retired = call(5);
    await source.retire(retired);
    over.set(retired.moveId, 5);
    laterMs += 3_600_000;
    await ended.run(signal);
    laterMs += 8 * dayMs;
    await books.expire();
    await expect(source.copy({ ...retired, target })).rejects.toMatchObject(stale);
  });

  it('is bounded in number and in time when the hub never says anything', async () => {
    ended.attach({
      endedMoves: async () => {
        throw CoreErrors.TIMEOUT({ what: 'the hub', timeoutMs: 1 });
      },
    });
    const now = Date.now();
    database.write((all) => {
      for (let n = 0; n < 5_150; n += 1) {
        const document = {
          moveId: newId(),
          projectId: P,
          generation: 1,
          attempt: 1,
          claim: n + 1,
          needBytes: 0,
          state: 'abandoned' as const,
          updatedAt: now + n,
        };
        const { moveId, state, updatedAt: endedAt } = document;
        all.put(IncomingMoveRow, { moveId, state, endedAt, document });
      }
    });
    laterMs = 10_000;
    await ended.run(signal);
    expect(rows()[1]).toHaveLength(5_000);
    expect(await journal.forgottenClaim(P)).toBe(150);
    laterMs = keepMs + 3_600_000;
    await ended.run(signal);
    expect(rows()[1]).toEqual([]);
  });

  it('is found in a database of an earlier release', async () => {
    const [undone, moving] = [call(3), call(4, { projectId: Q })];
    await source.resume({ ...undone, restart: true });
    await journal.saveIncoming({
      moveId: moving.moveId,
      projectId: Q,
      generation: 1,
      attempt: 1,
      claim: 0,
      needBytes: 1,
      state: 'authorized',
      updatedAt: 1,
    });
    const job = { fence: undone.fence, kind: 'backup', startedAt: 7, endedAt: 8 } as const;
    await new SqliteBackupJournal(database).put({ ...job, state: 'failed' });
    await database.close();
    const old = new Sqlite(join(folder, 'host.sqlite'));
    for (const table of ['jobs', 'outgoing_moves', 'incoming_moves']) {
      old.exec(`DROP INDEX "${table}_ended"; ALTER TABLE "${table}" DROP COLUMN "ended_at"`);
    }
    old.exec(`DELETE FROM migrations WHERE name = 'EndedWork1700000000013'`);
    old.close();
    await open();
    expect(database.findOne(JobRow, { operationId: job.fence.operationId })?.endedAt).toBe(8);
    const row = database.findOne(OutgoingMoveRow, { moveId: undone.moveId });
    expect(row?.endedAt).toBe(row?.document.updatedAt);
    expect(database.findOne(IncomingMoveRow, { moveId: moving.moveId })?.endedAt).toBeNull();
  });

  it('is forgotten as a job after its time, and not done twice then', async () => {
    const jobs = new SqliteBackupJournal(database);
    const fence = { projectId: P, generation: 1, operationId: newId(), attempt: 1, claim: 4 };
    const projects = new SqliteBackupProjects(books, { settle: async () => undefined });
    await books.change(P, (_row, save) => save({ state: 'stopped' }));
    await projects.beginRestore(fence, spec);
    await projects.adoptRestored(fence, spec);
    const job = { fence, kind: 'restore', startedAt: Date.now() } as const;
    await jobs.put({ ...job, state: 'succeeded', endedAt: Date.now() });
    const running = { ...fence, operationId: newId() };
    await jobs.put({ ...job, fence: running, state: 'running' });
    laterMs = keepMs - 60_000;
    await ended.run(signal);
    expect(database.find(JobRow)).toHaveLength(2);
    laterMs = keepMs + 60_000;
    await ended.run(signal);
    expect(database.find(JobRow).map(({ operationId }) => operationId)).toEqual([
      running.operationId,
    ]);
    await expect(projects.beginRestore(fence, spec)).rejects.toMatchObject(stale);
    await expect(projects.authorize(fence)).rejects.toMatchObject(stale);
    await projects.authorize({ ...fence, operationId: newId(), claim: 5 });
  });
});
