import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createServiceClient } from '@rookery/rpc';
import { hostReports } from '@rookery/fleet/contract';
import { newId, waitFor } from '@rookery/core';
import pg from 'pg';
import { SigningKeys } from '../src/keys/signing-keys.service.js';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

const soon = { timeoutMs: 20_000, everyMs: 20 };
let postgres: TestPostgres;
let hub: TestHub;
let other: TestHub;
let [here, there]: FakeHost[] = [];
let project: Project;

/** Rights are changed at one hub process, the hosts are connected to another. */
beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  other = await TestHub.start(postgres.url, { ROOKERY_ROLES: 'api' });
  const join = async (name: string): Promise<FakeHost> =>
    FakeHost.join({ name, hubUrl: hub.url, joinToken: await hub.joinToken() });
  here = await join('here');
  there = await join('there');
  for (const host of [here, there]) host.peers = () => [here!, there!];
  project = await hub.createProject({ host: here.hostId });
});
afterAll(async () => {
  for (const host of [here, there]) await host?.disconnect();
  await other?.close();
  await hub?.close();
  await postgres?.close();
});

const reports = async (host: FakeHost | undefined) =>
  createServiceClient(await host!.raw(), hostReports, { hostId: host!.hostId });
const access = async (host: FakeHost | undefined, since?: number) =>
  (await reports(host)).access(since === undefined ? {} : { since });
const share = (accountId: string, role: string) =>
  other.ok('PUT', `/projects/${project.id}/collaborators/${accountId}`, {
    token: hub.admin.token,
    body: { role },
  });
const unshare = (accountId: string) =>
  other.ok('DELETE', `/projects/${project.id}/collaborators/${accountId}`, {
    token: hub.admin.token,
  });
const sql = async (text: string, values: unknown[] = []): Promise<void> => {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query(text, values).finally(() => client.end());
};

describe('rights that a host keeps', () => {
  it('are those of its own projects, and it is told of each change', async () => {
    const owner = {
      accountId: hub.admin.accountId,
      projects: [{ projectId: project.id, role: 'owner' }],
    };
    const first = await access(here);
    expect(first).toMatchObject({ whole: true, accounts: [owner], revoked: [] });
    expect(await access(there)).toMatchObject({ whole: true, accounts: [] });

    const guest = await hub.createAccount('guest@example.org');
    const before = [here!.accessNews, there!.accessNews];
    await share(guest.accountId, 'viewer');
    await waitFor('its host is told', () => here!.accessNews > before[0]!, soon);
    const second = await access(here, first.revision);
    expect(second).toMatchObject({
      whole: false,
      accounts: [
        { accountId: guest.accountId, projects: [{ projectId: project.id, role: 'viewer' }] },
      ],
    });
    await waitFor('a heartbeat says so', () => here!.accessRevision >= second.revision, soon);
    expect(there!.accessNews).toBe(before[1]);

    const told = here!.accessNews;
    await unshare(guest.accountId);
    await waitFor('its host is told', () => here!.accessNews > told, soon);
    expect(await access(here, second.revision)).toMatchObject({
      whole: false,
      accounts: [{ accountId: guest.accountId, projects: [] }],
    });
    const { revision } = await access(here);
    expect(await access(here, revision)).toEqual({
      revision,
      whole: false,
      accounts: [],
      revoked: [],
    });
  });

  it('end with a key, and with a blocked account', async () => {
    const guest = await hub.createAccount('keys@example.org');
    await share(guest.accountId, 'editor');
    const { key } = await hub.ok<{ key: { id: string } }>('POST', '/api-keys', {
      token: guest.token,
      body: { name: 'k' },
    });
    const { revision } = await access(here);
    const told = here!.accessNews;
    await other.ok('DELETE', `/api-keys/${key.id}`, { token: guest.token });
    await waitFor('the host is told', () => here!.accessNews > told, soon);
    expect(await access(here, revision)).toMatchObject({
      revoked: [{ accountId: guest.accountId, credentialId: key.id }],
    });
    await sql('UPDATE accounts SET blocked_at = now() WHERE id = $1', [guest.accountId]);
    await waitFor('the host is told', () => here!.accessNews > told + 1, soon);
    const news = await access(here, revision);
    expect(news.accounts).toContainEqual({ accountId: guest.accountId, projects: [] });
    expect(news.revoked).toContainEqual({ accountId: guest.accountId });
    expect((await access(here)).accounts.map(({ accountId }) => accountId)).not.toContain(
      guest.accountId,
    );
  });

  it('after a gap: what ended lately, and which keys behind open connections have', async () => {
    const guest = await hub.createAccount('gap@example.org');
    await share(guest.accountId, 'editor');
    const make = async () =>
      hub.ok<{ key: { id: string }; token: string }>('POST', '/api-keys', {
        token: guest.token,
        body: { name: 'k' },
      });
    const [ended, good] = [(await make()).key.id, (await make()).key.id];
    await sql('DELETE FROM api_keys WHERE id = $1', [ended]);
    expect((await access(here)).revoked).toContainEqual({
      accountId: guest.accountId,
      credentialId: ended,
    });
    await sql(`UPDATE access_changes SET at = now() - interval '11 min'`);
    expect((await access(here)).revoked).toEqual([]);
    const ask = await reports(here);
    const unknown = newId();
    expect(await ask.credentials({ credentialIds: [ended, good, unknown] })).toEqual({
      ended: [ended, unknown],
    });
    await unshare(guest.accountId);
  });

  const idsOf = (...pages: { accounts: { accountId: string }[] }[]) =>
    pages.flatMap(({ accounts }) => accounts.map(({ accountId }) => accountId));
  /** Makes a key for each and ends it. */
  const endKeysOf = async (accounts: readonly string[]): Promise<void> => {
    await sql(
      `INSERT INTO api_keys (id, account_id, name, token_hash)
       SELECT gen_random_uuid(), id, 'k', decode(replace(id::text, '-', ''), 'hex')
       FROM unnest($1::uuid[]) AS id`,
      [accounts],
    );
    await sql('DELETE FROM api_keys WHERE account_id = ANY($1)', [accounts]);
  };

  it('and their changes come in pages, all of them when the log does not reach back so far', async () => {
    const { revision } = await access(here);
    const accounts = Array.from({ length: 201 }, () => newId()).sort();
    await sql(
      `INSERT INTO accounts (id, email, name)
       SELECT id, id || '@example.org', '' FROM unnest($1::uuid[]) AS id`,
      [accounts],
    );
    await sql(
      `INSERT INTO collaborators (project_id, account_id, role)
       SELECT $2, id, 'viewer' FROM unnest($1::uuid[]) AS id`,
      [accounts, project.id],
    );
    const ask = await reports(here);
    const changes = await ask.access({ since: revision, paged: true });
    expect([changes.whole, changes.accounts.length]).toEqual([false, 200]);
    const last = await ask.access({ since: revision, paged: true, after: changes.next! });
    expect([last.whole, last.next]).toEqual([false, undefined]);
    expect(idsOf(changes, last)).toEqual(accounts);
    // A host of before that is told everything.
    const first = await access(here, revision);
    expect([first.whole, first.accounts.length]).toEqual([true, 200]);
    const rest = await ask.access({ after: first.next! });
    expect(rest.next).toBeUndefined();
    const all = idsOf(first, rest);
    expect(new Set(all).size).toBe(all.length);
    expect(all).toEqual(expect.arrayContaining([...accounts, hub.admin.accountId]));
    await endKeysOf(accounts);
    const ended = await ask.access({ since: last.revision, paged: true });
    const others = await ask.access({ since: last.revision, paged: true, after: ended.next! });
    const endedIds = [...ended.revoked, ...others.revoked].map(({ accountId }) => accountId);
    expect(endedIds.sort()).toEqual(accounts);
    expect(ended.revoked).toHaveLength(200);
    await sql('DELETE FROM collaborators WHERE account_id = ANY($1)', [accounts]);
    await sql('DELETE FROM access_changes');
    expect((await access(here, revision)).whole).toBe(true);
    expect((await access(here, 2 ** 40)).whole).toBe(true);
  });

  it('move with the project: both hosts are told', async () => {
    const before = [here!.accessNews, there!.accessNews];
    const since = await Promise.all([access(here), access(there)]);
    await hub.succeeded(
      await hub.ok<{ operation: Operation; project: Project }>(
        'POST',
        `/projects/${project.id}/move`,
        { body: { host: there!.hostId } },
      ),
    );
    await waitFor(
      'both are told',
      () => here!.accessNews > before[0]! && there!.accessNews > before[1]!,
      soon,
    );
    const { accountId } = hub.admin;
    expect((await access(here, since[0].revision)).accounts).toContainEqual({
      accountId,
      projects: [],
    });
    expect((await access(there, since[1].revision)).accounts).toContainEqual({
      accountId,
      projects: [{ projectId: project.id, role: 'owner' }],
    });
    expect((await access(here)).accounts).toEqual([]);
  });
});

describe('moves that a host may forget', () => {
  it('are those whose operations have ended and owe it nothing', async () => {
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    try {
      const { rows } = await client.query<{ id: string; operation: string; claim: string }>(
        `SELECT m.id, o.id AS operation, o.claim FROM project_moves m
         JOIN operations o ON o.id = m.operation_id WHERE m.project_id = $1`,
        [project.id],
      );
      const [{ id: moveId, operation, claim } = { id: '', operation: '', claim: '' }] = rows;
      expect(Number(claim)).toBeGreaterThan(0);
      const ask = async (host: FakeHost | undefined, moveIds: string[]) =>
        (await (await reports(host)).endedMoves({ moveIds })).over;
      const done = { moveId, claim: Number(claim) };
      const unknown = newId();
      expect(await ask(here, [moveId, unknown])).toEqual(
        expect.arrayContaining([done, { moveId: unknown }]),
      );
      await client.query(
        `INSERT INTO host_debts (id, host_id, kind, move_id, debt) VALUES ($1, $2, 'retire', $3, '{}')`,
        [newId(), here!.hostId, moveId],
      );
      expect(await ask(here, [moveId])).toEqual([]);
      expect(await ask(there, [moveId])).toEqual([done]);
      await client.query('DELETE FROM host_debts');
      await client.query('UPDATE operations SET ended_at = NULL, run_at = $2 WHERE id = $1', [
        operation,
        'infinity',
      ]);
      expect(await ask(here, [moveId])).toEqual([]);
      await client.query('UPDATE operations SET ended_at = now(), run_at = now() WHERE id = $1', [
        operation,
      ]);
      expect(await ask(here, [moveId])).toEqual([done]);
      const other = createServiceClient(await here!.raw(), hostReports, { hostId: there!.hostId });
      await expect(
        other.endedMoves({ moveIds: [moveId] }, { timeoutMs: 2_000 }),
      ).rejects.toMatchObject({ code: 'SERVICE_FORBIDDEN' });
    } finally {
      await client.end();
    }
  });
});

describe('a token for a project’s programs', () => {
  it('goes to its host at its generation, and to nobody else', async () => {
    const generation = 2;
    const ask = async (host: FakeHost | undefined, at = generation) =>
      (await reports(host)).projectToken({ projectId: project.id, generation: at });
    const { token } = await ask(there);
    const keys = hub.app.get(SigningKeys);
    expect(await keys.verify(token, 'conat')).toMatchObject({
      sub: `project:${project.id}`,
      project: project.id,
      role: 'project',
    });
    await expect(ask(here)).rejects.toMatchObject({ status: 404 });
    await expect(ask(there, 1)).rejects.toMatchObject({ code: 'STALE_GENERATION' });
    // It opens nothing at the hub.
    const response = await fetch(`${hub.url}/api/v1/projects`, {
      headers: { authorization: `Bearer ${token}` },
    });
    expect(response.status).toBe(401);
  });

  it('is not given, nor are rights told, in another host’s name', async () => {
    const client = createServiceClient(await here!.raw(), hostReports, { hostId: there!.hostId });
    await expect(client.access({}, { timeoutMs: 2_000 })).rejects.toMatchObject({
      code: 'SERVICE_FORBIDDEN',
    });
    await expect(
      client.projectToken({ projectId: project.id, generation: 2 }, { timeoutMs: 2_000 }),
    ).rejects.toMatchObject({ code: 'SERVICE_FORBIDDEN' });
  });
});
