import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { SystemClock, SystemExec } from '@rookery/core';
import { AccessStore } from '../src/access/access-store.js';
import { ProjectRepository } from '../src/projects/project.repository.js';
import { SqliteBackupJournal, SqliteMoveJournal } from '../src/projects/sqlite-journals.js';
import { openDatabase } from '../src/database/database.js';
import { accountOf, moveOf, projectOf } from './database-storm.names.mjs';

const program = join(import.meta.dirname, 'database-storm.mjs');
const projects = 4;

/** How often each writer's change was confirmed. */
type Confirmed = Map<string, number>;

/** @param killAfter confirmations; the storm ends by itself, unclosed, when there are not so many. */
async function storm(file: string, seed: number, killAfter: number) {
  const confirmed: Confirmed = new Map();
  const child = new SystemExec().spawn([process.execPath, program, file, String(seed), '1500'], {
    env: { NODE_OPTIONS: '' },
  });
  let lines = 0;
  let ended = false;
  for await (const line of createInterface({ input: child.stdout })) {
    const [writer = '', count = ''] = line.split(' ');
    if (writer === 'end') ended = true;
    else confirmed.set(writer, Number(count));
    lines += 1;
    if (lines === killAfter) child.kill('SIGKILL');
  }
  const { stderr } = await child.ended;
  expect(stderr).toBe('');
  return { confirmed, ended };
}

/** What each writer's place in the reopened database says, as a function of its last count. */
async function reopened(file: string) {
  const database = await openDatabase(file);
  const clock = new SystemClock();
  const books = new ProjectRepository(database, clock);
  const moves = new SqliteMoveJournal(database);
  const jobs = new SqliteBackupJournal(database);
  const access = new AccessStore(database, clock, 60_000);
  await access.open();
  const found: Record<string, unknown> = { access: accessOf(access) };
  for (let n = 0; n < projects; n += 1) {
    const row = await books.get(projectOf(n));
    const away = await books.get(projectOf(n + projects));
    found[`fence:${n}`] = row?.fencedBy ?? null;
    found[`note:${n}`] = row?.imageRef ?? null;
    found[`gate:${n}`] = row?.ingressState;
    found[`away:${n}`] = away ? [away.generation, away.ingressState] : null;
    found[`out:${n}`] = (await moves.outgoing(moveOf(n)))?.attempt ?? null;
    found[`in:${n}`] = (await moves.incoming(moveOf(n)))?.attempt ?? null;
    found[`job:${n}`] = (await jobs.get(moveOf(n)))?.fence.attempt ?? null;
  }
  access.close();
  await database.close();
  return found;
}

const accessOf = (access: AccessStore) => ({
  revision: access.revision ?? 0,
  rights: [0, 1, 2].map((n) => access.projectsOf(accountOf(n)).map((each) => each.projectId)),
});

/** The same, by what the writer does at this count (`database-storm.mjs`). */
function expectedAt(writer: string, count: number): unknown {
  const [kind = ''] = writer.split(':');
  switch (kind) {
    case 'fence':
      return count % 2 ? moveOf(count) : null;
    case 'note':
      return count === 0 ? null : String(count);
    case 'gate':
      return count % 2 ? 'held' : 'open';
    case 'away':
      if (count % 3 === 0) return null;
      return count % 3 === 1 ? [count, 'held'] : [count - 1, 'moved'];
    case 'access':
      return { revision: count, rights: [0, 1, 2].map((n) => rightsAt(n, count)) };
    default:
      return count === 0 ? null : count;
  }
}

function rightsAt(account: number, revision: number): string[] {
  for (let at = revision; at > 0; at -= 1) if (at % 3 === account) return [projectOf(at)];
  return [];
}

describe('a host’s database with many writers', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-storm-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('has all that it confirmed when it was not closed', async () => {
    const file = join(folder, 'host.sqlite');
    const { confirmed, ended } = await storm(file, 1, Infinity);
    expect(ended).toBe(true);
    const expected: Record<string, unknown> = {};
    for (const [writer, count] of confirmed) expected[writer] = expectedAt(writer, count);
    expect(Object.keys(expected)).toHaveLength(projects * 7 + 1);
    expect(await reopened(file)).toEqual(expected);
  });

  it.each([2, 3])('has all that it confirmed when it is killed (seed %i)', async (seed) => {
    const file = join(folder, 'host.sqlite');
    const { confirmed, ended } = await storm(file, seed, 200 * seed);
    expect(ended).toBe(false);
    const found = await reopened(file);
    for (const writer of Object.keys(found)) {
      // Besides what was confirmed only what was under way may be there, of each writer one change.
      const count = confirmed.get(writer) ?? 0;
      const allowed = [expectedAt(writer, count), expectedAt(writer, count + 1)];
      expect({ writer, count, allowed }).toEqual({
        writer,
        count,
        allowed: expect.arrayContaining([found[writer]]),
      });
    }
  });
});
