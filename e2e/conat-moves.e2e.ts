import { request } from 'node:http';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { ProjectView } from '@rookery/api';
import { AckPolicy } from '@nats-io/jetstream';
import { waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';
import { RookeryClient } from '@rookery/client';
import { projectRoutes } from '@rookery/fleet/contract';
import { createServiceClient } from '@rookery/rpc';
import { RouteSource, RoutedConatClient } from '@rookery/fleet';
import { delay, routedClient, seededRandom, Worker } from './support/conat-swarm.js';

const long = process.env.ROOKERY_TEST_LONG === '1';
const seed = Number(process.env.ROOKERY_TEST_SEED ?? Date.now() % 1_000_000);
const runMs = long ? 300_000 : 30_000;
const movesMin = 2;
const clientsCount = 50;

let cluster: Cluster;
const workers: Worker[] = [];
const ends: (() => Promise<void>)[] = [];

beforeAll(async () => {
  cluster = await Cluster.start({ hosts: 2 });
}, 300_000);

afterAll(async () => {
  await Promise.all([...workers.map((each) => each.end()), ...ends.map((end) => end())]);
  await cluster?.destroy();
}, 240_000);

async function makeProject(): Promise<ProjectView> {
  const { project, operation } = await cluster.client.createProject({
    name: 'talkative',
    start: true,
    quota: { diskBytes: 1024 ** 3, memoryBytes: 256 * 1024 ** 2, cpus: 1 },
  });
  await cluster.client.waitForOperation(operation.id);
  return cluster.client.getProject({ projectId: project.id });
}

/** Everything in the stream: for each client the numbers that it said, in their order. */
async function readStream(projectId: string): Promise<Map<string, number[]>> {
  const reader = await routedClient(cluster.client, await cluster.token());
  ends.push(() => reader.end());
  const js = await reader.jetStream(projectId);
  const { state } = await (await js.jetstreamManager()).streams.info('log');
  const found = new Map<string, number[]>();
  let expected = 1;
  for await (const message of await (await js.consumers.get('log')).consume()) {
    expect(message.seq).toBe(expected);
    expected += 1;
    const [, name = ''] = message.subject.split('.');
    found.set(name, [...(found.get(name) ?? []), Number(message.string())]);
    if (message.seq === state.last_seq) break;
  }
  expect(state.messages).toBe(expected - 1);
  return found;
}

test(
  'moves back and forth lose nothing of what fifty clients say, keep and watch',
  async () => {
    const random = seededRandom(seed);
    const project = await makeProject();
    const token = await cluster.token();
    const first = await routedClient(cluster.client, token);
    ends.push(() => first.end());
    const { nats } = await first.routeSubject(`project.${project.id}.echo`);
    nats.subscribe(`project.${project.id}.echo`, {
      callback: (error, message) => void (error ?? message.respond(message.data)),
    });
    const api = `project.${project.id}.js.api`;
    const config = { name: 'log', subjects: ['log.>'], duplicate_window: 600e9 };
    await first.request(`${api}.STREAM.CREATE.log`, JSON.stringify(config));
    await first.kv(project.id, 'state', { history: 1 });
    for (let n = 0; n < clientsCount; n += 1) {
      const client = await routedClient(cluster.client, token);
      workers.push(new Worker(`c${n}`, project.id, client, random));
    }
    await Promise.all(workers.map((each) => each.start('state')));

    const { items: hosts } = await cluster.client.listHosts();
    const until = Date.now() + runMs;
    let moves = 0;
    for (let at = project.hostId; moves < movesMin || Date.now() < until; moves += 1) {
      await delay(500 + random() * 2_000);
      const to = hosts.find(({ id }) => id !== at)!.id;
      const move = await cluster.client.moveProject({ projectId: project.id, host: to });
      await cluster.client.waitForOperation(move.operation.id);
      at = to;
      // The next begins when this one has been got over: else nobody would ever say anything.
      const before = workers.map(({ acknowledged }) => acknowledged);
      await waitFor(
        `all go on after move ${moves + 1} (seed ${seed})`,
        () => workers.every((each, n) => each.acknowledged > before[n]!),
        { timeoutMs: 60_000 },
      );
    }
    await Promise.all(workers.map((each) => each.quiet()));

    const found = await readStream(project.id);
    for (const [n, { acknowledged }] of workers.entries()) {
      const numbers = found.get(`c${n}`) ?? [];
      // The last may be there without its answer having come.
      expect([acknowledged, acknowledged + 1]).toContain(numbers.length);
      expect(numbers).toEqual(numbers.map((_, i) => i + 1));
    }
    const store = new Map<string, string>();
    const kv = await first.kv(project.id, 'state');
    for await (const key of await kv.keys()) store.set(key, (await kv.get(key))!.string());
    expect(store.size).toBe(clientsCount);
    for (const [n, worker] of workers.entries()) {
      await waitFor(
        `watcher ${n} has seen the store (seed ${seed})`,
        () => [...store].every(([key, value]) => worker.watched.get(key) === value),
        { timeoutMs: 60_000 },
      ).catch(() =>
        expect([n, Object.fromEntries(worker.watched)]).toEqual([n, Object.fromEntries(store)]),
      );
      expect(worker.wrong).toEqual([]);
      expect(worker.answered).toBeGreaterThan(0);
    }
    const sum = (of: (each: Worker) => number): number => workers.reduce((a, w) => a + of(w), 0);
    process.stderr.write(
      `seed ${seed}: ${moves} moves, ${sum((w) => w.acknowledged)} kept, ` +
        `${sum((w) => w.repeated)} repeated, ${sum((w) => w.refused)} refused, ` +
        `${sum((w) => w.answered)} answered\n`,
    );
  },
  runMs + 240_000,
);

test('a backup has what was kept, and what consumers have read', async () => {
  const { items } = await cluster.client.listProjects({ name: 'talkative' });
  const projectId = items[0]!.id;
  const before = await readStream(projectId);
  const client = await routedClient(cluster.client, await cluster.token());
  ends.push(() => client.end());
  const js = await client.jetStream(projectId);
  const manager = await js.jetstreamManager();
  await manager.consumers.add('log', { durable_name: 'reader', ack_policy: AckPolicy.Explicit });
  const first = await (await js.consumers.get('log', 'reader')).next();
  expect(await first?.ackAck()).toBe(true);

  const backup = await cluster.client.runBackup({ projectId });
  await cluster.client.waitForOperation(backup.operation.id);
  await manager.streams.purge('log');
  const restore = await cluster.client.restoreBackup({
    projectId,
    backupId: 'latest',
    replace: true,
  });
  await cluster.client.waitForOperation(restore.operation.id);
  const position = await waitFor(
    'the stream is back',
    async () => (await manager.consumers.info('log', 'reader').catch(() => undefined))?.ack_floor,
    { timeoutMs: 60_000, everyMs: 200 },
  );
  expect(position.stream_seq).toBe(1);
  expect(await readStream(projectId)).toEqual(before);
}, 240_000);

test('what was acknowledged while it was archived is there when it comes back', async () => {
  const { items } = await cluster.client.listProjects({ name: 'talkative' });
  const projectId = items[0]!.id;
  const talker = await routedClient(cluster.client, await cluster.token());
  ends.push(() => talker.end());
  let isOver = false;
  let acknowledged = 0;
  const talking = (async () => {
    const subject = `project.${projectId}.log.late`;
    while (!isOver) {
      const answer = await talker.request(subject, 'x', { timeoutMs: 500 }).catch(() => undefined);
      const { seq } = answer ? answer.json<{ seq?: number }>() : {};
      acknowledged = seq ?? acknowledged;
      await delay(2);
    }
  })();
  try {
    await waitFor('the first message', () => acknowledged > 0, { timeoutMs: 10_000 });
    const archive = await cluster.client.archiveProject({ projectId });
    await cluster.client.waitForOperation(archive.operation.id);
  } finally {
    isOver = true;
    await talking;
  }
  const back = await cluster.client.rehydrateProject({ projectId, start: true });
  await cluster.client.waitForOperation(back.operation.id);
  const reader = await routedClient(cluster.client, await cluster.token());
  ends.push(() => reader.end());
  const { state } = await waitFor(
    'the stream is back',
    async () => {
      const js = await reader.jetStream(projectId);
      return (await js.jetstreamManager()).streams.info('log').catch(() => undefined);
    },
    { timeoutMs: 60_000, everyMs: 200 },
  );
  // The last may have been stored without its answer having come.
  expect(state.last_seq).toBeGreaterThanOrEqual(acknowledged);
}, 240_000);

test('who cannot dial the host comes through the hub, as long as it may', async () => {
  const token = await cluster.token();
  const { items } = await cluster.client.listProjects({ name: 'hello' });
  const projectId = items[0]!.id;
  const direct = await routedClient(cluster.client, token);
  ends.push(() => direct.end());
  const heard: string[] = [];
  const { nats } = await direct.routeSubject(`project.${projectId}.news`);
  nats.subscribe(`project.${projectId}.news`, {
    callback: (_, message) => void heard.push(message.string()),
  });
  await nats.flush();

  const { control } = direct;
  const relayed = new RoutedConatClient({
    control,
    credentials: { token },
    routes: new (class extends RouteSource {
      async resolve(id: string, proof: string | undefined) {
        const routes = createServiceClient(control, projectRoutes, { projectId: id });
        const route = await routes.resolve(proof === undefined ? {} : { proof });
        return { ...route, urls: [] };
      }
      onChange() {
        return () => undefined;
      }
    })(),
  });
  ends.push(() => relayed.close());
  const big = 'x'.repeat(500_000);
  await relayed.publish(`project.${projectId}.news`, big);
  await waitFor('it is heard', () => heard.length === 1, { timeoutMs: 30_000 });
  expect(heard[0]).toBe(big);
  const relay = await control.nats.request(`routes.${projectId}.resolve`, '{}');
  const { relayUrl = '' } = relay.json<{ relayUrl?: string }>();
  for (const shown of ['', 'x', `${token}x`]) {
    const url = `${relayUrl.replace(/^ws/, 'http')}?rookery_token=${shown}`;
    const refused = await new Promise<number | undefined>((resolve, reject) => {
      const asked = request(url, { headers: { connection: 'Upgrade', upgrade: 'websocket' } });
      asked.once('response', ({ statusCode }) => resolve(statusCode));
      asked.once('upgrade', (_, socket) => (socket.destroy(), resolve(101)));
      asked.once('error', reject);
      asked.end();
    });
    expect(refused).toBe(401);
  }
});

test('who is removed hears no more from the host within two seconds, and is told', async () => {
  const { items } = await cluster.client.listProjects({ name: 'hello' });
  const projectId = items[0]!.id;
  const { account, token } = await cluster.client.createAccount({
    email: 'guest@example.org',
    name: 'Guest',
  });
  const shared = { projectId, accountId: account.id };
  await cluster.client.putCollaborator({ ...shared, role: 'viewer' });
  const hub = new RookeryClient({ url: cluster.url, token });
  ends.push(() => hub.close());
  const guest = await routedClient(hub, token);
  ends.push(() => guest.end());
  const news = `project.${projectId}.news`;
  const { nats } = await guest.routeSubject(news);
  expect(nats).not.toBe(guest.control.nats);
  let heard = 0;
  nats.subscribe(news, { callback: (error) => void (error ?? (heard += 1)) });
  await nats.flush();
  const owner = await routedClient(cluster.client, await cluster.token());
  ends.push(() => owner.end());
  await owner.publish(news, 'one');
  await waitFor('it is heard', () => heard === 1, { timeoutMs: 10_000 });

  const told = (async () => {
    for await (const status of nats.status()) {
      if (status.type === 'error') return String(status.error);
    }
    return 'closed';
  })();
  await cluster.client.deleteCollaborator(shared);
  const began = performance.now();
  expect(await told).toMatch(/revoked|permissions violation/i);
  expect(performance.now() - began).toBeLessThan(2_000);
  await owner.publish(news, 'two');
  await (await owner.routeSubject(news)).nats.flush();
  expect(heard).toBe(1);
}, 60_000);
