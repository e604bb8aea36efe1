import { once } from 'node:events';
import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Broker,
  serveBroker,
  StandaloneAuthenticator,
  type BrokerLimitsInput,
  type StandaloneServer,
} from '@rookery/conat';
import { waitFor } from '@rookery/core';
import { WebSocket } from 'ws';
import { RawSocket } from './raw-socket.js';

const KiB = 1024;
const MiB = 1024 * KiB;
const connect = 'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n';
const patient = { timeoutMs: 30_000, everyMs: 2 };
let closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.reverse()) await close();
  closers = [];
});

/** A broker, a client that behaves, and a look at the most that the broker kept meanwhile. */
interface Scene {
  readonly server: StandaloneServer;
  readonly broker: Broker;
  readonly good: RawSocket;
  readonly port: number;
  keptMax(): number;
}

async function scene(limits: BrokerLimitsInput = {}): Promise<Scene> {
  const broker = new Broker({ authenticator: new StandaloneAuthenticator(undefined), limits });
  const server = await serveBroker({ broker, tcp: { host: '127.0.0.1', port: 0 } });
  closers.push(() => server.close(0));
  const port = server.tcp!.port;
  const good = await open(port);
  good.say(`${connect}SUB good 1\r\nPING\r\n`);
  await good.heard('PONG');
  let kept = 0;
  const timer = setInterval(() => (kept = Math.max(kept, broker.keptBytes())), 1);
  closers.push(() => clearInterval(timer));
  return { server, broker, good, port, keptMax: () => kept };
}

async function open(port: number): Promise<RawSocket> {
  const socket = await RawSocket.open(port);
  closers.push(() => socket.destroy());
  return socket;
}

async function webSocket(server: StandaloneServer): Promise<WebSocket> {
  const socket = new WebSocket(server.url, { perMessageDeflate: false });
  socket.on('error', () => undefined);
  closers.push(() => socket.terminate());
  await once(socket, 'open');
  return socket;
}

/** The others notice nothing, and nothing is left of who was cut. */
async function expectUnharmed({ good, broker }: Scene): Promise<void> {
  const before = good.text.split('still here').length;
  good.say('PUB good 10\r\nstill here\r\n');
  await waitFor('the other client is served', () => good.text.split('still here').length > before, {
    ...patient,
  });
  expect(good.closed).toBe(false);
  await waitFor('only the other client is left', () => broker.connectionCount === 1, patient);
  expect(broker.subscriptionCount).toBe(1);
  await waitFor('nothing is kept', () => broker.keptBytes() < KiB, patient);
}

describe('a client that never authenticates', () => {
  it('is cut after silence, with half a line or none, on both doors', async () => {
    const stage = await scene({ authTimeoutMs: 1_000 });
    const openings = ['', 'CONN', 'CONNECT {"verbose":fal', '\0\0\0\0'];
    const ends = openings.map(async (bytes) => {
      const tcp = await open(stage.port);
      tcp.say(bytes);
      const socket = await webSocket(stage.server);
      const closed = once(socket, 'close') as Promise<[number, Buffer]>;
      if (bytes !== '') socket.send(Buffer.from(bytes));
      expect(await tcp.gone()).toContain("-ERR 'Authentication Timeout'\r\n");
      const [code, reason] = await closed;
      expect([code, reason.toString()]).toEqual([1008, 'Authentication Timeout']);
    });
    await Promise.all(ends);
    expect(stage.broker.metrics.closed['authentication timeout']).toBe(2 * openings.length);
    await expectUnharmed(stage);
  });

  it('is cut when its CONNECT is too long, whole or not', async () => {
    const stage = await scene();
    for (const end of ['', '"}\r\n']) {
      const socket = await open(stage.port);
      socket.say(`CONNECT {"name":"${'x'.repeat(10 * MiB)}${end}`);
      expect(await socket.gone()).toMatch(/-ERR '(Authorization Violation|maximum control line)/);
    }
    expect(stage.keptMax()).toBeLessThan(256 * KiB);
    await expectUnharmed(stage);
  });

  it('cannot fill the memory with a WebSocket frame that never ends', async () => {
    const stage = await scene();
    const socket = await webSocket(stage.server);
    const closed = once(socket, 'close') as Promise<[number, Buffer]>;
    const half = Buffer.alloc(MiB);
    for (let i = 0; i < 7; i += 1) socket.send(half, { fin: false, binary: true });
    const [code, reason] = await closed;
    expect([code, reason.toString()]).toEqual([1008, 'Authorization Violation']);
    await expectUnharmed(stage);
  });

  it('has no more connections than its address may', async () => {
    const stage = await scene({ connectionsPerAddressMax: 20 });
    const sockets = await Promise.all(Array.from({ length: 40 }, () => open(stage.port)));
    await waitFor('half of them are cut', () => sockets.filter((s) => s.closed).length === 21, {
      ...patient,
    });
    const cut = sockets.filter(({ closed }) => closed);
    for (const { text } of cut) expect(text).toContain("-ERR 'maximum connections exceeded'\r\n");
    for (const socket of sockets) socket.destroy();
    await expectUnharmed(stage);
  });
});

describe('a client that is authenticated', () => {
  const ready = async (stage: Scene): Promise<RawSocket> => {
    const socket = await open(stage.port);
    socket.say(`${connect}PING\r\n`);
    await socket.heard('PONG\r\n');
    return socket;
  };

  it('is cut at once when it announces two gigabytes', async () => {
    const stage = await scene();
    for (const line of ['PUB a 2000000000\r\n', 'HPUB a 12 2000000000\r\n', 'PUB a 1048577\r\n']) {
      const socket = await ready(stage);
      socket.say(`${line}${'x'.repeat(64 * KiB)}`);
      expect(await socket.gone()).toContain("-ERR 'Maximum Payload Violation'\r\n");
    }
    expect(stage.broker.metrics.closed['maximum payload exceeded']).toBe(3);
    expect(stage.keptMax()).toBeLessThan(256 * KiB);
    await expectUnharmed(stage);
  });

  it('keeps what it sent of a message and not what it announced', async () => {
    const stage = await scene();
    const sockets = await Promise.all(Array.from({ length: 20 }, () => ready(stage)));
    for (const socket of sockets) socket.say(`PUB a ${MiB}\r\n${'x'.repeat(KiB)}`);
    await waitFor('it is kept', () => stage.broker.keptBytes() > 20 * KiB, patient);
    expect(stage.keptMax()).toBeLessThan(20 * 2 * KiB);
    for (const socket of sockets) socket.destroy();
    await expectUnharmed(stage);
  });

  it('is cut for a line that never ends', async () => {
    const stage = await scene();
    const socket = await ready(stage);
    socket.say(`SUB ${'x'.repeat(MiB)}`);
    expect(await socket.gone()).toContain("-ERR 'maximum control line exceeded'\r\n");
    expect(stage.keptMax()).toBeLessThan(256 * KiB);
    await expectUnharmed(stage);
  });

  it('is cut when it stops in the middle and does not answer', async () => {
    const stage = await scene({ pingEveryMs: 500, pingsOutMax: 1 });
    const answering = setInterval(() => stage.good.say('PONG\r\n'), 20);
    closers.push(() => clearInterval(answering));
    const socket = await ready(stage);
    socket.say('PUB a 1000\r\nxx');
    expect(await socket.gone()).toContain("-ERR 'Stale Connection'\r\n");
    await expectUnharmed(stage);
  });

  it('is cut when it pours out PINGs', async () => {
    const stage = await scene();
    const socket = await ready(stage);
    socket.say('PING\r\n'.repeat(200_000));
    await socket.gone();
    const { closed } = stage.broker.metrics;
    expect(closed['maximum pings exceeded']).toBe(1);
    expect(stage.keptMax()).toBeLessThan(MiB);
    await expectUnharmed(stage);
  });

  it('is cut when it opens 100,000 subscriptions', async () => {
    const stage = await scene();
    const socket = await ready(stage);
    let most = 0;
    const timer = setInterval(() => (most = Math.max(most, stage.broker.subscriptionCount)), 1);
    closers.push(() => clearInterval(timer));
    for (let i = 0; i < 100; i += 1) {
      let batch = '';
      for (let n = 0; n < 1_000; n += 1) batch += `SUB s.${i}.${n} ${i}-${n}\r\n`;
      socket.say(batch);
    }
    expect(await socket.gone()).toContain("-ERR 'maximum subscriptions exceeded'\r\n");
    expect(most).toBeLessThanOrEqual(10_001);
    expect(stage.broker.metrics.closed['maximum subscriptions exceeded']).toBe(1);
    await expectUnharmed(stage);
  });

  it('is cut when it does not read, and the others hear everything', async () => {
    const pendingBytesMax = 2 * MiB;
    const stage = await scene({ pendingBytesMax });
    const slow = await ready(stage);
    slow.say('SUB good 1\r\nPING\r\n');
    await waitFor('it listens', () => stage.broker.subscriptionCount === 2, patient);
    slow.socket.pause();
    const payload = 'x'.repeat(64 * KiB);
    let said = 0;
    const loud = await ready(stage);
    while (stage.broker.metrics.slowConsumers === 0 && said < 2_000) {
      said += 1;
      loud.say(`PUB good ${payload.length}\r\n${payload}\r\nPING\r\n`);
      await waitFor('it was taken', () => loud.text.split('PONG').length > said + 1, patient);
    }
    expect(stage.broker.metrics.slowConsumers).toBe(1);
    expect(stage.broker.metrics.closed['slow consumer']).toBe(1);
    await waitFor(
      'the other heard all',
      () => stage.good.text.split(payload).length - 1 === said,
      patient,
    );
    // Above the limit by no more than what one flush of a tick adds.
    expect(stage.keptMax()).toBeLessThan(2 * pendingBytesMax + MiB);
    slow.destroy();
    loud.destroy();
    await expectUnharmed(stage);
  });

  it('is cut when it answers a flood of its own with silence', async () => {
    const stage = await scene({ pendingBytesMax: MiB });
    const socket = await ready(stage);
    socket.say('SUB big.* 1\r\nPING\r\n');
    await socket.heard(/PONG[^]*PONG/);
    socket.socket.pause();
    const payload = 'y'.repeat(16 * KiB);
    const pour = setInterval(() => {
      if (socket.socket.writableLength < MiB) {
        socket.say(`PUB big.x ${payload.length}\r\n${payload}\r\n`.repeat(20));
      }
    }, 1);
    closers.push(() => clearInterval(pour));
    await waitFor('it is cut', () => stage.broker.metrics.slowConsumers === 1, patient);
    clearInterval(pour);
    expect(stage.keptMax()).toBeLessThan(4 * MiB);
    await expectUnharmed(stage);
  });
});

describe('a WebSocket', () => {
  it('that announces a frame of two gigabytes is cut before it is sent', async () => {
    const stage = await scene();
    const socket = await webSocket(stage.server);
    const closed = once(socket, 'close') as Promise<[number, Buffer]>;
    const header = Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0, 1, 2, 3, 4]);
    (socket as unknown as { _socket: { write(bytes: Buffer): void } })._socket.write(header);
    expect((await closed)[0]).toBe(1009);
    await expectUnharmed(stage);
  });

  it('that speaks in text frames is understood, that has no mask is cut', async () => {
    const stage = await scene();
    const socket = await webSocket(stage.server);
    let text = '';
    socket.on('message', (data: Buffer) => (text += data.toString('latin1')));
    socket.send(`${connect}PING\r\n`);
    await waitFor('it is answered', () => text.includes('PONG'), patient);
    const closed = once(socket, 'close') as Promise<[number, Buffer]>;
    (socket as unknown as { _socket: { write(bytes: Buffer): void } })._socket.write(
      Buffer.from([0x82, 0x01, 0x0a]),
    );
    expect((await closed)[0]).toBe(1002);
    await expectUnharmed(stage);
  });
});
