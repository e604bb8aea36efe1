/**
 * A NestJS app with a NATS broker on its own HTTP port, and a typed service over it.
 */
import 'reflect-metadata';
import {
  Authenticator,
  Broker,
  ConatClient,
  ConatModule,
  ConatWsAdapter,
  createServiceClient,
  hubPermissions,
  serve,
  UpgradeDispatcher,
  type ConatIdentity,
  type ConnectRequest,
} from '@rookery/conat';
import { call, service } from '@rookery/core/contract';
import { type INestApplication, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { z } from 'zod';

class TokenAuthenticator extends Authenticator {
  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    if (options.auth_token !== 'open sesame') return null;
    return { name: 'hub', permissions: hubPermissions() };
  }
}

@Module({ imports: [ConatModule.forRoot({ authenticator: new TokenAuthenticator() })] })
class App {}

/** Starts the app; NATS clients connect to `ws://127.0.0.1:<port>/conat`. */
export async function startExample(port: number): Promise<INestApplication> {
  const app = await NestFactory.create(App, { logger: ['error', 'warn'] });
  app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)));
  app.enableShutdownHooks();
  await app.listen(port, '127.0.0.1');
  return app;
}

const greeting = service(
  'greeting',
  { version: 1 },
  { hello: call(z.object({ name: z.string() }), z.object({ text: z.string() })) },
);

/** Serves a contract inside the app's process and calls it from outside. */
export async function greet(app: INestApplication, url: string, name: string): Promise<string> {
  const credentials = { token: 'open sesame' };
  const inside = await ConatClient.connect({
    servers: app.get(Broker),
    identity: 'hub',
    credentials,
  });
  const outside = await ConatClient.connect({ servers: url, identity: 'hub', credentials });
  const server = await serve(inside, greeting, {
    hello: async (input) => ({ text: `Hello, ${input.name}.` }),
  });
  try {
    return (await createServiceClient(outside, greeting, {}).hello({ name })).text;
  } finally {
    await server.close();
    await Promise.all([inside.close(), outside.close()]);
  }
}
