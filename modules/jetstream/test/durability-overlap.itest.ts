import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstream } from '@nats-io/jetstream';
import { wsconnect } from '@nats-io/nats-core';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { BrokerProcess } from './durability/broker-process.js';
import { makeStream } from './durability/publishers.js';
import { StoreProcess } from './durability/store-process.js';

const patience = { timeoutMs: 30_000, everyMs: 5 };
let folder: string;
let file: string;
const processes: { kill(): Promise<void> }[] = [];

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'rookery-overlap-')));
  file = join(folder, 'account.sqlite');
});

afterEach(async () => {
  await Promise.all(processes.splice(0).map((each) => each.kill()));
  rmSync(folder, { recursive: true, force: true });
});

function start(): StoreProcess {
  const store = StoreProcess.start(file);
  processes.push(store);
  return store;
}

it('keeps what a process acknowledged while the next one waited for its file', async () => {
  let acknowledged = 0;
  let before: StoreProcess | null = null;
  // Each is killed while the next one waits; what the last one put in front of the file, too.
  for (let round = 0; round < 4; round += 1) {
    const next = start();
    if (before) {
      await next.asks();
      for (let n = 0; n < 12; n += 1) acknowledged = await before.add();
      await before.kill();
    }
    expect(await next.opened()).toBe(acknowledged);
    for (let n = 0; n < 3; n += 1) acknowledged = await next.add();
    before = next;
  }
  expect(acknowledged).toBe(4 * 3 + 3 * 12);
});

it('removes what lies in front of a file before the next process may write', async () => {
  const before = start();
  await before.opened();
  await before.add();
  // Much to remove, so that it takes its time.
  const many = join(`${file}-tail`, 'many');
  mkdirSync(many);
  for (let n = 0; n < 4_000; n += 1) writeFileSync(join(many, String(n)), '');
  const next = start();
  await next.asks();
  const folded = before.fold();
  expect(await next.opened()).toBe(1);
  expect(await next.add()).toBe(2);
  await folded;
  await next.kill();
  expect(await start().opened()).toBe(2);
});

it('serves streams once the broker before has ended, however long that takes', async () => {
  const before = await BrokerProcess.start(folder);
  processes.push(before);
  await makeStream(before.url);
  // It gives up waiting for the file, and starts without.
  const next = await BrokerProcess.start(folder);
  processes.push(next);
  const client = await wsconnect({ servers: next.url });
  try {
    const publish = () => jetstream(client).publish('orders.x', 'hello');
    await expect(publish()).rejects.toThrow();
    await before.kill();
    const ack = await waitFor(
      'the stream is served',
      () => publish().catch(() => undefined),
      patience,
    );
    expect(ack).toMatchObject({ stream: 'orders', seq: 1 });
  } finally {
    await client.close();
  }
});
