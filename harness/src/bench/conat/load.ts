/**
 * The clients of the conat benchmark, in a process of their own:
 * `node load.js '{"kind": …, "url": …}'` prints one JSON document with the figures. The same
 * program drives conat and nats-server.
 */
import { nanos, wsconnect, type NatsConnection, type Subscription } from '@nats-io/nats-core';
import { AckPolicy, jetstream, jetstreamManager, type JetStreamClient } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import type { Load, LoadResult } from './plan.js';

const streamName = 'BENCH';
const dayMs = 86_400_000;

async function fanOut(load: Extract<Load, { kind: 'fan-out' }>): Promise<LoadResult> {
  const publisher = await wsconnect({ servers: load.url });
  const counts = new Array<number>(load.subscribers).fill(0);
  const receivers: NatsConnection[] = [];
  const subscriptions: Subscription[] = [];
  let wake = (): void => undefined;
  for (let i = 0; i < load.subscribers; i += 1) {
    const receiver = await wsconnect({ servers: load.url });
    receivers.push(receiver);
    subscriptions.push(
      receiver.subscribe('bench.fan', {
        callback: () => {
          counts[i]! += 1;
          wake();
        },
      }),
    );
    await receiver.flush();
  }
  const payload = new Uint8Array(load.bytes).fill(120);
  const heard = (): number => Math.min(...counts);
  const run = async (messages: number): Promise<number> => {
    counts.fill(0);
    const began = performance.now();
    for (let sent = 0; sent < messages;) {
      // As many as may be under way, then wait for the slowest to catch up by half.
      while (sent < messages && sent - heard() < load.window) {
        publisher.publish('bench.fan', payload);
        sent += 1;
      }
      await until(() => heard() >= Math.min(messages, sent - load.window / 2));
    }
    await until(() => heard() >= messages);
    return performance.now() - began;
  };
  const until = (done: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      wake = () => {
        if (done()) resolve();
      };
      wake();
    });
  await run(Math.ceil(load.messages / 10));
  const tookMs = await run(load.messages);
  await Promise.all([publisher, ...receivers].map((connection) => connection.close()));
  return { perSecond: (load.messages * load.subscribers * 1000) / tookMs };
}

async function requests(load: Extract<Load, { kind: 'requests' }>): Promise<LoadResult> {
  const server = await wsconnect({ servers: load.url });
  const client = await wsconnect({ servers: load.url });
  server.subscribe('bench.ask', { callback: (_error, message) => void message.respond('yes') });
  await server.flush();
  const timesUs: number[] = [];
  for (let n = 0; n < load.warmUp + load.count; n += 1) {
    const began = performance.now();
    await client.request('bench.ask', 'x'.repeat(128), { timeout: 10_000 });
    if (n >= load.warmUp) timesUs.push((performance.now() - began) * 1000);
  }
  await Promise.all([server.close(), client.close()]);
  timesUs.sort((a, b) => a - b);
  const at = (share: number): number => timesUs[Math.floor(timesUs.length * share)] ?? 0;
  return { p50Us: at(0.5), p99Us: at(0.99) };
}

async function withStream<T>(
  url: string,
  work: (js: JetStreamClient, connection: NatsConnection) => Promise<T>,
): Promise<T> {
  const connection = await wsconnect({ servers: url });
  const manager = await jetstreamManager(connection, { timeout: 60_000 });
  await manager.streams.delete(streamName).catch(() => undefined);
  await manager.streams.add({
    name: streamName,
    subjects: ['bench.store.>'],
    max_age: nanos(dayMs),
    duplicate_window: nanos(1_000),
  });
  try {
    return await work(jetstream(connection, { timeout: 60_000 }), connection);
  } finally {
    await connection.close();
  }
}

/** Publishes and awaits acknowledgements for so long. */
function durable(load: Extract<Load, { kind: 'durable' }>): Promise<LoadResult> {
  return withStream(load.url, async (js) => {
    const payload = new Uint8Array(load.bytes).fill(120);
    let acknowledged = 0;
    let counting = false;
    let end = Infinity;
    const one = async (): Promise<void> => {
      while (performance.now() < end) {
        await js.publish('bench.store.a', payload);
        if (counting) acknowledged += 1;
      }
    };
    const workers = Array.from({ length: load.inFlight }, one);
    await new Promise((resolve) => setTimeout(resolve, load.durationMs / 5));
    counting = true;
    const began = performance.now();
    end = began + load.durationMs;
    await Promise.all(workers);
    return { perSecond: (acknowledged * 1000) / (performance.now() - began) };
  });
}

/** Stores what later loads read. */
function fill(load: Extract<Load, { kind: 'fill' }>): Promise<LoadResult> {
  return withStream(load.url, async (js, connection) => {
    const payload = new Uint8Array(load.bytes).fill(120);
    await windowed(load.messages, () => js.publish('bench.store.a', payload));
    const kv = await new Kvm(connection).create('bench', { history: 1, timeout: 60_000 });
    await windowed(load.keys, (n) => kv.put(`key.${n}`, payload));
    return {};
  });
}

async function windowed(count: number, one: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      next += 1;
      await one(next);
    }
  };
  await Promise.all(Array.from({ length: 2_048 }, worker));
}

async function consume(load: Extract<Load, { kind: 'consume' }>): Promise<LoadResult> {
  const connection = await wsconnect({ servers: load.url });
  const manager = await jetstreamManager(connection, { timeout: 60_000 });
  const name = `bench-${Date.now()}`;
  await manager.consumers.add(streamName, {
    name,
    ack_policy: AckPolicy.None,
    inactive_threshold: nanos(60_000),
  });
  const consumer = await jetstream(connection).consumers.get(streamName, name);
  const began = performance.now();
  let count = 0;
  const messages = await consumer.consume({ max_messages: 10_000 });
  for await (const _ of messages) {
    count += 1;
    if (count === load.messages) break;
  }
  const tookMs = performance.now() - began;
  await connection.close();
  return { perSecond: (count * 1000) / tookMs };
}

async function watchKeys(load: Extract<Load, { kind: 'watch-keys' }>): Promise<LoadResult> {
  const connection = await wsconnect({ servers: load.url });
  const kv = await new Kvm(connection).open('bench');
  const began = performance.now();
  const entries = await kv.watch();
  let count = 0;
  for await (const _ of entries) {
    count += 1;
    if (count === load.keys) break;
  }
  const tookMs = performance.now() - began;
  await connection.close();
  return { tookMs };
}

/** Holds connections open until its standard input ends. */
async function idle(load: Extract<Load, { kind: 'idle' }>): Promise<LoadResult> {
  const connections: NatsConnection[] = [];
  for (let n = 0; n < load.connections; n += 50) {
    connections.push(
      ...(await Promise.all(
        Array.from({ length: Math.min(50, load.connections - n) }, () =>
          wsconnect({ servers: load.url, pingInterval: 3_600_000 }),
        ),
      )),
    );
  }
  process.stdout.write('{"connected":true}\n');
  await new Promise((resolve) => process.stdin.once('end', resolve).resume());
  process.exit(0);
}

async function main(): Promise<LoadResult> {
  const load = JSON.parse(process.argv[2] ?? '') as Load;
  switch (load.kind) {
    case 'fan-out':
      return fanOut(load);
    case 'requests':
      return requests(load);
    case 'durable':
      return durable(load);
    case 'fill':
      return fill(load);
    case 'consume':
      return consume(load);
    case 'watch-keys':
      return watchKeys(load);
    case 'idle':
      return idle(load);
  }
}

process.stdout.write(`${JSON.stringify(await main())}\n`);
process.exit(0);
