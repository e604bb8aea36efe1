import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { brokerMetrics } from '@rookery/conat';
import { spaceAccount, type JetStreamAccount } from '@rookery/jetstream';
import {
  startTestJetStream,
  type TestJetStream,
  type TestJetStreamOptions,
} from '@rookery/jetstream/testing';
import { waitFor } from '@rookery/core';

let folder: string;
let broker: TestJetStream;
let client: NatsConnection;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-accounts-'));
});

afterEach(async () => {
  jest.restoreAllMocks();
  await stop();
  rmSync(folder, { recursive: true });
});

type Options = NonNullable<TestJetStreamOptions['jetStream']>['options'];

const accounts = (count: number): JetStreamAccount[] =>
  Array.from({ length: count }, (_, i) => {
    const id = `aaaaaaaa-0000-4000-8000-${String(i).padStart(12, '0')}`;
    return spaceAccount({ root: 'space', id }, join(folder, `${id}.sqlite`));
  });

async function start(list: readonly JetStreamAccount[], options: Options): Promise<void> {
  broker = await startTestJetStream({ jetStream: { accounts: list, options } });
  client = await wsconnect({ servers: broker.url });
}

async function stop(): Promise<void> {
  await client.close();
  await broker.close();
}

interface Answer {
  readonly seq?: number;
  readonly error?: unknown;
  readonly state?: { readonly messages: number };
}

async function ask(subject: string, body: unknown = ''): Promise<Answer> {
  const payload = body === '' ? '' : JSON.stringify(body);
  return (await client.request(subject, payload, { timeout: 20_000 })).json<Answer>();
}

const create = ({ id }: JetStreamAccount, more: object = {}): Promise<Answer> =>
  ask(`space.${id}.js.api.STREAM.CREATE.s`, { name: 's', subjects: ['s.>'], ...more });

async function metric(name: string): Promise<number> {
  const text = await brokerMetrics(broker.broker);
  return Number(new RegExp(`^conat_jetstream_${name} (\\d+)`, 'm').exec(text)?.[1]);
}

it('keeps few files open, and hears for all of them', async () => {
  const list = accounts(60);
  const options = { threads: 2, limits: { openAccountsMax: 4, idleCloseMs: 60_000 } };
  await start(list, options);
  for (const answer of await Promise.all(list.map((account) => create(account)))) {
    expect(answer.error).toBeUndefined();
  }
  await waitFor('most files are closed', async () => (await metric('open_files')) === 8, {
    timeoutMs: 20_000,
  });
  expect(readdirSync(folder).filter((name) => name.endsWith('-wal')).length).toBeLessThan(9);
  await stop();

  await start(list, options);
  expect(await metric('accounts')).toBe(60);
  const acks = await Promise.all(list.map(({ id }) => ask(`space.${id}.s.x`, 'x')));
  expect(acks.map(({ seq }) => seq)).toEqual(list.map(() => 1));
});

it('opens a closed file again when a message in it expires', async () => {
  const [account] = accounts(1) as [JetStreamAccount];
  await start([account], { threads: 1, limits: { idleCloseMs: 10 } });
  await create(account, { max_age: 6_500 * 1_000_000 });
  await ask(`space.${account.id}.s.x`, 'x');
  const isClosed = (): boolean => !readdirSync(folder).some((name) => name.endsWith('-wal'));
  await waitFor('the file is closed', isClosed, { timeoutMs: 5_000, everyMs: 20 });
  const info = `space.${account.id}.js.api.STREAM.INFO.s`;
  await waitFor('it is open again', () => !isClosed(), { timeoutMs: 20_000, everyMs: 20 });
  await waitFor('the message is gone', async () => (await ask(info)).state?.messages === 0, {
    timeoutMs: 10_000,
  });
});

it('goes on after a thread died', async () => {
  const [account] = accounts(1) as [JetStreamAccount];
  const posts = jest.spyOn(Worker.prototype, 'postMessage');
  await start([account], { threads: 1 });
  await create(account);
  expect(await ask(`space.${account.id}.s.x`, 'x')).toMatchObject({ seq: 1 });
  await (posts.mock.contexts[0] as Worker).terminate();
  const again = await waitFor(
    'another thread answers',
    () =>
      client
        .request(`space.${account.id}.s.x`, 'y', { timeout: 500 })
        .then((message) => message.json<Answer>())
        .catch(() => undefined),
    { timeoutMs: 20_000 },
  );
  expect(again.seq).toBeGreaterThan(1);
  expect(new Set(posts.mock.contexts).size).toBe(2);
});

it('refuses what it cannot keep in memory while the disk is slow', async () => {
  const [account] = accounts(1) as [JetStreamAccount];
  await start([account], { threads: 1, limits: { inputBytesMax: 32 * 1024 } });
  await create(account);
  const payload = Buffer.alloc(64 * 1024);
  const answers = await Promise.all(
    Array.from({ length: 100 }, async () =>
      (await client.request(`space.${account.id}.s.x`, payload, { timeout: 20_000 })).json(),
    ),
  );
  const refused = answers.filter((answer) => (answer as Answer).error);
  expect(refused.length).toBeGreaterThan(0);
  expect(refused[0]).toMatchObject({ stream: 's', error: { code: 429, err_code: 10_167 } });
  const stored = answers.length - refused.length;
  const info = await ask(`space.${account.id}.js.api.STREAM.INFO.s`);
  expect(info.state?.messages).toBe(stored);
});
