import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { identityNames, projectStreams } from '@rookery/fleet/contract';
import { createLogger, waitFor } from '@rookery/core';
import pg from 'pg';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation } from './support/test-hub.js';

const soon = { timeoutMs: 20_000 };
let postgres: TestPostgres;
let one: TestHub;
let two: TestHub;
let host: FakeHost;
const clients: ConatClient[] = [];

/** Two hub processes: what one ends, the other must let go. */
beforeAll(async () => {
  postgres = await startPostgres();
  one = await TestHub.start(postgres.url);
  two = await TestHub.start(postgres.url);
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
interface Key {
  readonly key: { readonly id: string };
  readonly token: string;
}
interface Session {
  readonly id: string;
  readonly keyId: string;
  readonly keyName: string;
  readonly address: string;
  readonly userAgent: string;
}

let count = 0;
const someone = (): Promise<Someone> => one.createAccount(`browser-${(count += 1)}@example.org`);

const makeKey = (token: string): Promise<Key> =>
  one.ok<Key>('POST', '/api-keys', { token, body: { name: 'laptop' } });

const share = (projectId: string, { accountId }: Someone, role: string) =>
  one.ok('PUT', `/projects/${projectId}/collaborators/${accountId}`, { body: { role } });

const unshare = (projectId: string, { accountId }: Someone, init = {}) =>
  one.ok('DELETE', `/projects/${projectId}/collaborators/${accountId}`, init);

const ticketOf = async (token: string): Promise<string> =>
  (await one.ok<{ url: string }>('POST', '/login-tickets', { token, body: {} })).url;

/** Follows a sign-in link as a browser does. @returns the session cookie */
async function follow(url: string): Promise<{ status: number; cookie: string }> {
  const response = await fetch(url, {
    redirect: 'manual',
    headers: { 'user-agent': 'a browser of this test' },
  });
  await response.arrayBuffer();
  const [cookie = ''] = (response.headers.get('set-cookie') ?? '').split(';');
  return { status: response.status, cookie };
}

const signIn = async (token: string): Promise<string> =>
  (await follow(await ticketOf(token))).cookie;

/** Whether the console's first page knows a session. */
async function isSignedIn(cookie: string): Promise<boolean> {
  const response = await fetch(`${two.url}/`, { headers: { cookie }, redirect: 'manual' });
  await response.arrayBuffer();
  return response.status === 200;
}

const sessionsOf = async (token: string): Promise<Session[]> =>
  (await one.ok<{ items: Session[] }>('GET', '/sessions', { token })).items;

async function sql(text: string, values: unknown[] = []): Promise<void> {
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  try {
    await client.query(text, values);
  } finally {
    await client.end();
  }
}

async function connect({ accountId, token: own }: Someone, to: TestHub, token = own) {
  const client = await ConatClient.connect({
    servers: `${to.url}/conat`,
    identity: identityNames.account(accountId),
    credentials: { token },
    connectTimeoutMs: 10_000,
    logger: createLogger('test', 'silent'),
  });
  clients.push(client);
  return client;
}

/** An operation that goes on until the test lets it end. */
async function endlessStart(projectId: string, token = one.admin.token) {
  const letGo = host.hold('projects.start');
  const started = await one.ok<{ operation: Operation }>('POST', `/projects/${projectId}/start`, {
    token,
  });
  return {
    operationId: started.operation.id,
    end: async () => {
      letGo();
      await one.ended(started.operation.id);
    },
  };
}

/** Opens an operation's events at the second hub, and reads the first of them. */
async function watch(operationId: string, token: string) {
  const response = await fetch(`${two.url}/api/v1/operations/${operationId}/events`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const first = await reader.read();
  const rest = async (): Promise<string> => {
    let all = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return all;
      all += value;
    }
  };
  return { status: response.status, first: first.value ?? '', rest: rest() };
}

describe('a session', () => {
  it('ends with the API key that made it, and so do its sign-in links and what is open', async () => {
    const { id: projectId } = await one.createProject();
    const guest = await someone();
    await share(projectId, guest, 'editor');
    const { key, token } = await makeKey(guest.token);
    const cookie = await signIn(token);
    const unused = await ticketOf(token);
    const byOtherKey = await signIn(guest.token);
    const work = await endlessStart(projectId);
    const events = await watch(work.operationId, token);
    expect(events.first).toContain(work.operationId);
    expect(await isSignedIn(cookie)).toBe(true);
    await one.ok('DELETE', `/api-keys/${key.id}`, { token: guest.token });
    expect(await isSignedIn(cookie)).toBe(false);
    expect((await follow(unused)).status).toBe(401);
    expect(await events.rest).toContain('UNAUTHENTICATED');
    expect(await isSignedIn(byOtherKey)).toBe(true);
    await work.end();
  });

  it('ends with a key that expires, within seconds, and so do connections and events', async () => {
    const { id: projectId } = await one.createProject();
    const guest = await someone();
    await share(projectId, guest, 'editor');
    const { key, token } = await makeKey(guest.token);
    const cookie = await signIn(token);
    const work = await endlessStart(projectId);
    const events = await watch(work.operationId, token);
    const told: string[] = [];
    (await connect(guest, two, token)).onStatus((status) => told.push(status));
    await sql('UPDATE api_keys SET expires_at = now() WHERE id = $1', [key.id]);
    expect(await events.rest).toContain('UNAUTHENTICATED');
    await waitFor('it is cut', () => told.some((each) => each !== 'connected'), soon);
    expect(await isSignedIn(cookie)).toBe(false);
    await work.end();
  });

  it('made with a key that expires lives no longer than the key', async () => {
    const guest = await someone();
    const { token } = await one.ok<Key>('POST', '/api-keys', {
      token: guest.token,
      body: { name: 'short', expiresInDays: 1 },
    });
    await signIn(token);
    const { items } = await one.ok<{ items: { expiresAt: string }[] }>('GET', '/sessions', {
      token,
    });
    const { items: keys } = await one.ok<{ items: { name: string; expiresAt: string | null }[] }>(
      'GET',
      '/api-keys',
      { token },
    );
    expect(items).toHaveLength(1);
    expect(items[0]?.expiresAt).toBe(keys.find(({ name }) => name === 'short')?.expiresAt);
  });

  it('is listed with where it was opened, and ended alone', async () => {
    const guest = await someone();
    const { key, token } = await makeKey(guest.token);
    const kept = await signIn(guest.token);
    const cookie = await signIn(token);
    const [latest, first] = await sessionsOf(guest.token);
    expect(latest).toMatchObject({
      keyId: key.id,
      keyName: 'laptop',
      address: '127.0.0.1',
      userAgent: 'a browser of this test',
    });
    await one.ok('DELETE', `/sessions/${latest!.id}`, { token: guest.token });
    expect(await isSignedIn(cookie)).toBe(false);
    expect(await isSignedIn(kept)).toBe(true);
    expect((await sessionsOf(guest.token)).map(({ id }) => id)).toEqual([first!.id]);
    const again = await one.problem('DELETE', `/sessions/${latest!.id}`, { token: guest.token });
    expect(again).toBe('NOT_FOUND');
  });

  it('is ended with all others by signing out everywhere; API keys stay', async () => {
    const guest = await someone();
    const cookies = [await signIn(guest.token), await signIn(guest.token)];
    const unused = await ticketOf(guest.token);
    const { ended } = await one.ok<{ ended: number }>('DELETE', '/sessions', {
      token: guest.token,
    });
    expect(ended).toBe(2);
    for (const cookie of cookies) expect(await isSignedIn(cookie)).toBe(false);
    expect((await follow(unused)).status).toBe(401);
    expect(await sessionsOf(guest.token)).toEqual([]);
  });

  it('of another account is for administrators alone', async () => {
    const guest = await someone();
    const other = await someone();
    const cookie = await signIn(guest.token);
    const query = `?accountId=${guest.accountId}`;
    const [session] = await sessionsOf(guest.token);
    const by = { token: other.token };
    expect(await one.problem('GET', `/sessions${query}`, by)).toBe('FORBIDDEN');
    expect(await one.problem('DELETE', `/sessions${query}`, by)).toBe('FORBIDDEN');
    expect(await one.problem('DELETE', `/sessions/${session!.id}${query}`, by)).toBe('FORBIDDEN');
    expect(await one.problem('DELETE', `/sessions/${session!.id}`, by)).toBe('NOT_FOUND');
    expect(await isSignedIn(cookie)).toBe(true);
    expect(await one.ok('DELETE', `/sessions${query}`)).toEqual({ ended: 1 });
    expect(await isSignedIn(cookie)).toBe(false);
  });
});

describe('what is open ends with the right to it', () => {
  it('the events of an operation, also of one that the removed editor began', async () => {
    const { id: projectId } = await one.createProject();
    const guest = await someone();
    await share(projectId, guest, 'editor');
    const work = await endlessStart(projectId, guest.token);
    const events = await watch(work.operationId, guest.token);
    const owners = await watch(work.operationId, one.admin.token);
    await unshare(projectId, guest);
    expect(await events.rest).toContain('OPERATION_UNKNOWN');
    const path = `/operations/${work.operationId}`;
    expect(await two.problem('GET', path, { token: guest.token })).toBe('OPERATION_UNKNOWN');
    await work.end();
    expect(await owners.rest).toContain('succeeded');
  });

  it('a command and the logs that are relayed to the host', async () => {
    const { id: projectId } = await one.createProject({ start: true });
    const guest = await someone();
    await share(projectId, guest, 'editor');
    const client = await connect(guest, one);
    // A second project keeps the connection: what ends must end by itself.
    const { id: other } = await one.createProject();
    await share(other, guest, 'viewer');
    const streams = createServiceClient(client, projectStreams, { projectId });
    const exec = await streams.exec({ command: ['cat'] });
    const letGo = host.hold('projects.logs');
    const logs = await streams.logs({});
    await share(projectId, guest, 'viewer');
    await expect(exec.result).rejects.toMatchObject({ code: 'FORBIDDEN' });
    await unshare(projectId, guest);
    await expect(logs.result).rejects.toMatchObject({ code: 'PROJECT_UNKNOWN' });
    letGo();
  });
});

describe('a collaborator', () => {
  it('is named by email as well as by id', async () => {
    const { id: projectId } = await one.createProject();
    const guest = await someone();
    const { items: accounts } = await one.ok<{ items: { id: string; email: string }[] }>(
      'GET',
      '/accounts',
    );
    const { email } = accounts.find(({ id }) => id === guest.accountId)!;
    const path = `/projects/${projectId}/collaborators/${email.toUpperCase()}`;
    expect(await one.ok('PUT', path, { body: { role: 'viewer' } })).toEqual({
      accountId: guest.accountId,
      email,
      role: 'viewer',
    });
    const nobody = `/projects/${projectId}/collaborators/nobody@example.org`;
    expect(await one.problem('PUT', nobody, { body: { role: 'viewer' } })).toBe('ACCOUNT_UNKNOWN');
    await one.ok('DELETE', path, { token: guest.token });
    const gone = await one.problem('GET', `/projects/${projectId}`, { token: guest.token });
    expect(gone).toBe('PROJECT_UNKNOWN');
    const block = { body: { blocked: true } };
    expect(await one.ok('PATCH', `/accounts/${email}`, block)).toMatchObject({ blocked: true });
    expect(await one.problem('GET', '/accounts', { token: guest.token })).toBe('UNAUTHENTICATED');
    const { token } = await someone();
    expect(await one.problem('GET', '/accounts', { token })).toBe('FORBIDDEN');
  });

  it('may leave, unless it is the last owner', async () => {
    const { id: projectId } = await one.createProject();
    const guest = await someone();
    const other = await someone();
    await share(projectId, guest, 'viewer');
    await share(projectId, other, 'viewer');
    const others = `/projects/${projectId}/collaborators/${other.accountId}`;
    expect(await one.problem('DELETE', others, { token: guest.token })).toBe('FORBIDDEN');
    await unshare(projectId, guest, { token: guest.token });
    const path = `/projects/${projectId}`;
    expect(await one.problem('GET', path, { token: guest.token })).toBe('PROJECT_UNKNOWN');
    const own = `${path}/collaborators/${one.admin.accountId}`;
    expect(await one.problem('DELETE', own)).toBe('LAST_OWNER');
    await share(projectId, other, 'owner');
    await one.ok('DELETE', own);
    expect(await one.problem('GET', path)).toBe('PROJECT_UNKNOWN');
  });
});
