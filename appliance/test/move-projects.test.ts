import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { newId, SystemClock } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { SqliteHostProjects, SqliteIngressGate } from '../src/projects/move-projects.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { openDatabase } from '../src/database/database.js';
import type { HostDatabase } from '../src/database/host-database.js';

const spec = ProjectSpec.parse({ image: 'x', quota: {} });

describe('a host’s projects, as a move sees them', () => {
  const id = newId();
  const move = newId();
  let folder: string;
  let database: HostDatabase;
  let books: ProjectRepository;
  let moves: SqliteHostProjects;
  let gate: SqliteIngressGate;
  /** What was asked of the containers, in order. */
  let asked: string[];
  /** Resolves when the writers that are under way have ended. */
  let writersEnd: () => Promise<void>;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-move-projects-'));
    database = await openDatabase(join(folder, 'host.sqlite'));
    books = new ProjectRepository(database, new SystemClock());
    asked = [];
    writersEnd = async () => undefined;
    moves = new SqliteHostProjects(books, {
      stop: async (projectId) => void asked.push(`stop ${projectId}`),
      ensureRunning: async (projectId) => void asked.push(`start ${projectId}`),
      endWriters: async (projectId) => {
        const { fencedBy } = (await books.get(projectId))!;
        asked.push(`end writers, fenced by ${fencedBy}`);
        await writersEnd();
      },
    });
    gate = new SqliteIngressGate(books);
    await books.change(id, (_row, save) => save({ spec, generation: 1, state: 'running' }));
  });
  afterEach(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });

  it('are given as they are, with their image when it is known', async () => {
    const seen = {
      projectId: id,
      generation: 1,
      spec,
      state: 'running',
      desiredRunning: false,
      listeners: [],
    };
    expect(await moves.get(id)).toStrictEqual(seen);
    await books.change(id, (_row, save) => save({ imageDigest: 'sha256:1', generation: 0 }));
    expect(await moves.get(id)).toStrictEqual({ ...seen, generation: 0, imageDigest: 'sha256:1' });
    await books.change(id, (_row, save) => save({ desiredState: 'running', generation: -1 }));
    expect(await moves.get(id)).toBeUndefined();
    expect(await moves.get(newId())).toBeUndefined();
  });

  it('are shut to new writers before the old ones are waited for, each time it is asked', async () => {
    let end!: () => void;
    writersEnd = () => new Promise((resolve) => (end = resolve));
    let isFenced = false;
    const fencing = moves.fenceForMove(id, move).then(() => (isFenced = true));
    while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(isFenced).toBe(false);
    end();
    await fencing;
    writersEnd = async () => undefined;
    // The host died before they had ended: the move asks again.
    await moves.fenceForMove(id, move);
    const once = `end writers, fenced by ${move}`;
    expect(asked).toEqual([once, once]);
  });

  it('are written once for a fence, and for its end, that were asked for twice', async () => {
    const told: string[] = [];
    books.onChange((projectId) => told.push(projectId));
    await moves.fenceForMove(id, move);
    await moves.fenceForMove(id, move);
    await gate.hold(id);
    await gate.hold(id);
    await gate.release(id);
    await gate.release(id);
    await moves.unfence(id, move);
    await moves.unfence(id, move);
    expect(told).toEqual([id, id, id, id]);
    expect(await moves.isFencedBy(id)).toBeUndefined();
  });

  it('are not fenced when they are not here, or are held by another move or a restore', async () => {
    const unknown = newId();
    await expect(moves.fenceForMove(unknown, move)).rejects.toMatchObject({
      code: 'MOVE_NOT_OWNER',
    });
    expect(await moves.isFencedBy(unknown)).toBeUndefined();
    for (const column of ['fencedBy', 'restoringBy']) {
      await books.change(id, (_row, save) => save({ [column]: newId() }));
      await expect(moves.fenceForMove(id, move)).rejects.toMatchObject({ code: 'PROJECT_MOVING' });
      await books.change(id, (_row, save) => save({ [column]: null }));
    }
    expect(asked).toEqual([]);
  });

  it('make nothing of a project that is not here', async () => {
    const unknown = newId();
    await moves.unfence(unknown, move);
    await gate.hold(unknown);
    await gate.release(unknown);
    await moves.startContainer(unknown);
    await moves.forget(unknown, 'http://new');
    expect(await books.get(unknown)).toBeUndefined();
    expect(asked).toEqual([]);
  });

  it('are stopped whatever is wished, and started only when they should run', async () => {
    await moves.stopContainer(id);
    await moves.startContainer(id);
    expect(asked).toEqual([`stop ${id}`]);
    await books.change(id, (_row, save) => save({ desiredState: 'running' }));
    await moves.startContainer(id);
    expect(asked).toEqual([`stop ${id}`, `start ${id}`]);
  });

  it('know nothing of their former stay when they come', async () => {
    const stale = {
      imageRef: 'x',
      imageDigest: 'sha256:1',
      address: '10.0.0.2',
      linkIndex: 7,
      startedAt: 1,
      startsAgainBy: 2,
      error: { code: 'X', message: 'x', status: 500, retryable: false },
      fencedBy: move,
      restoringBy: newId(),
    };
    await books.change(id, (_row, save) => save(stale));
    await moves.adopt(id, 2, spec, false);
    const nothing = Object.fromEntries(Object.keys(stale).map((column) => [column, null]));
    expect(await books.get(id)).toMatchObject({
      ...nothing,
      generation: 2,
      desiredState: 'stopped',
      state: 'stopped',
      listeners: [],
      ingressState: 'held',
    });
    const fresh = newId();
    await moves.adopt(fresh, 0, spec, true);
    expect(await books.get(fresh)).toMatchObject({ generation: 0, desiredState: 'running' });
  });

  it('are left only after their container has ended', async () => {
    let end!: () => void;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const slow = new SqliteHostProjects(books, {
      stop: () => ended,
      ensureRunning: async () => undefined,
      endWriters: async () => undefined,
    });
    const leaving = slow.forget(id, 'http://new');
    await new Promise((resolve) => setImmediate(resolve));
    expect(await books.get(id)).toBeDefined();
    end();
    await leaving;
    expect(await books.get(id)).toBeUndefined();
  });
});
