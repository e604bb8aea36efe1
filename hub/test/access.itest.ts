import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ConatClient } from '@rookery/conat';
import { identityNames } from '@rookery/fleet/contract';
import { createLogger, waitFor } from '@rookery/core';
import pg from 'pg';
import { AccessChanges, type AccessChange } from '../src/access/access-changes.js';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

const soon = { timeoutMs: 20_000 };
let postgres: TestPostgres;
let one: TestHub;
let two: TestHub;
let host: FakeHost;
let heard: AccessChange[];
const clients: ConatClient[] = [];

/** Two hub processes, each with a broker and a proxy of its own. */
beforeAll(async () => {
  postgres = await startPostgres();
  one = await TestHub.start(postgres.url);
  two = await TestHub.start(postgres.url, { ROOKERY_PATH_ORIGIN: 'shared' });
  heard = [];
  two.app.get(AccessChanges).onChange((change) => heard.push(change));
  host = await FakeHost.join({ name: 'h1', hubUrl: one.url, joinToken: await one.joinToken() });
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await host?.disconnect();
  await two?.close();
  await one?.close();
  await postgres?.close();
});

interface Someone {
  readonly token: string;
  readonly accountId: string;
}

let count = 0;
const someone = (): Promise<Someone> => one.createAccount(`someone-${(count += 1)}@example.org`);

const share = (projectId: string, { accountId }: Someone, role: string | null) =>
  role === null
    ? one.ok('DELETE', `/projects/${projectId}/collaborators/${accountId}`)
    : one.ok('PUT', `/projects/${projectId}/collaborators/${accountId}`, { body: { role } });

interface Connected {
  readonly client: ConatClient;
  /** What the broker said while it was connected. */
  readonly told: string[];
}

/** Connects to the second hub and listens to a project. */
async function listen({ token, accountId }: Someone, projectId: string, secret = token) {
  const client = await ConatClient.connect({
    servers: `${two.url}/conat`,
    identity: identityNames.account(accountId),
    credentials: { token: secret },
    connectTimeoutMs: 10_000,
    logger: createLogger('test', 'silent'),
  });
  clients.push(client);
  const told: string[] = [];
  client.onStatus((status) => told.push(status));
  client.onPublishRefused((subject) => told.push(`no publishing to ${subject}`));
  client.nats.subscribe(`project.${projectId}.news`, {
    callback: (error) => {
      if (error) told.push('no subscription');
    },
  });
  await client.nats.flush();
  return { client, told } satisfies Connected;
}

const gate = async (projectId: string, token: string): Promise<number> => {
  const response = await fetch(`${two.url}/${projectId}/port/80/`, {
    headers: { authorization: `Bearer ${token}` },
    redirect: 'manual',
  });
  await response.arrayBuffer();
  return response.status;
};
const isCut = (told: string): boolean => told === 'disconnected' || told === 'closed';
/** The way is free as far as the hub is concerned; this host has no ingress. */
const open = 502;

describe('what one hub process changes, another hears of', () => {
  it('a removed collaborator loses subscriptions and the way in', async () => {
    const { id } = await one.createProject();
    const guest = await someone();
    await share(id, guest, 'editor');
    const { told } = await listen(guest, id);
    expect(await gate(id, guest.token)).toBe(open);
    await share(id, guest, null);
    await waitFor('the subscription ends', () => told.includes('no subscription'), soon);
    expect(await gate(id, guest.token)).toBe(403);
    await share(id, guest, 'viewer');
    await waitFor('the way is free', async () => (await gate(id, guest.token)) === open, soon);
  });

  it('a lower role may ask less, and still listens', async () => {
    const { id } = await one.createProject();
    const guest = await someone();
    await share(id, guest, 'editor');
    const { client, told } = await listen(guest, id);
    const subject = `project.${id}.anything`;
    client.nats.publish(subject, 'may I?');
    await client.nats.flush();
    expect(told).toEqual([]);
    await share(id, guest, 'viewer');
    await waitFor(
      'it may not',
      async () => {
        client.nats.publish(subject, 'and now?');
        await client.nats.flush();
        return told.includes(`no publishing to ${subject}`);
      },
      soon,
    );
    expect(told).not.toContain('no subscription');
  });

  it('a deleted project is gone for all', async () => {
    const { id } = await one.createProject();
    const guest = await someone();
    await share(id, guest, 'owner');
    const { told } = await listen(guest, id);
    expect(await gate(id, guest.token)).toBe(open);
    await one.succeeded(
      await one.ok<{ operation: Operation; project: Project }>('DELETE', `/projects/${id}`),
    );
    await waitFor('the subscription ends', () => told.includes('no subscription'), soon);
    expect(await gate(id, guest.token)).toBe(404);
  });

  it('a revoked key cuts its connections; what was made with it is worth nothing', async () => {
    const { id } = await one.createProject();
    const guest = await someone();
    await share(id, guest, 'editor');
    const { key, token } = await one.ok<{ key: { id: string }; token: string }>(
      'POST',
      '/api-keys',
      { token: guest.token, body: { name: 'second' } },
    );
    const conat = await one.ok<{ token: string }>('POST', '/conat-tokens', { token, body: {} });
    const { told } = await listen(guest, id, conat.token);
    expect(await gate(id, token)).toBe(open);
    await one.ok('DELETE', `/api-keys/${key.id}`, { token: guest.token });
    await waitFor('it is cut', () => told.some((each) => each !== 'connected'), soon);
    expect(await gate(id, token)).toBe(401);
    expect(await gate(id, guest.token)).toBe(open);
    await expect(listen(guest, id, conat.token)).rejects.toMatchObject({
      code: 'CONAT_UNAUTHORIZED',
    });
    await listen(guest, id);
  });

  it('a blocked account can do nothing until it is let in again', async () => {
    const { id } = await one.createProject();
    const guest = await someone();
    await share(id, guest, 'owner');
    const { told } = await listen(guest, id);
    expect(await gate(id, guest.token)).toBe(open);
    const path = `/accounts/${guest.accountId}`;
    const block = (blocked: boolean) => one.ok('PATCH', path, { body: { blocked } });
    expect(await block(true)).toMatchObject({ id: guest.accountId, blocked: true });
    await waitFor('it is cut', () => told.some((each) => each !== 'connected'), soon);
    expect(await gate(id, guest.token)).toBe(401);
    expect(await two.problem('GET', '/account', { token: guest.token })).toBe('UNAUTHENTICATED');
    await expect(listen(guest, id)).rejects.toMatchObject({ code: 'CONAT_UNAUTHORIZED' });
    expect(await block(false)).toMatchObject({ blocked: false });
    await listen(guest, id);
    const own = `/accounts/${one.admin.accountId}`;
    expect(await one.problem('PATCH', own, { body: { blocked: true } })).toBe('ACCOUNT_OWN');
    const refused = { token: guest.token, body: { blocked: true } };
    expect(await one.problem('PATCH', own, refused)).toBe('FORBIDDEN');
  });

  it('a session that was signed out opens nothing', async () => {
    const { id } = await one.createProject();
    const login = await fetch(`${one.url}/login`, {
      method: 'POST',
      redirect: 'manual' as const,
      headers: { origin: one.url },
      body: new URLSearchParams({ token: one.admin.token }),
    });
    const [cookie = ''] = (login.headers.get('set-cookie') ?? '').split(';');
    const page = async () => {
      const response = await fetch(`${two.url}/${id}/port/80/`, { headers: { cookie } });
      return response.status;
    };
    expect(await page()).toBe(open);
    await fetch(`${one.url}/logout`, {
      method: 'POST',
      redirect: 'manual' as const,
      headers: { origin: one.url, cookie },
    });
    await waitFor('it is refused', async () => (await page()) === 401, soon);
  });

  it('a removed host is cut off', async () => {
    const joinToken = await one.joinToken();
    const third = await FakeHost.join({ name: 'h3', hubUrl: two.url, joinToken });
    try {
      await one.ok('DELETE', `/hosts/${third.hostId}`);
      await waitFor('it is told', () => heard.some((each) => each.kind === 'host'), soon);
      await expect(third.connect()).rejects.toMatchObject({ code: 'CONAT_UNAUTHORIZED' });
    } finally {
      await third.disconnect();
    }
  });
});

describe('what a hub process missed', () => {
  async function sql<T>(text: string, values: unknown[] = []): Promise<T[]> {
    const client = new pg.Client({ connectionString: postgres.url });
    await client.connect();
    try {
      return (await client.query(text, values)).rows as T[];
    } finally {
      await client.end();
    }
  }
  const cutFeeds = () =>
    sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'rookery-access'`);
  const isThere = () =>
    waitFor(
      'the feeds are back',
      async () =>
        (await sql(`SELECT 1 FROM pg_stat_activity WHERE application_name = 'rookery-access'`))
          .length >= 2,
      soon,
    );

  it('it reads when it is connected again, in order and nothing twice', async () => {
    const { id } = await one.createProject();
    const guests = await Promise.all([someone(), someone(), someone()]);
    const listening = [];
    for (const guest of guests) {
      await share(id, guest, 'viewer');
      listening.push(await listen(guest, id));
    }
    const rightsOf = () =>
      heard.flatMap((each) =>
        each.kind === 'rights' && each.projectId === id && each.accountId !== undefined
          ? [each.accountId]
          : [],
      );
    await waitFor('all is heard', () => rightsOf().length === 1 + guests.length, soon);
    // The deletions and the cut are one statement after another: some fall into the gap.
    await cutFeeds();
    await sql('DELETE FROM collaborators WHERE project_id = $1 AND account_id = $2', [
      id,
      guests[0].accountId,
    ]);
    await cutFeeds();
    for (const guest of guests.slice(1)) await share(id, guest, null);
    for (const { told } of listening) {
      await waitFor('the subscription ends', () => told.includes('no subscription'), soon);
    }
    expect(rightsOf().slice(-guests.length)).toEqual(guests.map(({ accountId }) => accountId));
    expect(rightsOf()).toHaveLength(1 + 2 * guests.length);
  });

  it('and where the log has forgotten, it checks everybody, and cuts who lost something', async () => {
    const { id } = await one.createProject();
    const [guest, other] = [await someone(), await someone()];
    for (const each of [guest, other]) await share(id, each, 'viewer');
    const { key, token } = await one.ok<{ key: { id: string }; token: string }>(
      'POST',
      '/api-keys',
      { token: other.token, body: { name: 'second' } },
    );
    const minted = await one.ok<{ token: string }>('POST', '/conat-tokens', { token, body: {} });
    const { told } = await listen(guest, id);
    const byKey = [await listen(other, id, token), await listen(other, id, minted.token)];
    const stays = await listen(other, id);
    await isThere();
    // As if this process had been away for longer than the log goes back.
    await sql(
      `WITH gone AS (DELETE FROM collaborators WHERE project_id = $1 AND account_id = $2),
         ended AS (DELETE FROM api_keys WHERE id = $3)
       UPDATE access_revision SET revision = revision + 10`,
      [id, guest.accountId, key.id],
    );
    await waitFor('it checks all', () => heard.some((each) => each.kind === 'all'), soon);
    await waitFor('the subscription ends', () => told.includes('no subscription'), soon);
    for (const each of byKey) {
      await waitFor('what the key opened is cut', () => each.told.some(isCut), soon);
    }
    expect(await gate(id, token)).toBe(401);
    await stays.client.nats.flush();
    expect(stays.told).toEqual([]);
    expect(told.some(isCut)).toBe(false);
    const [{ revision: head } = { revision: '' }] = await sql<{ revision: string }>(
      'SELECT revision FROM access_revision',
    );
    expect(Number(head)).toBeGreaterThan(10);
  });

  it('changes of many at once neither wait for each other nor get lost', async () => {
    const { id } = await one.createProject();
    const guests = await Promise.all(Array.from({ length: 12 }, () => someone()));
    await Promise.all(guests.map((guest) => share(id, guest, 'viewer')));
    await Promise.all(
      guests.map((guest, n) =>
        (n % 2 ? one : two).ok('DELETE', `/projects/${id}/collaborators/${guest.accountId}`, {
          token: one.admin.token,
        }),
      ),
    );
    const expected = guests.map(({ accountId }) => accountId).sort();
    await waitFor(
      'each is heard twice',
      () =>
        expected.every(
          (accountId) =>
            heard.filter((each) => each.kind === 'rights' && each.accountId === accountId)
              .length === 2,
        ),
      soon,
    );
  });
});
