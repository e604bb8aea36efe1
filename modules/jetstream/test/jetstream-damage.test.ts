import {
  mkdtempSync,
  openSync,
  closeSync,
  readdirSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { jetstreamManager } from '@nats-io/jetstream';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { brokerMetrics } from '@rookery/conat';
import { spaceAccount, type JetStreamAccount } from '@rookery/jetstream';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';

const [damaged, sound] = [
  'aaaaaaaa-0000-4000-8000-00000000000d',
  'aaaaaaaa-0000-4000-8000-00000000000e',
];
const pageBytes = 4_096;

let folder: string;
let broker: TestJetStream;
let client: NatsConnection;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-damage-'));
  await start();
  for (const id of [damaged, sound]) {
    const manager = await jetstreamManager(client, { apiPrefix: `space.${id}.js.api` });
    await manager.streams.add({ name: 's', subjects: ['s.>'] });
    for (let i = 0; i < 200; i += 1) client.publish(`space.${id}.s.${i}`, 'x'.repeat(500));
    await client.request(`space.${id}.s.last`, 'last');
  }
  await stop();
});

afterEach(async () => {
  await stop();
  rmSync(folder, { recursive: true });
});

const account = (id: string): JetStreamAccount =>
  spaceAccount({ root: 'space', id }, join(folder, `${id}.sqlite`));

async function start(): Promise<void> {
  const accounts = [account(damaged), account(sound)];
  broker = await startTestJetStream({ jetStream: { accounts, options: { threads: 1 } } });
  client = await wsconnect({ servers: broker.url });
}

async function stop(): Promise<void> {
  await client.close();
  await broker.close();
}

/** Overwrites the head of each page between two. */
function damagePages(from: number, to: number): void {
  const { file } = account(damaged);
  const fd = openSync(file, 'r+');
  for (let page = from; page < Math.min(to, statSync(file).size / pageBytes); page += 1) {
    writeSync(fd, Buffer.alloc(64, 0xa5), 0, 64, page * pageBytes);
  }
  closeSync(fd);
}

it.each([
  ['its head', 0, 1],
  ['all pages but the first', 1, Infinity],
  ['some pages in the middle', 8, 20],
])('puts a file aside that is damaged in %s, and says so', async (_name, from, to) => {
  damagePages(from, to);
  const expectRefused = async (): Promise<void> => {
    const readAll = { seq: 1, next_by_subj: 's.>' };
    for (let seq = 1; seq <= 201; seq += 1) {
      const subject = `space.${damaged}.js.api.STREAM.MSG.GET.s`;
      await client.request(subject, JSON.stringify({ ...readAll, seq }));
    }
    const reply = await client.request(`space.${damaged}.js.api.STREAM.INFO.s`);
    expect(reply.json()).toMatchObject({
      error: { code: 503, description: expect.stringMatching(/^ACCOUNT_QUARANTINED: .*put aside/) },
    });
    expect(broker.jetStream.status()).toContainEqual(
      expect.objectContaining({ id: damaged, state: 'quarantined' }),
    );
    expect(await brokerMetrics(broker.broker)).toMatch(/conat_jetstream_accounts_quarantined 1\b/);
    const other = await client.request(`space.${sound}.s.more`, 'more');
    expect(other.json()).toMatchObject({ stream: 's' });
  };
  await start();
  await expectRefused();
  const aside = readdirSync(folder).filter((name) => /\.quarantined-[\dTZ-]+$/.test(name));
  expect(aside.length).toBe(1);
  await stop();

  // What was acknowledged must not look as if it had never been.
  await start();
  await expectRefused();
  expect(readdirSync(folder).some((name) => name === `${damaged}.sqlite`)).toBe(false);
});
