import 'reflect-metadata';
import { createServer, get, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { wsconnect } from '@nats-io/nats-core';
import { type INestApplication, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { WebSocketGateway } from '@nestjs/websockets';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Broker, ConatModule, ConatWsAdapter } from '@rookery/conat';
import { refuseUpgrade, UpgradeDispatcher } from '@rookery/core';
import { AllowAllAuthenticator } from '@rookery/conat/testing';
import { WebSocket, WebSocketServer } from 'ws';
import { greet, startExample } from '../examples/app.js';

let closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  closers = [];
});

const urlOf = (app: INestApplication): string =>
  `ws://127.0.0.1:${(app.getHttpServer() as { address(): AddressInfo }).address().port}`;

/** What an upgrade request is answered with: 101, or the status that refused it. */
function upgrade(url: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    socket.on('open', () => {
      socket.terminate();
      resolve(101);
    });
    socket.on('unexpected-response', (_, response: IncomingMessage) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    socket.on('error', reject);
  });
}

describe('example', () => {
  it('serves NATS clients on the app’s own port', async () => {
    const app = await startExample(0);
    closers.push(() => app.close());
    expect(await greet(app, `${urlOf(app)}/conat`, 'crow')).toBe('Hello, crow.');
    await expect(
      wsconnect({ servers: `${urlOf(app)}/conat`, token: 'wrong', reconnect: false }),
    ).rejects.toThrow(/authorization violation/i);
  });
});

@WebSocketGateway({ path: '/other' })
class OtherGateway {}

@Module({
  imports: [
    ConatModule.forRootAsync({
      useFactory: async () => ({
        authenticator: new AllowAllAuthenticator(),
        path: '/bus/conat',
        drainDeadlineMs: 50,
      }),
    }),
  ],
  providers: [OtherGateway],
})
class App {}

async function startApp(): Promise<INestApplication> {
  const app = await NestFactory.create(App, { logger: false });
  app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)));
  await app.listen(0, '127.0.0.1');
  return app;
}

describe('ConatModule', () => {
  it('shares the port with other gateways, other upgrades and HTTP; unknown paths get 404', async () => {
    const app = await startApp();
    closers.push(() => app.close());
    const sockets = new WebSocketServer({ noServer: true });
    app.get(UpgradeDispatcher).register(
      (path) => path.startsWith('/project/'),
      (request, socket, head) => {
        sockets.handleUpgrade(request, socket, head, (client) => client.send('proxied'));
      },
    );
    const url = urlOf(app);
    const nats = await wsconnect({ servers: `${url}/bus/conat` });
    expect(await upgrade(`${url}/other`)).toBe(101);
    expect(await upgrade(`${url}/project/port/80/`)).toBe(101);
    expect(await upgrade(`${url}/project/port/80/?x=/bus/conat`)).toBe(101);
    expect(await upgrade(`${url}/conat`)).toBe(404);
    expect(await upgrade(`${url}/nowhere`)).toBe(404);
    const plain = await new Promise<number>((resolve) =>
      get(url.replace('ws:', 'http:'), (response) => {
        response.resume();
        resolve(response.statusCode!);
      }),
    );
    expect(plain).toBe(404);
    expect((await nats.rtt()) >= 0).toBe(true);
    await nats.close();
  });

  it('sends what waits and says goodbye before the sockets are closed', async () => {
    const app = await startApp();
    const nats = await wsconnect({ servers: `${urlOf(app)}/bus/conat`, reconnect: false });
    const statuses: string[] = [];
    const watching = (async () => {
      for await (const status of nats.status()) statuses.push(status.type);
    })();
    let received = 0;
    nats.subscribe('flood', {
      callback: () => {
        received += 1;
      },
    });
    await nats.flush();
    const sender = await wsconnect({ servers: `${urlOf(app)}/bus/conat` });
    for (let i = 0; i < 1_000; i += 1) sender.publish('flood', 'x'.repeat(1_000));
    await sender.flush();
    await Promise.all([app.close(), sender.close()]);
    await nats.closed();
    await watching;
    expect(received).toBe(1_000);
    expect(statuses).toContain('ldm');
  });

  it('names all that is wrong with its options', async () => {
    @Module({
      imports: [
        ConatModule.forRoot({
          authenticator: {} as never,
          path: 'no slash',
          limits: { payloadBytesMax: 0 },
        }),
      ],
    })
    class Wrong {}
    await expect(
      NestFactory.create(Wrong, { logger: false, abortOnError: false }),
    ).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/authenticator.*payloadBytesMax.*path/),
    });
  });

  it('counts its connections on the broker that the app gets', async () => {
    const app = await startApp();
    closers.push(() => app.close());
    const nats = await wsconnect({ servers: `${urlOf(app)}/bus/conat` });
    expect(app.get(Broker).connectionCount).toBe(1);
    await nats.close();
  });
});

describe('UpgradeDispatcher', () => {
  it('attaches once, asks in order, takes handlers away and survives a handler that throws', async () => {
    const server = createServer();
    const dispatcher = new UpgradeDispatcher();
    dispatcher.attach(server);
    dispatcher.attach(server);
    expect(server.listenerCount('upgrade')).toBe(1);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closers.push(() => void server.close());
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const remove = dispatcher.register('/a', (_request, socket) => refuseUpgrade(socket, 401));
    dispatcher.register('/a', (_request, socket) => refuseUpgrade(socket, 403));
    dispatcher.register('/b', () => {
      throw new Error('broken');
    });
    expect(await upgrade(`${url}/a?q`)).toBe(401);
    remove();
    expect(await upgrade(`${url}/a`)).toBe(403);
    expect(await upgrade(`${url}/b`)).toBe(500);
    expect(await upgrade(`${url}/c`)).toBe(404);
    dispatcher.detach();
    expect(server.listenerCount('upgrade')).toBe(0);
  });
});
