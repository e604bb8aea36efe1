import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { get } from 'node:https';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { nkeyAuthenticator, nkeys, wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { waitFor } from '@rookery/core';
import { selfSignedCertificate } from '@rookery/core/testing';
import { runCli } from '../src/program.js';
import { cli, TestIo } from '../src/testing/run-cli.js';

const patience = { timeoutMs: 10_000, everyMs: 5 };

interface Addresses {
  readonly url: string | null;
  readonly nats: string | null;
  readonly metrics: string | null;
  readonly monitoring: string | null;
}

describe('rookery conat serve --config', () => {
  let folder: string;
  let ends: (() => Promise<unknown>)[];
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-nats-conf-'));
    ends = [];
  });
  afterEach(async () => {
    for (const end of ends.reverse()) await end();
    await rm(folder, { recursive: true, force: true });
  });

  /** Runs it with this configuration until the test ends. */
  async function serving(config: string): Promise<Addresses> {
    const file = join(folder, 'nats.conf');
    await writeFile(file, config);
    const io = new TestIo({ HOME: '/nonexistent', XDG_CONFIG_HOME: '/nonexistent' });
    let printed = '';
    io.stdout.on('data', (chunk: Buffer) => (printed += chunk.toString()));
    const stderr = text(io.stderr);
    const exit = runCli(['conat', 'serve', '--json', '--drain', '0', '--config', file], io);
    ends.push(() => {
      io.raise('SIGINT');
      return exit;
    });
    const ended = exit.then(async (code) => {
      io.stderr.end();
      throw new Error(`it ended with ${code}: ${await stderr}`);
    });
    ended.catch(() => undefined);
    const isReady = waitFor('it says where it listens', () => printed.includes('}'), patience);
    await Promise.race([isReady, ended]);
    return JSON.parse(printed) as Addresses;
  }

  async function client(
    { url }: Addresses,
    options: Parameters<typeof wsconnect>[0],
  ): Promise<NatsConnection> {
    const connection = await wsconnect({ servers: url!, ...options });
    ends.push(() => connection.close());
    return connection;
  }

  it('lets users in by password and nkey, each with their permissions', async () => {
    const key = nkeys.createUser();
    const server = await serving(`
      listen: 127.0.0.1:-1
      websocket { port: -1, no_tls: true }
      jetstream { store_dir: streams }
      authorization { users: [
        { user: ann, password: "s3same" }
        { nkey: ${key.getPublicKey()}, permissions {
          publish: ["orders.>"], subscribe: ["_INBOX.>", "news"], allow_responses: true
        } }
      ] }`);
    await expect(client(server, { user: 'ann', pass: 'wrong' })).rejects.toThrow(/authorization/i);
    await expect(client(server, {})).rejects.toThrow(/authorization/i);
    const ann = await client(server, { user: 'ann', pass: 's3same' });
    const manager = await jetstreamManager(ann);
    await manager.streams.add({ name: 'O', subjects: ['orders.>'] });
    const bob = await client(server, { authenticator: nkeyAuthenticator(key.getSeed()) });
    expect(await jetstream(bob).publish('orders.1', 'x')).toMatchObject({ seq: 1 });
    await expect(bob.request('secret', '')).rejects.toThrow(/Publish to "secret"/);
    const refused = bob.subscribe('other');
    await expect(refused.closed).resolves.toBeInstanceOf(Error);
    // Only who was asked may answer.
    bob.subscribe('news', { callback: (_, message) => void message.respond('heard') });
    await bob.flush();
    expect((await ann.request('news', '')).string()).toBe('heard');
  });

  it('encrypts TCP behind INFO, and the WebSocket door', async () => {
    const { cert } = await selfSignedCertificate(folder);
    const server = await serving(`
      listen: 127.0.0.1:-1
      tls { cert_file: cert.pem, key_file: key.pem }
      websocket { port: -1, tls { cert_file: cert.pem, key_file: key.pem } }
      authorization { token: sesame }`);
    const ca = await readFile(cert);
    const socket = connect(Number(new URL(server.nats!).port), '127.0.0.1');
    ends.push(async () => void socket.destroy());
    const info = await new Promise<string>((resolve) =>
      socket.once('data', (chunk: Buffer) => resolve(chunk.toString())),
    );
    expect(JSON.parse(info.slice('INFO '.length))).toMatchObject({
      tls_required: true,
      auth_required: true,
    });
    const secure = connectTls({ socket, ca, servername: 'localhost' });
    let heard = '';
    secure.on('data', (chunk: Buffer) => (heard += chunk.toString()));
    secure.write(
      'CONNECT {"auth_token":"sesame","verbose":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n',
    );
    await waitFor('the answer', () => heard.includes('PONG'), patience);
    expect(heard).toContain('MSG a 1 2\r\nhi\r\n');
    expect(server.url).toMatch(/^wss:/);
    const status = await new Promise((resolve, reject) => {
      const url = server.url!.replace(/^wss(.*)\/conat$/, 'https$1/metrics');
      get(url, { ca, servername: 'localhost' }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      }).on('error', reject);
    });
    expect(status).toBe(200);
  });

  it('closes connections that do not speak TLS, and goes on', async () => {
    await selfSignedCertificate(folder);
    const server = await serving(`
      listen: 127.0.0.1:-1
      http: 127.0.0.1:-1
      tls { cert_file: cert.pem, key_file: key.pem }`);
    for (let i = 0; i < 2; i += 1) {
      const socket = connect(Number(new URL(server.nats!).port), '127.0.0.1');
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.on('error', () => undefined);
      socket.once('data', () => socket.write('CONNECT {}\r\nPING\r\nPUB a 1\r\nx\r\n'));
      await closed;
    }
    const varz = await (await fetch(`${server.monitoring}/varz`)).json();
    expect(varz).toMatchObject({ tls_required: true, connections: 0, in_msgs: 0 });
  });

  it('serves the pages of nats-server', async () => {
    const server = await serving(`
      server_name: hoard
      listen: 127.0.0.1:-1
      http: 127.0.0.1:-1
      websocket { port: -1, no_tls: true }
      jetstream { store_dir: streams }
      accounts { SHOP {
        users: [{ user: a, password: "b" }], jetstream: enabled, limits { max_connections: 2 }
      } }`);
    const ann = await client(server, { user: 'a', pass: 'b', name: 'ann' });
    const manager = await jetstreamManager(ann);
    await manager.streams.add({ name: 'O', subjects: ['orders.>'] });
    await manager.consumers.add('O', { durable_name: 'c', ack_policy: 'explicit' });
    for (let i = 0; i < 3; i += 1) await jetstream(ann).publish('orders.x', 'hello');
    const second = await client(server, { user: 'a', pass: 'b', name: 'second' });
    second.subscribe('s.*');
    await second.flush();
    const third = connect(Number(new URL(server.nats!).port), '127.0.0.1');
    third.write('CONNECT {"user":"a","pass":"b"}\r\n');
    expect(await text(third)).toContain("-ERR 'maximum account active connections exceeded'");
    const page = async (path: string): Promise<Record<string, unknown>> => {
      const answer = await fetch(server.monitoring + path);
      expect([answer.status, answer.headers.get('content-type')]).toEqual([
        200,
        'application/json',
      ]);
      return (await answer.json()) as Record<string, unknown>;
    };
    expect(await page('/healthz')).toEqual({ status: 'ok' });
    expect(await page('/varz')).toMatchObject({
      server_name: 'hoard',
      connections: 2,
      max_connections: 65_536,
      auth_required: true,
      jetstream: {
        config: { store_dir: join(folder, 'streams') },
        stats: { accounts: 1, storage: 3 * (30 + 'orders.x'.length + 'hello'.length) },
      },
      http_req_stats: { '/varz': 1, '/healthz': 1 },
    });
    const { connections } = (await page('/connz?subs=1&sort=msgs_from')) as {
      connections: Record<string, unknown>[];
    };
    expect(connections.map(({ name }) => name)).toEqual(['ann', 'second']);
    expect(connections[0]).toMatchObject({ type: 'websocket', kind: 'Client', lang: 'nats.ws' });
    expect(connections[1]).toMatchObject({ subscriptions: 1, subscriptions_list: ['s.*'] });
    expect(await page('/connz?limit=1&offset=1')).toMatchObject({ num_connections: 1, total: 2 });
    expect(await page('/jsz')).toMatchObject({
      streams: 1,
      consumers: 1,
      messages: 3,
      accounts: 1,
    });
    expect(await page('/jsz?consumers=true&config=1')).toMatchObject({
      account_details: [
        {
          name: 'SHOP',
          stream_detail: [
            {
              name: 'O',
              config: { subjects: ['orders.>'] },
              state: { messages: 3 },
              consumer_detail: [{ name: 'c', num_pending: 3 }],
            },
          ],
        },
      ],
    });
    const refused = async (path: string): Promise<number> =>
      (await fetch(server.monitoring + path)).status;
    expect(await refused('/connz?sort=beauty')).toBe(400);
    expect(await refused('/leafz')).toBe(404);
  });

  it.each([
    ['cluster { port: 6222 }', 1, '"cluster" is not supported here'],
    ['port: -1\ntls { verify: true }', 1, 'line 2: "tls.verify" is not supported here'],
  ])('refuses %j by its name', async (config, status, reason) => {
    const file = join(folder, 'nats.conf');
    await writeFile(file, config);
    const { exit, stderr } = await cli(['conat', 'serve', '--config', file]);
    expect(exit).toBe(status);
    expect(stderr).toContain(reason);
    expect(stderr).toContain('CONAT_CONFIG_INVALID');
  });

  it.each([['--allow-all'], ['--port', '1'], ['--token', 'x'], ['--store', 'x']])(
    'refuses %s beside a file as wrong usage',
    async (...option) => {
      const argv = ['conat', 'serve', '--config', join(folder, 'nats.conf'), ...option];
      const { exit } = await cli(argv.filter((each) => typeof each === 'string'));
      expect(exit).toBe(2);
    },
  );
});
