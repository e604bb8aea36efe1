/**
 * A NestJS app with a NATS broker on its own HTTP port: any NATS client connects to
 * `ws://127.0.0.1:<port>/conat`.
 */
import 'reflect-metadata';
import {
  Authenticator,
  Broker,
  ConatClient,
  ConatModule,
  ConatWsAdapter,
  type ConatIdentity,
  type ConnectRequest,
} from '@rookery/conat';
import { UpgradeDispatcher } from '@rookery/core';
import { type INestApplication, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';

const everything = { allow: ['>'] };

class TokenAuthenticator extends Authenticator {
  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    if (options.auth_token !== 'open sesame') return null;
    return { name: 'crow', permissions: { publish: everything, subscribe: everything } };
  }
}

@Module({ imports: [ConatModule.forRoot({ authenticator: new TokenAuthenticator() })] })
class App {}

export async function startExample(port: number): Promise<INestApplication> {
  const app = await NestFactory.create(App, { logger: ['error', 'warn'] });
  app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)));
  app.enableShutdownHooks();
  await app.listen(port, '127.0.0.1');
  return app;
}

/** Answers a request inside of the app's process, and asks from outside. */
export async function greet(app: INestApplication, url: string, name: string): Promise<string> {
  const common = { identity: 'crow', credentials: { token: 'open sesame' } };
  const inside = await ConatClient.connect({ servers: app.get(Broker), ...common });
  const outside = await ConatClient.connect({ servers: url, ...common });
  try {
    inside.nats.subscribe('greet', {
      callback: (_, message) => void message.respond(`Hello, ${message.string()}.`),
    });
    await inside.nats.flush();
    return (await outside.nats.request('greet', name)).string();
  } finally {
    await Promise.all([inside.close(), outside.close()]);
  }
}
