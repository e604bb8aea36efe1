/**
 * A NestJS app that is a NATS server with JetStream: any NATS client connects to `/conat` of the
 * app's own port, and what a stream or bucket has acknowledged is on disk.
 */
import 'reflect-metadata';
import { ConatModule, ConatWsAdapter, StandaloneAuthenticator } from '@rookery/conat';
import { UpgradeDispatcher } from '@rookery/core';
import { JetStream, RootAccountDirectory } from '@rookery/jetstream';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

/** @param dir where streams and buckets are kept */
export async function startBroker(dir: string, port = 7700): Promise<INestApplication> {
  const conat = ConatModule.forRoot({
    authenticator: new StandaloneAuthenticator('open sesame'),
    persistence: new JetStream({ accounts: new RootAccountDirectory(dir) }),
  });
  const app = await NestFactory.create(conat, { logger: ['error', 'warn'] });
  app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)));
  app.enableShutdownHooks();
  await app.listen(port, '127.0.0.1');
  return app;
}
