import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { createLogger, SystemExec, waitFor, type SpawnedProcess } from '@rookery/core';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { dataSourceOptions, openDataSource } from '../src/database/data-source.js';
import { EmbeddedPostgres } from '../src/database/embedded-postgres.js';

let dir: string;
const servers: EmbeddedPostgres[] = [];

const log = createLogger('postgres', 'silent');

const server = (): EmbeddedPostgres => {
  const made = new EmbeddedPostgres({ dir, durable: false, log });
  servers.push(made);
  return made;
};

/** Of a hub that died: it hears nothing of the server it started, and starts it no more. */
class DeadHubsExec extends SystemExec {
  override spawn(...args: Parameters<SystemExec['spawn']>): SpawnedProcess {
    const child = super.spawn(...args);
    return { ...child, kill: (signal) => child.kill(signal), ended: new Promise(() => undefined) };
  }
}

async function query<T>(url: string, sql: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows as T[];
  } finally {
    await client.end();
  }
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'rookery-hub-'));
});
afterEach(async () => {
  for (const each of servers.splice(0)) await each.stop();
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('the embedded Postgres', () => {
  it('keeps its data and password over a restart', async () => {
    const first = server();
    const url = await first.start();
    await query(url, 'CREATE TABLE kept AS SELECT 1 AS n');
    await first.stop();
    expect(await server().start()).toBe(url);
    expect(await query(url, 'SELECT n FROM kept')).toEqual([{ n: 1 }]);
  });

  it('ends a server that an earlier hub left, and recovers', async () => {
    const exec = new DeadHubsExec();
    const url = await new EmbeddedPostgres({ dir, durable: false, log, exec }).start();
    await query(url, 'CREATE TABLE IF NOT EXISTS left_over AS SELECT 2 AS n');
    const orphan = await postmasterPid();
    await server().start();
    expect(await postmasterPid()).not.toBe(orphan);
    expect(await query(url, 'SELECT n FROM left_over')).toEqual([{ n: 2 }]);
  });

  it('recovers after SIGKILL', async () => {
    const url = await server().start();
    await query(url, 'CREATE TABLE survived AS SELECT 3 AS n');
    const killed = await postmasterPid();
    process.kill(killed, 'SIGKILL');
    await waitFor(
      'it is back by itself',
      () =>
        query(url, 'SELECT 1').then(
          async () => (await postmasterPid()) !== killed,
          () => false,
        ),
      { timeoutMs: 20_000 },
    );
    expect(await query(url, 'SELECT n FROM survived')).toEqual([{ n: 3 }]);
  });

  it('starts although the pid of a killed server is still taken, by a zombie of its user', async () => {
    const first = server();
    const url = await first.start();
    await query(url, 'CREATE TABLE outlived AS SELECT 4 AS n');
    await first.stop();
    // Its parent has become a program that does not ask for its children's ends.
    const change = process.getuid?.() === 0 ? 'setpriv --reuid postgres --clear-groups ' : '';
    const parent = new SystemExec().spawn([
      'sh',
      '-c',
      `${change}sleep 0.1 & echo $!; exec sleep 600`,
    ]);
    try {
      const [printed] = (await once(parent.stdout, 'data')) as [Buffer];
      const zombie = Number(String(printed));
      await waitFor(
        'it is a zombie',
        async () => (await readFile(`/proc/${zombie}/stat`, 'utf8')).includes(') Z '),
        { timeoutMs: 20_000 },
      );
      for (const path of ['data/postmaster.pid', 'run/.s.PGSQL.5432.lock']) {
        await writeFile(join(dir, path), `${zombie}\n`, { mode: 0o644 });
      }
      await writeFile(join(dir, 'run/.s.PGSQL.5432'), '');
      await server().start();
      expect(await query(url, 'SELECT n FROM outlived')).toEqual([{ n: 4 }]);
    } finally {
      parent.kill('SIGKILL');
      await parent.ended;
    }
  });

  it('is migrated once by processes that start together, and entities match the tables', async () => {
    const url = await server().start();
    const sources = [1, 2, 3].map(() => new DataSource(dataSourceOptions(url)));
    await Promise.all(sources.map((source) => openDataSource(source)));
    for (const source of sources) {
      for (const entity of source.entityMetadatas) {
        const columns = await source.query<{ column_name: string; is_nullable: string }[]>(
          'SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = $1',
          [entity.tableName],
        );
        const table = Object.fromEntries(columns.map((c) => [c.column_name, c.is_nullable]));
        const entityColumns = Object.fromEntries(
          entity.columns.map((c) => [c.databaseName, c.isNullable ? 'YES' : 'NO']),
        );
        expect({ [entity.tableName]: entityColumns }).toEqual({ [entity.tableName]: table });
      }
      await source.destroy();
    }
  });
});

const postmasterPid = async (): Promise<number> =>
  Number((await readFile(join(dir, 'data', 'postmaster.pid'), 'utf8')).split('\n')[0]);
