import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub } from './support/test-hub.js';

const soon = { timeoutMs: 20_000 };
const dripEveryMs = 50;
let postgres: TestPostgres;
const sockets: Socket[] = [];
const timers: NodeJS.Timeout[] = [];

beforeAll(async () => {
  postgres = await startPostgres();
});
afterEach(() => {
  for (const timer of timers.splice(0)) clearInterval(timer);
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(() => postgres?.close());

interface Client {
  readonly socket: Socket;
  /** What has come so far. */
  readonly text: () => string;
  readonly closed: Promise<unknown>;
}

async function dial(hub: TestHub): Promise<Client> {
  const socket = connect({ port: hub.port, host: '127.0.0.1' });
  sockets.push(socket);
  let text = '';
  socket.on('data', (data) => (text += data.toString('latin1')));
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  await Promise.race([once(socket, 'connect'), closed]);
  return { socket, text: () => text, closed };
}

/** Sends a beginning, and then a byte now and then for as long as the hub listens. */
async function drip(hub: TestHub, beginning: readonly string[], byte = 'x'): Promise<Client> {
  const client = await dial(hub);
  client.socket.write(beginning.join('\r\n'));
  timers.push(setInterval(() => client.socket.writable && client.socket.write(byte), dripEveryMs));
  return client;
}

const request = (line: string, ...headers: string[]): string[] => [
  line,
  'Host: hub',
  ...headers,
  '',
  '',
];

describe('a client that takes its time', () => {
  let hub: TestHub;
  beforeAll(async () => {
    hub = await TestHub.start(postgres.url, {}, { headersMs: 700, bodyMs: 700 });
  });
  afterAll(() => hub?.close());

  it.each([
    ['the sign-in form', 'POST /login HTTP/1.1', ['Origin: http://hub', 'Content-Length: 9000']],
    ['the API', 'POST /api/v1/projects HTTP/1.1', ['Content-Length: 9000']],
    ['the API, in chunks', 'POST /api/v1/projects HTTP/1.1', ['Transfer-Encoding: chunked']],
    ['a page that reads no body', 'GET /healthz HTTP/1.1', ['Content-Length: 9000']],
    ['an unknown path', 'POST /nowhere HTTP/1.1', ['Content-Length: 900000000']],
  ])('with a body for %s is let go', async (_what, line, headers) => {
    const { closed } = await drip(hub, request(line, ...headers));
    await closed;
  });

  it('with a body that somebody waits for is told why', async () => {
    const head = request('POST /api/v1/projects HTTP/1.1', 'Content-Length: 9000');
    head.splice(2, 0, `Authorization: Bearer ${hub.admin.token}`);
    const { closed, text } = await drip(hub, head);
    await closed;
    expect(text()).toMatch(/^HTTP\/1\.1 408 /);
    expect(text()).toContain('REQUEST_TOO_SLOW');
  });

  it('with its headers, or without a word, is let go about when the limit says', async () => {
    const begun = Date.now();
    const clients = [await drip(hub, ['GET / HTTP/1.1', 'X-Slow: ']), await dial(hub)];
    await Promise.all(clients.map(({ closed }) => closed));
    // Node looks every 30 s unless told otherwise.
    expect(Date.now() - begun).toBeLessThan(10_000);
  });

  it('but sends its body in time is served, on a connection that stays', async () => {
    const { socket, text } = await dial(hub);
    const body = JSON.stringify({ name: 'laptop' });
    const head = [
      'POST /api/v1/api-keys HTTP/1.1',
      'Host: hub',
      `Authorization: Bearer ${hub.admin.token}`,
      `Content-Length: ${body.length}`,
      '',
      '',
    ];
    socket.write(head.join('\r\n') + body.slice(0, 5));
    socket.write(body.slice(5));
    await waitFor('the answer', () => text().includes('201 Created'), soon);
    socket.write('GET /healthz HTTP/1.1\r\nHost: hub\r\n\r\n');
    await waitFor('the next answer', () => text().endsWith('ok\n'), soon);
  });
});

describe('one address', () => {
  it('has so many connections at a time', async () => {
    const hub = await TestHub.start(postgres.url, { ROOKERY_CONNECTIONS_PER_ADDRESS_MAX: '8' });
    try {
      const clients: Client[] = [];
      for (let n = 0; n < 8; n += 1) clients.push(await dial(hub));
      await (
        await dial(hub)
      ).closed;
      expect(clients.every(({ socket }) => !socket.destroyed)).toBe(true);
      clients[0]!.socket.destroy();
      await waitFor(
        'there is room again',
        async () => {
          const { socket, text, closed } = await dial(hub);
          socket.write('GET /healthz HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n');
          await closed;
          return text().includes('200 OK');
        },
        soon,
      );
    } finally {
      await hub.close();
    }
  });

  it('has so many requests at a time; others behind the same proxy have theirs', async () => {
    const hub = await TestHub.start(postgres.url, {
      ROOKERY_REQUESTS_PER_ADDRESS_MAX: '3',
      // A trusted proxy's connections do not count.
      ROOKERY_CONNECTIONS_PER_ADDRESS_MAX: '1',
      ROOKERY_TRUSTED_PROXIES: '127.0.0.1',
    });
    const statusFor = async (address: string): Promise<number> => {
      const headers = { 'x-forwarded-for': address };
      const response = await fetch(`${hub.url}/healthz`, { headers });
      await response.arrayBuffer();
      return response.status;
    };
    try {
      for (let n = 0; n < 3; n += 1) {
        // Of one network: whoever has an IPv6 address has many.
        const from = `X-Forwarded-For: 2001:db8::${n}`;
        const origin = 'Origin: http://hub';
        await drip(hub, request('POST /login HTTP/1.1', from, origin, 'Content-Length: 9000'));
      }
      await waitFor('they count', async () => (await statusFor('2001:db8::7')) === 429, soon);
      expect(await statusFor('2001:db8:0:1::7')).toBe(200);
      expect(await statusFor('192.0.2.7')).toBe(200);
      for (const socket of sockets) socket.destroy();
      await waitFor(
        'there is room again',
        async () => (await statusFor('2001:db8::7')) === 200,
        soon,
      );
    } finally {
      await hub.close();
    }
  });
});
