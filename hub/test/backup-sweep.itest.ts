import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { FakeHost, type FakeRepository } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;
let host: FakeHost;
const repository: FakeRepository = new Map();

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url, {}, { backupSweepMs: 50 });
  const joinToken = await hub.joinToken();
  host = await FakeHost.join({ name: 'a', hubUrl: hub.url, joinToken, repository });
});

afterAll(async () => {
  await host?.disconnect();
  await hub?.close();
  await postgres?.close();
});

it('takes out of the index what the repository has lost, without being asked', async () => {
  const { id } = await hub.createProject({ host: 'a', start: false });
  const backUp = async () => {
    const path = `/projects/${id}/backups`;
    return hub.succeeded(await hub.ok<{ operation: Operation }>('POST', path, { body: {} }));
  };
  const lost = (await backUp()).result?.['backupId'] as string;
  const kept = (await backUp()).result?.['backupId'] as string;
  const indexed = async () => {
    const rows = await hub.app
      .get(DataSource)
      .query<{ id: string }[]>('SELECT id FROM backups WHERE project_id = $1', [id]);
    return rows.map((row) => row.id).sort();
  };
  expect(await indexed()).toEqual([lost, kept].sort());
  repository.delete(lost);
  await waitFor('the row goes', async () => (await indexed()).length === 1, { timeoutMs: 20_000 });
  expect(await indexed()).toEqual([kept]);
});
