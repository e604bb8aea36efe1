import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { wsconnect } from '@nats-io/nats-core';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { Broker, brokerMetrics, ConatModule, ConatWsAdapter } from '@rookery/conat';
import { JetStream, RootAccountDirectory } from '@rookery/jetstream';
import { UpgradeDispatcher } from '@rookery/core';
import { AllowAllAuthenticator } from '@rookery/conat/testing';

let folder: string;
let app: INestApplication | null;
let jetStream: JetStream;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-jetstream-module-'));
  app = null;
});

afterEach(async () => {
  await app?.close();
  rmSync(folder, { recursive: true });
});

async function start(): Promise<string> {
  jetStream = new JetStream({
    accounts: new RootAccountDirectory(join(folder, 'store')),
    threads: 1,
  });
  const module = ConatModule.forRoot({
    authenticator: new AllowAllAuthenticator(),
    drainDeadlineMs: 50,
    persistence: jetStream,
  });
  app = await NestFactory.create(module, { logger: false });
  app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)));
  await app.listen(0, '127.0.0.1');
  const { port } = (app.getHttpServer() as { address(): AddressInfo }).address();
  return `ws://127.0.0.1:${port}/conat`;
}

it('gives an app a broker with persistence, which outlives it', async () => {
  const client = await wsconnect({ servers: await start() });
  await (await jetstreamManager(client)).streams.add({ name: 's', subjects: ['s.>'] });
  expect(await jetstream(client).publish('s.a', 'one')).toMatchObject({ seq: 1 });
  expect(await brokerMetrics(app!.get(Broker))).toMatch(/conat_jetstream_publishes_total 1\b/);
  expect(jetStream.status()).toEqual([{ id: 'root', state: 'ready', streams: 1 }]);
  await client.close();
  await app!.close();

  const again = await wsconnect({ servers: await start() });
  expect(await jetstream(again).publish('s.a', 'two')).toMatchObject({ seq: 2 });
  await again.close();
});
