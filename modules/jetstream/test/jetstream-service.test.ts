import { cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { createInbox, wsconnect, type Msg, type NatsConnection } from '@nats-io/nats-core';
import { spaceAccount, rootAccount, type JetStreamAccount } from '@rookery/jetstream';
import {
  startTestJetStream,
  type TestJetStream,
  type TestJetStreamOptions,
} from '@rookery/jetstream/testing';

let folder: string;
let brokers: TestJetStream[];
let clients: NatsConnection[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-jetstream-'));
  brokers = [];
  clients = [];
});

afterEach(async () => {
  for (const client of clients) await client.close();
  for (const broker of brokers) await broker.close();
  rmSync(folder, { recursive: true });
});

const root = (): JetStreamAccount => rootAccount('root', join(folder, 'conat.sqlite'));

async function start(
  accounts: JetStreamAccount[],
  options: NonNullable<TestJetStreamOptions['jetStream']>['options'] = {},
): Promise<TestJetStream> {
  const broker = await startTestJetStream({ jetStream: { accounts, options } });
  brokers.push(broker);
  return broker;
}

async function stop(broker: TestJetStream): Promise<void> {
  brokers = brokers.filter((other) => other !== broker);
  for (const client of clients.splice(0)) await client.close();
  await broker.close();
}

async function connect({ url }: TestJetStream): Promise<NatsConnection> {
  const client = await wsconnect({ servers: url });
  clients.push(client);
  return client;
}

describe.each([
  ['in threads', 2],
  ['in the broker’s own thread', 0],
])('JetStream %s', (_name, threads) => {
  it('keeps what was published, over a restart', async () => {
    const first = await start([root()], { threads });
    const client = await connect(first);
    const manager = await jetstreamManager(client);
    await manager.streams.add({ name: 'orders', subjects: ['orders.>'] });
    const js = jetstream(client);
    const acks = await Promise.all(
      Array.from({ length: 300 }, (_, i) => js.publish(`orders.${i % 7}`, `${i}`)),
    );
    expect(acks.map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, i) => i + 1));
    await manager.consumers.add('orders', { durable_name: 'c', ack_policy: 'explicit' });
    const consumer = await js.consumers.get('orders', 'c');
    const seen: string[] = [];
    for await (const message of await consumer.fetch({ max_messages: 200, expires: 5_000 })) {
      seen.push(message.string());
      expect(await message.ackAck()).toBe(true);
    }
    await stop(first);

    const second = await start([root()], { threads });
    const again = jetstream(await connect(second));
    expect(await again.publish('orders.x', 'more')).toMatchObject({ seq: 301 });
    const rest = await again.consumers.get('orders', 'c');
    for await (const message of await rest.fetch({ max_messages: 101, expires: 5_000 })) {
      seen.push(message.string());
    }
    expect(seen).toEqual([...Array.from({ length: 300 }, (_, i) => `${i}`), 'more']);
  });

  it('keeps times in nanoseconds', async () => {
    const client = await connect(await start([root()], { threads }));
    const manager = await jetstreamManager(client);
    await manager.streams.add({ name: 'orders', subjects: ['orders.>'] });
    const js = jetstream(client);
    await Promise.all(Array.from({ length: 20 }, () => js.publish('orders.x')));
    const times = new Set<string>();
    for (let seq = 1; seq <= 20; seq += 1) {
      const answer = await client.request('$JS.API.STREAM.MSG.GET.orders', JSON.stringify({ seq }));
      times.add(answer.json<{ message: { time: string } }>().message.time);
    }
    expect([...times].filter((time) => /\.\d{4,9}Z$/.test(time)).length).toBeGreaterThan(10);
    // Go leaves zeros at the end away.
    const whole = [...times].map((time) => time.replace('Z', '').padEnd(29, '0'));
    expect(whole.toSorted()).toEqual(whole);
    const [first] = times;
    expect(Math.abs(Date.parse(first!) - Date.now())).toBeLessThan(60_000);
  });

  it('tells a watcher of keys what is there and what comes', async () => {
    const broker = await start([root()], { threads });
    const kv = await new Kvm(await connect(broker)).create('settings');
    await kv.put('a', '1');
    await kv.put('b', '2');
    await kv.put('a', '3');
    const seen: string[] = [];
    const watcher = await kv.watch();
    for await (const entry of watcher) {
      seen.push(`${entry.key}=${entry.string()}`);
      if (seen.length === 2) await kv.put('c', '4');
      if (seen.length === 3) break;
    }
    expect(seen).toEqual(['b=2', 'a=3', 'c=4']);
  });
});

describe.each([
  ['in threads', 1],
  ['in the broker’s own thread', 0],
])('a broker that stops, with JetStream %s', (_name, threads) => {
  it('answers pulls that wait, and only then closes', async () => {
    const broker = await start([root()], { threads });
    const client = await connect(broker);
    const manager = await jetstreamManager(client);
    await manager.streams.add({ name: 'orders', subjects: ['orders.>'] });
    await manager.consumers.add('orders', { durable_name: 'c', ack_policy: 'explicit' });
    const inbox = createInbox();
    const answers = client.subscribe(inbox, { max: 1 });
    client.publish('$JS.API.CONSUMER.MSG.NEXT.orders.c', '{"batch":3}', { reply: inbox });
    await client.flush();
    await broker.broker.drain(0);
    const answer = (await answers[Symbol.asyncIterator]().next()).value as Msg;
    expect(answer.headers?.code).toBe(409);
    expect(answer.headers?.description).toBe('Server Shutdown');
    expect(answer.headers?.get('Nats-Pending-Messages')).toBe('3');
  });
});

describe.each([
  ['in threads', 1],
  ['in the broker’s own thread', 0],
])('an acknowledgement that is confirmed, with JetStream %s', (_name, threads) => {
  it('is on disk: a crash right after it does not bring the message back', async () => {
    const broker = await start([root()], { threads });
    const client = await connect(broker);
    const manager = await jetstreamManager(client);
    await manager.streams.add({ name: 'orders', subjects: ['orders.>'] });
    for (let i = 0; i < 4; i += 1) await jetstream(client).publish('orders.x', `${i}`);
    await manager.consumers.add('orders', { durable_name: 'c', ack_policy: 'explicit' });
    const consumer = await jetstream(client).consumers.get('orders', 'c');
    for await (const message of await consumer.fetch({ max_messages: 3, expires: 5_000 })) {
      if (message.seq !== 2) expect(await message.ackAck()).toBe(true);
    }
    // What a power cut would leave.
    const copy = join(folder, 'copy');
    for (const name of readdirSync(folder)) {
      cpSync(join(folder, name), join(copy, name), { recursive: true });
    }
    const after = await start([rootAccount('root', join(copy, 'conat.sqlite'))], { threads });
    const { ack_floor, num_ack_pending, delivered } = await (
      await jetstreamManager(await connect(after))
    ).consumers.info('orders', 'c');
    expect([delivered.stream_seq, ack_floor.stream_seq, num_ack_pending]).toEqual([3, 1, 1]);
  });
});

describe('an account', () => {
  const ids = ['aaaaaaaa-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002'];
  const project = (id: string): JetStreamAccount =>
    spaceAccount({ root: 'space', id }, join(folder, `${id}.sqlite`));

  it('is refused while it is fenced, and lies whole in one file then', async () => {
    const broker = await start(ids.map(project), { threads: 1 });
    const client = await connect(broker);
    const [one, other] = ids.map((id) =>
      jetstream(client, { apiPrefix: `space.${id}.js.api`, timeout: 2_000 }),
    );
    for (const js of [one!, other!]) {
      const manager = await js.jetstreamManager();
      await manager.streams.add({ name: 's', subjects: ['s.>'] });
    }
    await client.request(`space.${ids[0]}.s.x`, 'one');
    await broker.jetStream.fence(ids[0]!);
    expect(readdirSync(folder).filter((name) => name.startsWith(ids[0]!))).toEqual([
      `${ids[0]}.sqlite`,
    ]);
    const refused = await client.request(`space.${ids[0]}.s.x`, 'two');
    expect(refused.json()).toMatchObject({
      error: { code: 503, err_code: 10_008, description: expect.stringContaining('FENCED') },
    });
    const taken = await client.request(`space.${ids[1]}.s.x`, 'two');
    expect(taken.json()).toMatchObject({ stream: 's', seq: 1 });
    await broker.jetStream.unfence(ids[0]!);
    const after = await client.request(`space.${ids[0]}.s.x`, 'three');
    expect(after.json()).toMatchObject({ stream: 's', seq: 2 });
  });

  it('hears nothing after it was dropped', async () => {
    const broker = await start(ids.map(project), { threads: 1 });
    const client = await connect(broker);
    const manager = await jetstreamManager(client, { apiPrefix: `space.${ids[0]}.js.api` });
    await manager.streams.add({ name: 's', subjects: ['s.>'] });
    await broker.jetStream.drop(ids[0]!);
    await expect(client.request(`space.${ids[0]}.s.x`, 'x')).rejects.toThrow('no responders');
    await broker.jetStream.open(project(ids[0]!));
    const back = await client.request(`space.${ids[0]}.s.x`, 'x');
    expect(back.json()).toMatchObject({ seq: 1 });
  });
});
