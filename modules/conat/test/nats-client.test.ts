import {
  createInbox,
  headers,
  wsconnect,
  type Msg,
  type NatsConnection,
  type Subscription,
} from '@nats-io/nats-core';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createLogger, waitFor } from '@rookery/core';
import { ConatClient } from '@rookery/conat';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';

let network: TestBroker;
let connections: NatsConnection[] = [];

beforeEach(async () => {
  network = await startTestBroker();
});
afterEach(async () => {
  await Promise.all(connections.map((nats) => nats.close()));
  connections = [];
  await network.close();
});

async function connect(): Promise<NatsConnection> {
  const nats = await wsconnect({
    servers: network.url,
    reconnectTimeWait: 20,
    maxReconnectAttempts: -1,
  });
  connections.push(nats);
  return nats;
}

const collect = (nats: NatsConnection, subject: string, queue?: string): [Subscription, Msg[]] => {
  const messages: Msg[] = [];
  const subscription = nats.subscribe(subject, {
    queue,
    callback: (_, message) => {
      messages.push(message);
    },
  });
  return [subscription, messages];
};

describe('nats-core over WebSocket', () => {
  it('publishes, subscribes, requests and measures the round trip', async () => {
    const [a, b] = [await connect(), await connect()];
    b.subscribe('echo', { callback: (_, message) => void message.respond(message.data) });
    await b.flush();
    expect((await a.request('echo', 'hello')).string()).toBe('hello');
    expect((await a.request('echo', 'again', { noMux: true, timeout: 1_000 })).string()).toBe(
      'again',
    );
    await expect(a.request('nobody')).rejects.toThrow(/no responders/i);
    expect(await a.rtt()).toBeGreaterThanOrEqual(0);
  });

  it('carries headers', async () => {
    const nats = await connect();
    const [, messages] = collect(nats, 'h');
    const hdrs = headers();
    hdrs.append('Key', 'one');
    hdrs.append('Key', 'two');
    nats.publish('h', 'body', { headers: hdrs, reply: 'r' });
    await nats.flush();
    expect(messages[0]!.headers!.values('Key')).toEqual(['one', 'two']);
    expect([messages[0]!.string(), messages[0]!.reply]).toEqual(['body', 'r']);
  });

  it('spreads over a queue group', async () => {
    const members = [await connect(), await connect(), await connect()].map(
      (nats) => [nats, collect(nats, 'work', 'group')[1]] as const,
    );
    await Promise.all(members.map(([nats]) => nats.flush()));
    const sender = await connect();
    for (let i = 0; i < 300; i += 1) sender.publish('work', String(i));
    await sender.flush();
    await Promise.all(members.map(([nats]) => nats.flush()));
    const counts = members.map(([, messages]) => messages.length);
    expect(counts.reduce((sum, count) => sum + count)).toBe(300);
    for (const count of counts) expect(count).toBeGreaterThan(50);
  });

  it('gathers many answers', async () => {
    const [a, b, c] = [await connect(), await connect(), await connect()];
    for (const nats of [b, c]) {
      nats.subscribe('all', { callback: (_, message) => void message.respond('me') });
      await nats.flush();
    }
    const answers = await a.requestMany('all', '', {
      strategy: 'count',
      maxMessages: 2,
      maxWait: 2_000,
    });
    let count = 0;
    for await (const _ of answers) count += 1;
    expect(count).toBe(2);
  });

  it('unsubscribes after a number, and drains without losing anything', async () => {
    const nats = await connect();
    let limited = 0;
    nats.subscribe('limited', { max: 3, callback: () => void (limited += 1) });
    const [subscription, messages] = collect(nats, 'drained');
    for (let i = 0; i < 100; i += 1) {
      nats.publish('limited');
      nats.publish('drained');
    }
    await subscription.drain();
    expect([limited, messages.length]).toEqual([3, 100]);
    const other = await connect();
    const [, late] = collect(other, 'late');
    await other.flush();
    for (let i = 0; i < 1_000; i += 1) nats.publish('late', 'x'.repeat(100));
    await nats.drain();
    await other.flush();
    expect(late).toHaveLength(1_000);
  });

  it('carries large messages, and refuses larger ones itself', async () => {
    const nats = await connect();
    const [, messages] = collect(nats, 'big');
    const max = nats.info!.max_payload;
    const payload = Buffer.alloc(max, 'abcdefg');
    nats.publish('big', payload);
    await nats.flush();
    expect(Buffer.compare(messages[0]!.data, payload)).toBe(0);
    expect(() => nats.publish('big', Buffer.alloc(max + 1))).toThrow(/max_payload/);
  });

  it('comes back after the broker was away, with its subscriptions', async () => {
    const nats = await connect();
    const [, messages] = collect(nats, 'a.*');
    await nats.flush();
    const { port } = network;
    await network.close();
    network = await startTestBroker({ port });
    await waitFor('the subscription is back', () => network.broker.subscriptionCount === 1, {
      timeoutMs: 10_000,
    });
    const sender = await connect();
    sender.publish('a.b');
    await sender.flush();
    await nats.flush();
    expect(messages).toHaveLength(1);
  });

  it('keeps order from one publisher to one subscriber', async () => {
    const [a, b] = [await connect(), await connect()];
    const [, messages] = collect(b, 'seq.>');
    await b.flush();
    for (let i = 0; i < 5_000; i += 1) a.publish(`seq.${i % 7}`, String(i));
    await a.flush();
    await b.flush();
    expect(messages.map((message) => Number(message.string()))).toEqual(
      Array.from({ length: 5_000 }, (_, i) => i),
    );
  });
});

describe('ConatClient', () => {
  it('connects to a broker of its own process without a socket', async () => {
    const inside = await ConatClient.connect({ servers: network.broker, identity: 'hub' });
    const outside = await network.connect({ identity: 'host-1' });
    inside.nats.subscribe('echo', { callback: (_, message) => void message.respond(message.data) });
    await inside.nats.flush();
    expect((await outside.nats.request('echo', 'in')).string()).toBe('in');
    expect(createInbox(`_INBOX.${inside.identity}`)).toMatch(/^_INBOX\.hub\./);
    network.broker.disconnect('hub');
    await waitFor(
      'it is back',
      () => inside.status === 'connected' && network.broker.identityNames().includes('hub'),
      {
        timeoutMs: 5_000,
      },
    );
    expect((await outside.nats.request('echo', 'again')).string()).toBe('again');
    await inside.close();
    expect(inside.status).toBe('closed');
    await waitFor('it is gone', () => network.broker.connectionCount === 1, { timeoutMs: 2_000 });
  });

  it('waits for a broker that is not there yet', async () => {
    const { port, url } = network;
    await network.close();
    const connecting = ConatClient.connect({
      servers: url.replace('ws:', 'http:'),
      identity: 'hub',
      reconnectFirstMs: 10,
      reconnectMaxMs: 50,
      logger: createLogger('test', 'silent'),
    });
    network = await startTestBroker({ port });
    const client = await connecting;
    expect(client.status).toBe('connected');
    await client.close();
  });

  it('gives up after the time that it was given, and says why', async () => {
    const { url, port } = network;
    await network.close();
    await expect(
      ConatClient.connect({ servers: url, identity: 'hub', connectTimeoutMs: 300 }),
    ).rejects.toMatchObject({ code: 'CONAT_UNREACHABLE', retryable: true });
    network = await startTestBroker({ port });
  });

  it('can be closed while it is looking for its broker', async () => {
    const client = await network.connect();
    const { port } = network;
    const closing = network.close();
    await closing;
    await client.close();
    expect(client.status).toBe('closed');
    network = await startTestBroker({ port });
    expect(network.broker.connectionCount).toBe(0);
  });
});
