import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { createLogger } from '@rookery/core';
import type { Broker } from '../broker/broker.js';
import type { ConatOptions } from '../conat.module-definition.js';
import { RootAccountDirectory } from './account-directory.js';
import { JetStream } from './jetstream.js';

/** Made before the app listens: the streams that are there hear the first client. */
export async function startJetStream(
  broker: Broker,
  { persistence }: ConatOptions,
): Promise<JetStream | null> {
  if (!persistence) return null;
  const { dir, accounts, threads } = persistence;
  const logger = createLogger('jetstream', 'info');
  const jetStream = new JetStream({
    broker,
    logger,
    ...(threads === undefined ? {} : { threads }),
  });
  const directory = accounts ?? (dir === undefined ? null : new RootAccountDirectory(dir));
  await jetStream.start((await directory?.list()) ?? []);
  return jetStream;
}

/** Closes the files when the last client is gone (the gateway drains before). */
@Injectable()
export class JetStreamLifecycle implements OnApplicationShutdown {
  constructor(@Inject(JetStream) private readonly jetStream: JetStream | null) {}

  async onApplicationShutdown(): Promise<void> {
    await this.jetStream?.close();
  }
}
