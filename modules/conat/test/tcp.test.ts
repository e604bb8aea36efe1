import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { afterEach, describe, expect, it } from '@jest/globals';
import { wsconnect } from '@nats-io/nats-core';
import {
  Broker,
  brokerMetrics,
  ConatModule,
  serveBroker,
  StandaloneAuthenticator,
  TcpGate,
  type BrokerLimitsInput,
  type StandaloneServer,
} from '@rookery/conat';
import { AllowAllAuthenticator } from '@rookery/conat/testing';
import { waitFor } from '@rookery/core';
import { RawSocket } from './raw-socket.js';

const connect = 'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n';
let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  closers = [];
});

async function start(limits: BrokerLimitsInput = {}): Promise<StandaloneServer> {
  const server = await serveBroker({
    broker: new Broker({ authenticator: new StandaloneAuthenticator(undefined), limits }),
    tcp: { host: '127.0.0.1', port: 0 },
  });
  closers.push(() => server.close(0));
  return server;
}

async function open(port: number): Promise<RawSocket> {
  const socket = await RawSocket.open(port);
  closers.push(() => socket.destroy());
  return socket;
}

describe('the TCP listener', () => {
  it('joins the same broker as WebSocket, and tells each where it came in', async () => {
    const { tcp, url, port, broker } = await start();
    const nats = await wsconnect({ servers: url });
    closers.push(() => nats.close());
    expect(nats.info).toMatchObject({ host: '127.0.0.1', port });
    const heard: string[] = [];
    nats.subscribe('a.*', { callback: (_, message) => void heard.push(message.string()) });
    await nats.flush();
    const socket = await open(tcp!.port);
    expect(await socket.heard('\r\n')).toContain(`"host":"127.0.0.1","port":${tcp!.port},`);
    socket.say(`${connect}SUB b 1\r\nPUB a.x 2\r\nhi\r\nPING\r\n`);
    await socket.heard('PONG\r\n');
    await nats.flush();
    expect(heard).toEqual(['hi']);
    nats.publish('b', 'there');
    await socket.heard('MSG b 1 5\r\nthere\r\n');
    expect(broker.connectionsByTransport()).toEqual({ websocket: 1, tcp: 1, memory: 0 });
    expect(await brokerMetrics(broker)).toContain('conat_connections{transport="tcp"} 1');
  });

  it('counts the same limits: connections of an address, over both doors', async () => {
    const { tcp, url } = await start({ connectionsPerAddressMax: 2 });
    const nats = await wsconnect({ servers: url });
    closers.push(() => nats.close());
    const second = await open(tcp!.port);
    await second.heard('INFO');
    const third = await open(tcp!.port);
    expect(await third.gone()).toContain("-ERR 'maximum connections exceeded'\r\n");
    expect(second.closed).toBe(false);
  });

  it('forgets a client that resets', async () => {
    const { tcp, broker } = await start();
    const socket = await open(tcp!.port);
    socket.say(`${connect}SUB a 1\r\nPING\r\n`);
    await socket.heard('PONG');
    expect(broker.subscriptionCount).toBe(1);
    socket.socket.resetAndDestroy();
    await waitFor('it is forgotten', () => broker.connectionCount === 0, { timeoutMs: 20_000 });
    expect(broker.subscriptionCount).toBe(0);
  });

  it('belongs to the Nest module when its options ask for it, and ends with the app', async () => {
    @Module({
      imports: [
        ConatModule.forRoot({
          authenticator: new AllowAllAuthenticator(),
          tcp: { port: 0 },
          drainDeadlineMs: 0,
        }),
      ],
    })
    class App {}
    const app = await NestFactory.createApplicationContext(App, { logger: false });
    const { port } = app.get(TcpGate).address!;
    const socket = await open(port);
    socket.say(`${connect}PING\r\n`);
    await socket.heard('PONG');
    await app.close();
    await socket.gone();
    expect(app.get(TcpGate).address).toBeUndefined();
    await expect(RawSocket.open(port)).rejects.toThrow(/ECONNREFUSED/);
  });

  it('is off by default', async () => {
    @Module({ imports: [ConatModule.forRoot({ authenticator: new AllowAllAuthenticator() })] })
    class App {}
    const app = await NestFactory.createApplicationContext(App, { logger: false });
    closers.push(() => app.close());
    expect(app.get(TcpGate).address).toBeUndefined();
  });
});

describe('shutdown', () => {
  /**
   * Publishers number their messages and ask with PING what was taken; a subscriber on each door
   * must hear all that was, however much waited when the end came.
   */
  it('delivers all that was accepted from publishers that never stop', async () => {
    const server = await start({ pendingBytesMax: 512 * 1024 * 1024 });
    const hear = await open(server.tcp!.port);
    hear.say(`${connect}SUB flood.* 1\r\nPING\r\n`);
    await hear.heard('PONG');
    const nats = await wsconnect({ servers: server.url, reconnect: false });
    const overWebSocket = new Map<string, number>();
    nats.subscribe('flood.*', {
      callback: (_, { subject, data }) =>
        void overWebSocket.set(subject, Number(Buffer.from(data).toString().trim())),
    });
    await nats.flush();
    const publishers = await Promise.all([0, 1, 2].map(() => open(server.tcp!.port)));
    const said = publishers.map(() => 0);
    const flood = (i: number): void => {
      const publisher = publishers[i]!;
      if (publisher.closed || publisher.socket.writableLength > 1_000_000) return;
      let batch = '';
      for (let n = 0; n < 50; n += 1) {
        said[i]! += 1;
        batch += `PUB flood.${i} 200\r\n${String(said[i]).padStart(200)}\r\n`;
      }
      publisher.say(`${batch}PING\r\n`);
    };
    for (const publisher of publishers) publisher.say(connect);
    let going = true;
    const flooding = (async () => {
      while (going) {
        publishers.forEach((_, i) => flood(i));
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await hear.heard('MSG flood.2');
    await server.close(50);
    going = false;
    await Promise.all([flooding, hear.gone(), nats.closed(), ...publishers.map((p) => p.gone())]);
    publishers.forEach((publisher, i) => {
      const accepted = (publisher.text.split('PONG\r\n').length - 1) * 50;
      expect(accepted).toBeGreaterThan(0);
      const heard = [
        ...hear.text.matchAll(new RegExp(`MSG flood.${i} 1 200\r\n +(\\d+)\r\n`, 'g')),
      ];
      expect(heard.length).toBeGreaterThanOrEqual(accepted);
      // In order, once, without a gap; and to both alike.
      expect(heard.findIndex((match, at) => Number(match[1]) !== at + 1)).toBe(-1);
      expect(overWebSocket.get(`flood.${i}`)).toBe(heard.length);
    });
    expect(hear.text.match(/"ldm":true/g)).toBeNull();
  });
});
