import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Broker,
  serveBroker,
  StandaloneAuthenticator,
  type StandaloneServer,
} from '@rookery/conat';
import { JetStream, spaceAccount, RootAccountDirectory } from '@rookery/jetstream';
import { serve } from '@rookery/rpc';
import { projectRoutes, projectSpaceRoot } from '@rookery/fleet/contract';
import { ProjectTokenAuthenticator } from '@rookery/fleet/testing';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';
import { newId, waitFor } from '@rookery/core';
import { HubInMemory } from '@rookery/client/testing';
import { runCli } from '../src/program.js';
import { cli, TestIo, type CliOutcome } from '../src/testing/run-cli.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-conat-cli-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** A command that goes on: what it has said, and its end. */
function started(argv: string[], env: NodeJS.ProcessEnv = {}) {
  const io = new TestIo({ HOME: '/nonexistent', XDG_CONFIG_HOME: '/nonexistent', ...env });
  let said = '';
  let progress = '';
  io.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
  io.stderr.on('data', (chunk: Buffer) => (progress += chunk.toString()));
  const exit = runCli(['conat', ...argv], io);
  return {
    io,
    exit,
    lines: () => said.split('\n').filter((line) => line !== ''),
    until: (what: string) =>
      waitFor(what, () => said.includes(what) || progress.includes(what), { timeoutMs: 20_000 }),
  };
}

describe('rookery conat, with a broker that stands alone', () => {
  let server: StandaloneServer;
  let webSocket: string[];
  let tcp: string[];

  beforeAll(async () => {
    const broker = new Broker({ authenticator: new StandaloneAuthenticator('sesame') });
    const accounts = new RootAccountDirectory(folder);
    const persistence = new JetStream({ accounts, threads: 0 });
    await persistence.start(broker);
    server = await serveBroker({ broker, persistence, tcp: { host: '127.0.0.1', port: 0 } });
    webSocket = ['--server', server.url, '--token', 'sesame'];
    tcp = ['--server', `nats://anybody:sesame@127.0.0.1:${server.tcp!.port}`];
  });
  afterAll(async () => {
    await server.close(0);
  });

  const conat = (...argv: string[]): Promise<CliOutcome> => cli(['conat', ...argv]);
  const json = async (...argv: string[]): Promise<unknown> => {
    const { exit, stdout, stderr } = await conat(...argv, '--json');
    // What is destroyed is destroyed after its target was named.
    const said = stderr.replace(/^target: \S+\n/, '');
    expect({ exit, stderr: said }).toEqual({ exit: 0, stderr: '' });
    return JSON.parse(stdout);
  };

  it('carries a message from a publisher to a listener, over TCP and WebSocket', async () => {
    const sub = started(['sub', 'news.>', '--json', ...webSocket]);
    await sub.until('listening to news.>');
    await conat('pub', 'news.today', 'hello', '-H', 'Who: crow', '--reply', 'answers', ...tcp);
    const binary = await cli(['conat', 'pub', 'news.bytes', '-', ...tcp], { stdin: '\u0000é' });
    expect(binary).toMatchObject({ exit: 0, stdout: '1 published\n' });
    await waitFor('both were heard', () => sub.lines().length === 2, { timeoutMs: 20_000 });
    sub.io.raise('SIGINT');
    expect(await sub.exit).toBe(0);
    expect(sub.io.listening).toBe(0);
    expect(sub.lines().map((line) => JSON.parse(line) as unknown)).toEqual([
      { subject: 'news.today', reply: 'answers', headers: { Who: ['crow'] }, data: 'hello' },
      { subject: 'news.bytes', data: '\u0000é' },
    ]);
  });

  it('asks, and answers', async () => {
    const reply = started(['reply', 'echo', '--echo', '--count', '1', ...webSocket]);
    await reply.until('listening to echo');
    const { exit, stdout } = await conat('req', 'echo', 'how?', '--raw', ...tcp);
    expect({ exit, stdout }).toEqual({ exit: 0, stdout: 'how?\n' });
    expect(await reply.exit).toBe(0);
    const nobody = await conat('req', 'nobody', ...tcp);
    expect(nobody).toMatchObject({
      exit: 1,
      stderr: expect.stringContaining('SERVICE_UNAVAILABLE'),
    });
    const silent = started(['sub', 'silent', ...webSocket]);
    await silent.until('listening');
    const late = await conat('req', 'silent', '--timeout', '0.1', ...tcp);
    expect(late).toMatchObject({ exit: 1, stderr: expect.stringContaining('SERVICE_TIMEOUT') });
    silent.io.raise('SIGINT');
    await silent.exit;
  });

  it('keeps messages in a stream, reads them by a consumer, and deletes them', async () => {
    await json(
      'stream',
      'add',
      'ORDERS',
      '--subjects',
      'orders.>',
      '--max-age',
      '1h',
      ...webSocket,
    );
    const first = await json('pub', 'orders.a', 'one', '--ack', '--id', 'x', ...tcp);
    expect(first).toMatchObject({ acks: [{ stream: 'ORDERS', seq: 1, duplicate: false }] });
    const again = await conat('pub', 'orders.a', 'one', '--ack', '--id', 'x', ...tcp);
    expect(again.stdout).toBe('ORDERS 1 (was there already)\n');
    const lines = await cli(['conat', 'pub', 'orders.b', '--lines', '--ack', ...tcp], {
      stdin: 'two\nthree\n',
    });
    expect(lines.stdout).toBe('ORDERS 2\nORDERS 3\n');
    expect(await json('stream', 'ls', ...webSocket)).toMatchObject([{ state: { messages: 3 } }]);
    const seen = await json('stream', 'view', 'ORDERS', '--subject', 'orders.b', ...webSocket);
    expect(seen).toMatchObject([
      { seq: 2, subject: 'orders.b', data: 'two' },
      { seq: 3, data: 'three' },
    ]);
    expect(await json('stream', 'get', 'ORDERS', '1', ...webSocket)).toMatchObject({ data: 'one' });
    await json('consumer', 'add', 'ORDERS', 'c', '--filter', 'orders.b', ...webSocket);
    const next = ['consumer', 'next', 'ORDERS', 'c', '--timeout', '1', ...tcp];
    expect(await json(...next)).toMatchObject([{ seq: 2, data: 'two', deliveries: 1 }]);
    expect(await json('consumer', 'ls', 'ORDERS', ...tcp)).toMatchObject([
      { name: 'c', num_pending: 1, num_ack_pending: 0 },
    ]);
    expect(await json('stream', 'purge', 'ORDERS', '--keep', '1', ...tcp)).toMatchObject({
      purged: 2,
    });
    expect((await conat('stream', 'rm', 'ORDERS', ...tcp)).exit).toBe(0);
    const gone = await conat('stream', 'info', 'ORDERS', '--json', ...tcp);
    expect(gone.exit).toBe(1);
    expect(JSON.parse(gone.stderr)).toMatchObject({
      error: { code: 'JETSTREAM_REFUSED', details: { jetStreamCode: 10059 } },
    });
  });

  it('sets, watches, compares and forgets keys', async () => {
    await json('kv', 'add', 'b', '--history', '5', ...webSocket);
    expect(await json('kv', 'put', 'b', 'k', '1', ...tcp)).toMatchObject({ revision: 1 });
    const watch = started(['kv', 'watch', 'b', '--json', '--count', '3', ...webSocket]);
    await watch.until('watching b');
    expect((await conat('kv', 'put', 'b', 'k', '2', '--create', ...tcp)).exit).toBe(1);
    expect(await json('kv', 'put', 'b', 'k', '2', '--revision', '1', ...tcp)).toMatchObject({
      revision: 2,
    });
    expect((await conat('kv', 'get', 'b', 'k', '--raw', ...tcp)).stdout).toBe('2');
    expect((await conat('kv', 'get', 'b', 'k', '--revision', '1', ...tcp)).stdout).toBe('1\n');
    await json('kv', 'del', 'b', 'k', ...tcp);
    expect(await watch.exit).toBe(0);
    expect(watch.lines().map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { key: 'k', value: '1', operation: 'PUT' },
      { key: 'k', value: '2', operation: 'PUT', isUpdate: true },
      { key: 'k', value: '', operation: 'DEL', isUpdate: true },
    ]);
    expect((await conat('kv', 'get', 'b', 'k', ...tcp)).stderr).toContain('NOT_FOUND');
    expect(await json('kv', 'keys', 'b', ...tcp)).toEqual([]);
    expect(await json('kv', 'history', 'b', 'k', ...tcp)).toHaveLength(3);
    expect((await conat('kv', 'rm', 'b', ...tcp)).exit).toBe(0);
    expect((await conat('kv', 'get', 'b', 'k', ...tcp)).stderr).toContain('JETSTREAM_REFUSED');
  });

  it('tells how the broker does, with its metrics where they are to be had', async () => {
    const metrics = `http://127.0.0.1:${server.port}/metrics`;
    const status = await json('status', ...webSocket);
    expect(status).toMatchObject({
      server: { name: 'conat', jetStream: true },
      rttMs: { samples: 10, median: expect.any(Number) },
      jetStream: { streams: expect.any(Number) },
      metricsUrl: metrics,
      metrics: { connections: { websocket: 1 }, stores: { accounts: 1, quarantined: 0 } },
    });
    expect(await json('status', ...tcp)).toMatchObject({ metrics: null });
    const shown = await conat('status', ...tcp, '--metrics', metrics);
    expect(shown.stdout).toMatch(/Connections: +0 websocket, 1 tcp/);
  });

  it.each([
    [['--token', 'wrong'], 'CONAT_UNAUTHORIZED', 1],
    [['--user', 'u'], 'USAGE', 2],
    [['--token-file', '/nonexistent/token'], 'USAGE', 2],
    [['--project', 'a-name'], 'USAGE', 2],
  ])('with %j fails as %s', async (argv, code, status) => {
    const { exit, stderr, stdout } = await conat('pub', 'x', 'y', '--server', server.url, ...argv);
    expect({ exit, stdout }).toEqual({ exit: status, stdout: '' });
    expect(stderr).toContain(code);
  });

  it('reads the token from a file, says when nobody listens, and takes no nonsense', async () => {
    const tokenFile = join(folder, 'token');
    await writeFile(tokenFile, 'sesame\n');
    const fromFile = ['--server', server.url, '--token-file', tokenFile];
    expect((await conat('pub', 'x', 'y', ...fromFile)).exit).toBe(0);
    const nowhere = await conat('pub', 'x', 'y', '--server', 'nats://127.0.0.1:1');
    expect(nowhere).toMatchObject({
      exit: 1,
      stderr: expect.stringContaining('CONAT_UNREACHABLE'),
    });
    expect((await conat('pub', 'a b', 'y', ...tcp)).exit).toBe(2);
    expect((await conat('pub', 'x', 'y', '--server', 'tls://127.0.0.1')).exit).toBe(2);
    expect((await conat('stream', 'get', 'S', ...tcp)).exit).toBe(2);
  });

  it('stops at Ctrl-C while it waits for an answer', async () => {
    const listener = started(['sub', 'slow', ...webSocket]);
    await listener.until('listening');
    const asking = started(['req', 'slow', '--timeout', '60', ...tcp]);
    const errors = text(asking.io.stderr);
    await listener.until('[1] slow');
    asking.io.raise('SIGINT');
    expect(await asking.exit).toBe(130);
    asking.io.stderr.end();
    expect(await errors).toContain('CANCELED');
    listener.io.raise('SIGTERM');
    listener.io.raise('SIGINT');
    expect(await listener.exit).toBe(0);
  });
});

describe('rookery conat, with a hub', () => {
  const [owner, viewer] = [newId(), newId()];
  let network: TestJetStream;
  let hub: HubInMemory;
  let env: NodeJS.ProcessEnv;
  let projectId: string;

  beforeAll(async () => {
    hub = await HubInMemory.start();
    projectId = hub.add('shop').id;
    network = await startTestJetStream({
      spaceRoot: projectSpaceRoot,
      authenticator: new ProjectTokenAuthenticator({
        [owner]: [{ projectId, role: 'owner' }],
        [viewer]: [{ projectId, role: 'viewer' }],
      }),
      jetStream: {
        accounts: [
          spaceAccount({ root: projectSpaceRoot, id: projectId }, join(folder, 'shop.sqlite')),
        ],
        options: { threads: 0 },
      },
    });
    const control = await network.connect({ identity: 'hub', credentials: { token: 'hub' } });
    await serve(
      control,
      projectRoutes,
      {
        // The token that a route comes with is the proof itself: both networks are one here.
        resolve: async ({ proof }) => ({
          projectId,
          hostId: newId(),
          generation: 1,
          urls: [network.url],
          ...(proof !== undefined && { token: proof }),
        }),
      },
      { params: { projectId } },
    );
    env = { ROOKERY_URL: hub.server.url, ROOKERY_TOKEN: 'rk_secret' };
  });
  afterAll(async () => {
    await network?.close();
    await hub?.server.close();
  });

  const as = (account: string, ...argv: string[]): Promise<CliOutcome> => {
    hub.conat = {
      url: network.url,
      token: `account:${account}`,
      inboxPrefix: `_INBOX.account-${account}`,
    };
    return cli(['conat', ...argv], { env });
  };

  it('works in a project’s own space: subjects, streams and buckets are the project’s', async () => {
    const added = await as(
      owner,
      'stream',
      'add',
      'S',
      '--subjects',
      's.>',
      '-p',
      'shop',
      '--json',
    );
    expect(JSON.parse(added.stdout)).toMatchObject({ config: { subjects: ['s.>'] } });
    const sent = await as(owner, 'pub', 's.1', 'hello', '--ack', '-p', 'shop');
    expect(sent).toMatchObject({ exit: 0, stdout: 'S 1\n' });
    const seen = await as(viewer, 'stream', 'view', 'S', '-p', 'shop', '--json');
    expect(JSON.parse(seen.stdout)).toMatchObject([{ subject: 's.1', data: 'hello' }]);
    await as(owner, 'kv', 'add', 'settings', '-p', 'shop');
    expect((await as(owner, 'kv', 'put', 'settings', 'k', 'v', '-p', 'shop')).stdout).toBe('1\n');
    expect((await as(viewer, 'kv', 'get', 'settings', 'k', '-p', 'shop')).stdout).toBe('v\n');
    const program = await network.connect({
      identity: 'any',
      credentials: { token: `project:${projectId}` },
    });
    program.nats.subscribe('greet', { callback: (_, message) => void message.respond('caw') });
    await program.nats.flush();
    const status = await as(owner, 'status', '-p', 'shop', '--json');
    expect(JSON.parse(status.stdout)).toMatchObject({
      server: { project: projectId, jetStream: true },
      jetStream: { streams: 2 },
      metricsUrl: null,
      metrics: null,
    });
    expect((await as(owner, 'req', 'greet', '--raw', '-p', 'shop')).stdout).toBe('caw\n');
  });

  it('is told what it may not do', async () => {
    const put = await as(viewer, 'kv', 'put', 'settings', 'k', 'w', '-p', 'shop');
    expect(put).toMatchObject({ exit: 1, stderr: expect.stringContaining('CONAT_FORBIDDEN') });
    const pub = await as(viewer, 'pub', 's.2', 'x', '-p', 'shop');
    expect(pub).toMatchObject({ exit: 1, stderr: expect.stringContaining('CONAT_FORBIDDEN') });
    const sub = await as(owner, 'sub', 'hosts.>');
    expect(sub).toMatchObject({ exit: 1, stderr: expect.stringContaining('CONAT_FORBIDDEN') });
    const elsewhere = await as(owner, 'stream', 'ls', '-p', 'unknown');
    expect(elsewhere.stderr).toContain('PROJECT_UNKNOWN');
    const own = await as(owner, 'stream', 'ls');
    expect(own).toMatchObject({ exit: 1, stderr: expect.stringContaining('CONAT_FORBIDDEN') });
  });
});
