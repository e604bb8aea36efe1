import { request } from 'node:http';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ConatClient } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { identityNames, projectRoutes, routeChangeSubject } from '@rookery/fleet/contract';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { createLogger, newId, waitFor } from '@rookery/core';
import pg from 'pg';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub } from './support/test-hub.js';

describe('routes to projects’ networks', () => {
  let postgres: TestPostgres;
  let hub: TestHub;
  let host: FakeHost;
  let broker: TestBroker;
  let database: pg.Client;
  const clients: ConatClient[] = [];

  beforeAll(async () => {
    postgres = await startPostgres();
    hub = await TestHub.start(postgres.url);
    const join = async (name: string) =>
      FakeHost.join({ name, hubUrl: hub.url, joinToken: await hub.joinToken() });
    host = await join('h1');
    broker = await startTestBroker();
    database = new pg.Client({ connectionString: postgres.url });
    await database.connect();
    await database.query('UPDATE project_hosts SET internal_url = $1 WHERE id = $2', [
      `http://127.0.0.1:${broker.port}`,
      host.hostId,
    ]);
  });
  afterAll(async () => {
    await Promise.all(clients.map((client) => client.close()));
    await database?.end();
    await host?.disconnect();
    await broker?.close();
    await hub?.close();
    await postgres?.close();
  });

  const connect = async (token: string, accountId: string): Promise<ConatClient> => {
    const client = await ConatClient.connect({
      servers: `${hub.url}/conat`,
      identity: identityNames.account(accountId),
      credentials: { token },
      connectTimeoutMs: 10_000,
      logger: createLogger('test', 'silent'),
    });
    clients.push(client);
    return client;
  };

  const claimsOf = (token = ''): unknown =>
    JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

  /** The status, or the open connection with what was said there first. */
  const relay = (
    token: string,
    hostId = host.hostId,
  ): Promise<number | { socket: Duplex; said: Promise<string> }> =>
    new Promise((resolve, reject) => {
      const asked = request(`${hub.url}/hosts/${hostId}/conat`, {
        agent: false,
        headers: {
          authorization: `Bearer ${token}`,
          connection: 'Upgrade',
          upgrade: 'websocket',
          'sec-websocket-version': '13',
          'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==',
        },
      });
      asked.once('response', (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      asked.once('upgrade', (_, socket, head) => {
        socket.on('error', () => undefined);
        const said = new Promise<string>((hear) => {
          if (head.length > 0) hear(head.toString('latin1'));
          socket.once('data', (data: Buffer) => hear(data.toString('latin1')));
        });
        resolve({ socket, said });
      });
      asked.once('error', reject);
      asked.end();
    });

  it('are told to members and to the owning host, with a token for that host alone', async () => {
    const { id } = await hub.createProject();
    const member = await hub.createAccount('member@example.org');
    await hub.ok('PUT', `/projects/${id}/collaborators/${member.accountId}`, {
      body: { role: 'viewer' },
    });
    const client = await connect(member.token, member.accountId);
    const routes = createServiceClient(client, projectRoutes, { projectId: id });
    const proof = member.token;
    const route = await waitFor(
      'the member may ask',
      () => routes.resolve({ proof }).catch(() => undefined),
      { timeoutMs: 20_000 },
    );
    expect(route).toMatchObject({ projectId: id, hostId: host.hostId, generation: 1 });
    expect(route.relayUrl).toMatch(new RegExp(`/hosts/${host.hostId}/conat$`));
    expect(claimsOf(route.token)).toMatchObject({
      aud: `conat:${host.hostId}`,
      sub: `account:${member.accountId}`,
      project: id,
      credential: expect.any(String),
    });
    expect((await routes.resolve({})).token).toBeUndefined();
    const stolen = (await hub.createAccount('victim@example.org')).token;
    await expect(routes.resolve({ proof: stolen })).rejects.toMatchObject({
      code: 'TOKEN_INVALID',
    });

    const ofHost = createServiceClient(await host.raw(), projectRoutes, { projectId: id });
    expect(await ofHost.resolve({})).toMatchObject({
      urls: [`ws://127.0.0.1:${broker.port}/conat`],
    });
    const ofNobody = createServiceClient(await host.raw(), projectRoutes, { projectId: newId() });
    await expect(ofNobody.resolve({})).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const stranger = await hub.createAccount('stranger@example.org');
    const theirs = await connect(stranger.token, stranger.accountId);
    const refused = createServiceClient(theirs, projectRoutes, { projectId: id }).resolve({});
    await expect(refused).rejects.toMatchObject({ code: 'SERVICE_FORBIDDEN' });

    const changes: unknown[] = [];
    client.nats.subscribe(routeChangeSubject(id), {
      callback: (_, message) => void changes.push(message.json()),
    });
    await client.nats.flush();
    await database.query(
      'UPDATE projects SET host_id = NULL, placement_generation = 2 WHERE id = $1',
      [id],
    );
    await waitFor('the change is told', () => changes.length > 0, { timeoutMs: 20_000 });
    expect(changes[0]).toEqual({ projectId: id, hostId: null, generation: 2 });
    await expect(routes.resolve({})).rejects.toMatchObject({ code: 'CONAT_ROUTE_MISSING' });
  });

  it('lead through the hub for members, while they are', async () => {
    const { id } = await hub.createProject();
    const member = await hub.createAccount('relayed@example.org');
    const collaborator = `/projects/${id}/collaborators/${member.accountId}`;
    expect(await relay(member.token)).toBe(403);
    expect(await relay('nonsense')).toBe(401);
    await hub.ok('PUT', collaborator, { body: { role: 'editor' } });
    const relayed = await relay(member.token);
    if (typeof relayed === 'number') throw new Error(`refused with ${relayed}`);
    expect(await relayed.said).toContain('INFO {');
    expect(await relay(member.token, newId())).toBe(403);
    const closed = new Promise((resolve) => relayed.socket.once('close', resolve));
    await hub.ok('DELETE', collaborator);
    await closed;
    expect(await relay(member.token)).toBe(403);
  });
});
