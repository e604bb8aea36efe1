import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import type { INestApplication } from '@nestjs/common';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { chromium } from 'playwright-core';
import { servePage } from '../examples/browser/serve.js';
import { startBroker } from '../examples/persistence.js';

const executablePath = '/usr/bin/chromium';
const noChromium = await access(executablePath).then(
  () => undefined,
  () => `there is no ${executablePath}`,
);
const itIf = noChromium === undefined ? it : it.skip;

let folder: string;
let closers: (() => unknown)[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-conat-examples-'));
  closers = [() => rm(folder, { recursive: true, force: true })];
});
afterEach(async () => {
  for (const close of closers.reverse()) await close();
});

const urlOf = (app: INestApplication): string => {
  const server = app.getHttpServer() as { address(): AddressInfo };
  return `ws://127.0.0.1:${server.address().port}/conat`;
};

async function connect(app: INestApplication): Promise<NatsConnection> {
  const nats = await wsconnect({ servers: urlOf(app), token: 'open sesame' });
  closers.push(() => nats.close());
  return nats;
}

it('keeps streams and buckets over a restart of the app', async () => {
  const first = await startBroker(folder, 0);
  const nats = await connect(first);
  await (await jetstreamManager(nats)).streams.add({ name: 'ORDERS', subjects: ['orders.>'] });
  expect((await jetstream(nats).publish('orders.1', 'a dozen eggs')).seq).toBe(1);
  await (await new Kvm(nats).create('settings')).put('color', 'green');
  await nats.close();
  await first.close();
  const second = await startBroker(folder, 0);
  closers.push(() => second.close());
  const again = await connect(second);
  const stored = await (await jetstreamManager(again)).streams.getMessage('ORDERS', { seq: 1 });
  expect(stored?.string()).toBe('a dozen eggs');
  expect((await (await new Kvm(again).open('settings')).get('color'))?.string()).toBe('green');
});

itIf('talks to a broker from a browser’s page', async () => {
  const app = await startBroker(folder, 0);
  closers.push(() => app.close());
  const nats = await connect(app);
  nats.subscribe('greet', {
    callback: (_, message) => void message.respond(`Hello, ${message.string()}.`),
  });
  await nats.flush();
  const page = await servePage(0);
  closers.push(() => page.close());
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  });
  closers.push(() => browser.close());
  const tab = await browser.newPage({ viewport: { width: 1000, height: 900 } });
  const problems: string[] = [];
  tab.on('pageerror', (error) => problems.push(error.message));
  const sees = (text: string): Promise<unknown> => tab.getByText(text).first().waitFor();
  await tab.goto(`${page.url}?server=${urlOf(app)}`);
  await tab.fill('[name=token]', 'wrong');
  await tab.click('#connect button');
  await sees('Authorization Violation');
  await tab.fill('[name=token]', 'open sesame');
  await tab.click('#connect button');
  await sees('connected to conat');
  await tab.click('#subscribe button');
  await sees('listening to news.>');
  await tab.click('#publish button');
  await sees('news.today: hello');
  await tab.click('#request button');
  await sees('Hello, crow.');
  await tab.click('#put button');
  await sees('green');
  // What others change comes by itself.
  await (await new Kvm(nats).open('settings')).put('color', 'blue');
  await sees('blue');
  expect(await tab.locator('#keys tr').count()).toBe(1);
  const { TEST_SCREENSHOT: path } = process.env;
  if (path) await tab.screenshot({ path });
  expect(problems).toEqual([]);
});
