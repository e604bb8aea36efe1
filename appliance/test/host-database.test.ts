import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { newId, SystemClock } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { AccessStore } from '../src/access/access-store.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { openDatabase } from '../src/database/database.js';
import { KeyRow } from '../src/database/entities/host.entity.js';
import type { HostDatabase, WritableRows } from '../src/database/host-database.js';

const spec = ProjectSpec.parse({ image: 'x', quota: {} });
const clock = new SystemClock();

describe('the host’s database', () => {
  let folder: string;
  let database: HostDatabase;
  let books: ProjectRepository;
  const told: string[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-database-'));
    database = await openDatabase(join(folder, 'host.sqlite'));
    books = new ProjectRepository(database, clock);
    told.length = 0;
    books.onChange((id) => told.push(id));
  });
  afterEach(async () => {
    await database.close();
    await rm(folder, { recursive: true, force: true });
  });

  const add = (id: string, image = 'x') =>
    books.change(id, (_row, save) => save({ generation: 1, spec: { ...spec, image } }));

  const withFullDisk = async (task: () => Promise<void>): Promise<void> => {
    const before = Number(database.pragma('max_page_count'));
    database.pragma(`max_page_count = ${String(database.pragma('page_count'))}`);
    await task();
    database.pragma(`max_page_count = ${before}`);
  };

  it('tells of a failed commit to its own caller alone, and to no listener', async () => {
    const [small, large, other] = [newId(), newId(), newId()] as [string, string, string];
    await withFullDisk(async () => {
      const [first, second, third] = await Promise.allSettled([
        add(small),
        add(large, 'x'.repeat(100_000)),
        add(other),
      ]);
      expect([first.status, third.status]).toEqual(['fulfilled', 'fulfilled']);
      expect(second).toMatchObject({ reason: { code: 'HOST_DATABASE_FULL', retryable: true } });
    });
    expect((await books.list()).map((row) => row.projectId).sort()).toEqual([small, other].sort());
    expect(told).toEqual([small, other]);
  });

  it('undoes what a task saved before it threw, and tells nobody', async () => {
    const id = newId();
    await add(id);
    told.length = 0;
    const refused = books.change(id, (_row, save) => {
      save({ fencedBy: 'm' });
      throw new Error('no');
    });
    await expect(refused).rejects.toThrow('no');
    expect(await books.get(id)).toMatchObject({ fencedBy: null });
    expect(told).toEqual([]);
  });

  it('takes no transaction that waits, lies in another one, or goes on after its end', () => {
    expect(() => database.write(async () => undefined)).toThrow('cannot return a promise');
    expect(() => database.write(() => database.write(() => undefined))).toThrow('in another one');
    let kept: WritableRows | undefined;
    database.write((rows) => (kept = rows));
    const late = { purpose: 'identity', publicKey: 'x' } as const;
    expect(() => kept?.put(KeyRow, late)).toThrow('after the end');
    expect(database.find(KeyRow)).toEqual([]);
  });

  it('keeps no revision of rights that are not on disk, though they hold at once', async () => {
    const access = new AccessStore(database, clock, 60_000);
    await access.open();
    const [account, projectId] = [newId(), newId()] as [string, string];
    const owner = { accountId: account, projects: [{ projectId, role: 'owner' as const }] };
    await access.apply(1, [owner]);
    const news: unknown[] = [];
    access.onChange((each) => news.push(each));
    await withFullDisk(async () => {
      const many = Array.from({ length: 2_000 }, () => ({ ...owner, accountId: newId() }));
      const all = [...many, { accountId: account, projects: [] }];
      await expect(access.apply(2, all)).rejects.toMatchObject({ code: 'HOST_DATABASE_FULL' });
    });
    expect(access.revision).toBe(1);
    expect(access.projectsOf(account)).toEqual([]);
    expect(news).toHaveLength(1);
    access.close();
  });
});
