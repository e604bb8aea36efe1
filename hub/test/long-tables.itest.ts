import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { AbstractLogger, DataSource, type LogLevel, type LogMessage } from 'typeorm';
import { pageOfRows, type PageSql } from '../src/api/pages.js';
import { AuditService } from '../src/audit/audit.service.js';
import { dataSourceOptions, openDataSource } from '../src/database/data-source.js';
import { Retention } from '../src/retention.service.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';

const operationCount = 5000;
const project = randomUUID();

interface Plan {
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Filter'?: number;
  readonly Plans?: readonly Plan[];
}

/** Keeps the queries of a table. */
class QueryLog extends AbstractLogger {
  readonly queries: { readonly sql: string; readonly parameters: unknown[] }[] = [];

  override logQuery(sql: string, parameters: unknown[] = []): void {
    this.queries.push({ sql, parameters });
  }

  protected writeLog(_level: LogLevel, _message: LogMessage): void {}
}

let postgres: TestPostgres;
let dataSource: DataSource;
const log = new QueryLog();

beforeAll(async () => {
  postgres = await startPostgres();
  dataSource = new DataSource({ ...dataSourceOptions(postgres.url), logger: log });
  await openDataSource(dataSource);
  await dataSource.query(
    `INSERT INTO projects (id, title, placement_generation, run_quota, state, desired_state)
     VALUES ($1, 'p', 1, '{}', 'stopped', 'stopped')`,
    [project],
  );
  await dataSource.query(
    `INSERT INTO operations (id, kind, project_id, state, input, created_at, ended_at)
     SELECT gen_random_uuid(), 'project.start', $1, 'succeeded', '{}',
       now() - n * interval '1 minute', now() - n * interval '1 minute'
     FROM generate_series(1, $2) n`,
    [project, operationCount],
  );
  await dataSource.query('ANALYZE operations');
});
afterAll(async () => {
  await dataSource?.destroy();
  await postgres?.close();
});
beforeEach(() => {
  log.queries.length = 0;
});

/** How many rows the query looked at. */
async function rowsRead(sql: string, parameters: unknown[]): Promise<number> {
  const [row] = await dataSource.query<{ 'QUERY PLAN': [{ Plan: Plan }] }[]>(
    `EXPLAIN (ANALYZE, FORMAT JSON) ${sql}`,
    parameters,
  );
  const read = (plan: Plan): number =>
    plan.Plans === undefined
      ? plan['Actual Loops'] * (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0))
      : plan.Plans.reduce((sum, each) => sum + read(each), 0);
  return read(row!['QUERY PLAN'][0].Plan);
}

describe('a list', () => {
  const operations: PageSql = {
    select: `SELECT id, created_at FROM operations WHERE $1::uuid IS NULL OR project_id = $1`,
    parameters: [project],
    by: ['created_at', 'id'],
    newestFirst: true,
  };

  it('reads its page and no more, wherever the page begins', async () => {
    let cursor: string | undefined;
    for (let n = 0; n < 5; n += 1) {
      const page = await pageOfRows(dataSource.manager, operations, { limit: 100, cursor });
      cursor = page.nextCursor ?? undefined;
    }
    const reads = log.queries.filter(({ sql }) => sql.includes('cursor_time'));
    expect(reads).toHaveLength(5);
    for (const { sql, parameters } of reads) {
      expect(await rowsRead(sql, parameters)).toBeLessThan(150);
    }
  });

  it('has every row once, in order, also rows of one moment', async () => {
    const same = await dataSource.query<{ id: string }[]>(
      `INSERT INTO audit_log (writer, at, actor, action, subject)
       SELECT $1, '2026-01-01T00:00:00.123456Z', 'hub', 'x', 'same' FROM generate_series(1, 25)
       RETURNING id`,
      [randomUUID()],
    );
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await pageOfRows<{ id: string }>(
        dataSource.manager,
        {
          select: `SELECT id, at FROM audit_log WHERE subject = 'same'`,
          parameters: [],
          by: ['at', 'id'],
          newestFirst: true,
          idType: 'bigint',
        },
        { limit: 10, cursor },
      );
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    expect(seen).toEqual(same.map(({ id }) => id).reverse());
  });

  it.each([
    ['no id', ['2026-01-01 00:00:00+00', 'x']],
    ['no day', ['2026-02-31 00:00:00+00', randomUUID()]],
    ['another form of time', ['Thu Jan 1 2026', randomUUID()]],
    ['no time', ['', randomUUID()]],
  ])('refuses a cursor with %s', async (_what, key) => {
    const cursor = Buffer.from(JSON.stringify(key)).toString('base64url');
    await expect(
      pageOfRows(dataSource.manager, operations, { limit: 1, cursor }),
    ).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });
});

describe('the audit log', () => {
  it('is sealed without reading the chain before', async () => {
    const audit = new AuditService(dataSource);
    const entry = { actor: 'hub', action: 'x', subject: 'chain' };
    const record = async (count: number) => {
      for (let n = 0; n < count; n += 1) await audit.record(dataSource.manager, entry);
    };
    await record(300);
    while ((await audit.seal()) > 0);
    await record(1);
    log.queries.length = 0;
    expect(await audit.seal()).toBe(1);
    const reads = log.queries.filter(({ sql }) => /SELECT.*"audit_log"/s.test(sql));
    expect(reads).toHaveLength(2);
    await dataSource.query('ANALYZE audit_log');
    for (const { sql, parameters } of reads) {
      expect(await rowsRead(sql, parameters)).toBeLessThan(5);
    }
    const [last] = await dataSource.query<{ sequence: string }[]>(
      `SELECT sequence FROM audit_log WHERE subject = 'chain' ORDER BY id DESC LIMIT 1`,
    );
    expect(last?.sequence).toBe('301');
  });
});

describe('what ended long ago', () => {
  const count = async (table: string, where = 'true'): Promise<number> => {
    const [row] = await dataSource.query<{ n: number }[]>(
      `SELECT count(*)::int AS n FROM ${table} WHERE ${where}`,
    );
    return row!.n;
  };

  it('is forgotten, with what belongs to it; what goes on or is young is not', async () => {
    const [parent, child, stuck, host] = Array.from({ length: 4 }, () => randomUUID());
    await dataSource.query(
      `INSERT INTO project_hosts (id, name, region, public_url, internal_url, ssh_endpoint, status,
         version, capabilities, capacity, images, schedulable, trust)
       VALUES ($1, 'h', 'r', 'http://x', 'http://x', '{}', 'active', '1', '{}', '{}', '[]', true,
         'trusted')`,
      [host],
    );
    await dataSource.query(
      `INSERT INTO operations (id, kind, parent_id, state, input, created_at, ended_at) VALUES
         ($1, 'host.drain', NULL, 'succeeded', '{}', now() - interval '40 d', now() - interval '31 d'),
         ($2, 'project.move', $1, 'succeeded', '{}', now() - interval '40 d', now() - interval '32 d'),
         ($3, 'project.start', NULL, 'stuck', '{}', now() - interval '400 d', NULL)`,
      [parent, child, stuck],
    );
    await dataSource.query(
      `INSERT INTO project_moves (id, operation_id, project_id, reason, state, to_host_id,
         from_generation, ended_at)
       VALUES ($1, $1, $2, 'move', 'done', $3, 1, now() - interval '32 d')`,
      [child, project, host],
    );
    await dataSource.query(
      `INSERT INTO placement_decisions (id, project_id, candidates, created_at)
       SELECT gen_random_uuid(), $1, '[]', now() - n * interval '1 day'
       FROM generate_series(0, 9) n`,
      [project],
    );
    await new Retention(dataSource, { operationsDays: 30, placementsDays: 5 }).run();
    // The child goes first, its parent in the next run.
    await new Retention(dataSource, { operationsDays: 30, placementsDays: 5 }).run();
    expect(await count('operations', `id IN ('${parent}', '${child}')`)).toBe(0);
    expect(await count('project_moves')).toBe(0);
    expect(await count('operations', `id = '${stuck}'`)).toBe(1);
    expect(await count('operations', `kind = 'project.start' AND state = 'succeeded'`)).toBe(
      operationCount,
    );
    expect(await count('placement_decisions')).toBe(5);
  });

  it('is forgotten with a deleted project, an expired key and token of which nothing is left', async () => {
    const [account, kept] = [randomUUID(), randomUUID()];
    await dataSource.query(
      `INSERT INTO accounts (id, email, name) VALUES ($1, 'k@example.org', '')`,
      [account],
    );
    await dataSource.query(
      `INSERT INTO projects (id, title, placement_generation, run_quota, state, desired_state,
         deleted_at)
       SELECT CASE n WHEN 1 THEN $1::uuid ELSE gen_random_uuid() END, 'gone', 1, '{}', 'stopped',
         'deleted', now() - interval '31 d' FROM generate_series(1, 250) n`,
      [kept],
    );
    await dataSource.query(
      `INSERT INTO collaborators (project_id, account_id, role)
       SELECT id, $1, 'owner' FROM projects WHERE title = 'gone'`,
      [account],
    );
    await dataSource.query(
      `INSERT INTO backups (id, project_id, repository, driver, bytes, files, bytes_added,
         duration_ms, created_at)
       VALUES ('b', $1, 'r', 'restic', 1, 1, 1, 1, now())`,
      [kept],
    );
    await dataSource.query(
      `INSERT INTO api_keys (id, account_id, name, token_hash, expires_at, expiry_told_at)
       SELECT gen_random_uuid(), $1, 'k', decode(n::text, 'escape'), now() - n * interval '20 d',
         now() FROM generate_series(0, 2) n`,
      [account],
    );
    await dataSource.query(
      `INSERT INTO join_tokens (token_hash, created_by, expires_at)
       SELECT decode(n::text, 'escape'), $1, now() - n * interval '12 h' FROM generate_series(-1, 3) n`,
      [account],
    );
    await new Retention(dataSource, { operationsDays: 30, placementsDays: 5 }).run();
    expect(await count('projects', `title = 'gone'`)).toBe(1);
    expect(await count('projects', `id IN ('${kept}', '${project}')`)).toBe(2);
    expect(await count('collaborators')).toBe(1);
    expect(await count('api_keys')).toBe(2);
    expect(await count('join_tokens')).toBe(3);
  });

  it('is forgotten in parts, however much it is', async () => {
    await new Retention(dataSource, { operationsDays: 1, placementsDays: 5 }).run();
    // A day has 1440 minutes.
    expect(await count('operations', `state = 'succeeded'`)).toBeLessThan(1442);
    expect(await count('operations', `state = 'succeeded'`)).toBeGreaterThan(1435);
  });
});
