import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

const secret = { ROOKERY_CONAT_SECRET: 'a secret of sixteen or more' };
let postgres: TestPostgres;
let one: TestHub;
let two: TestHub;
let host: FakeHost;

const second = () =>
  TestHub.start(postgres.url, {
    ...secret,
    ROOKERY_CONAT_URL: `${one.url.replace('http', 'ws')}/conat`,
  });

beforeAll(async () => {
  postgres = await startPostgres();
  one = await TestHub.start(postgres.url, secret);
  two = await second();
  host = await FakeHost.join({ name: 'h1', hubUrl: one.url, joinToken: await one.joinToken() });
});

afterAll(async () => {
  await host?.disconnect();
  await two?.close();
  await one?.close();
  await postgres?.close();
});

const asOnOne = () => ({ token: one.admin.token });

describe('two hub processes on one Postgres', () => {
  it('make one first account and sign with one key', async () => {
    expect(two.admin.token).toBeUndefined();
    expect(await two.ok('GET', '/account', asOnOne())).toMatchObject({ admin: true });
    const keys = await one.app.get(DataSource).query('SELECT kid FROM signing_keys');
    expect(keys).toHaveLength(1);
  });

  it('run no operation twice, whichever is asked', async () => {
    const started = await Promise.all(
      Array.from({ length: 30 }, (_, n) =>
        (n % 2 ? one : two).ok<{ operation: Operation; project: Project }>('POST', '/projects', {
          ...asOnOne(),
          body: { name: `p${n}`, start: true },
        }),
      ),
    );
    for (const each of started) {
      expect(await one.succeeded(each)).toMatchObject({ attempt: 1 });
    }
    expect(host.calls.filter((call) => call === 'projects.create')).toHaveLength(30);
    expect(host.calls.filter((call) => call === 'projects.start')).toHaveLength(30);
  });

  it('answer a repeated request with one key once', async () => {
    const headers = { 'idempotency-key': 'both' };
    const create = (hub: TestHub) =>
      hub.ok<{ project: Project }>('POST', '/projects', {
        ...asOnOne(),
        headers,
        body: { name: 'both' },
      });
    const [a, b] = await Promise.all([create(one), create(two)]);
    expect(a.project.id).toBe(b.project.id);
  });

  it('let only one of two moves at once begin', async () => {
    const third = await FakeHost.join({
      name: 'h2',
      hubUrl: one.url,
      joinToken: await one.joinToken(),
    });
    third.peers = host.peers = () => [host, third];
    try {
      const { id } = await one.createProject({ host: 'h1' });
      const move = (hub: TestHub) =>
        hub.call<{ operation?: Operation; code?: string }>('POST', `/projects/${id}/move`, {
          ...asOnOne(),
          body: { host: 'h2' },
        });
      const answers = await Promise.all([move(one), move(two), move(one), move(two)]);
      const begun = answers.filter((each) => each.status === 202);
      expect(begun).toHaveLength(1);
      expect(new Set(answers.map((each) => each.body.code).filter(Boolean))).toEqual(
        new Set(['PROJECT_MOVING']),
      );
      await one.succeeded({ operation: begun[0]!.body.operation! });
      expect(await one.project(id)).toMatchObject({ host: 'h2', placementGeneration: 2 });
    } finally {
      await third.disconnect();
    }
  });

  it('go on with what a stopped process had begun, at a new attempt', async () => {
    const third = await second();
    const started: { operation: Operation }[] = [];
    const release = host.hold('projects.create');
    for (let n = 0; n < 12; n += 1) {
      started.push(
        await third.ok('POST', '/projects', {
          ...asOnOne(),
          body: { name: `q${n}`, host: 'h1' },
        }),
      );
    }
    const attempts = () =>
      Promise.all(
        started.map(
          async ({ operation }) =>
            (await one.ok<Operation>('GET', `/operations/${operation.id}`)).attempt,
        ),
      );
    await waitFor('all are under way', async () => (await attempts()).every((n) => n === 1), {
      timeoutMs: 10_000,
    });
    await third.close();
    release();
    for (const each of started) await one.succeeded(each);
    expect(Math.max(...(await attempts()))).toBeGreaterThan(1);
  });

  it('a worker whose lease ran out changes nothing any more', async () => {
    const { id } = await one.createProject({ host: 'h1' });
    const release = host.hold('projects.start');
    const { operation } = await one.ok<{ operation: Operation }>('POST', `/projects/${id}/start`, {
      body: {},
    });
    const source = one.app.get(DataSource);
    const row = async () => {
      const sql = 'SELECT attempt, state FROM operations WHERE id = $1';
      const rows = await source.query<[{ attempt: number; state: string }]>(sql, [operation.id]);
      return rows[0];
    };
    await waitFor('it runs', async () => (await row()).attempt === 1, { timeoutMs: 5000 });
    // As if the worker had been frozen past its lease.
    await source.query('UPDATE operations SET lease_expires_at = now() WHERE id = $1', [
      operation.id,
    ]);
    await waitFor('another attempt', async () => (await row()).attempt === 2, { timeoutMs: 5000 });
    release();
    await one.succeeded({ operation });
    expect(await row()).toMatchObject({ attempt: 2, state: 'succeeded' });
    expect((await one.project(id)).state).toBe('running');
  });
});
