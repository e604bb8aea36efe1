import { afterEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { waitFor } from '@rookery/core';
import type { ProxyLimits } from '@rookery/proxy';
import { WebSocket } from 'ws';
import { accounts, echoService, Rig, send } from './rig.js';

const MiB = 1024 * 1024;
const total = 128 * MiB;
/** Socket buffers of three connections, and what the processes between them hold. */
const keptBytesMax = 40 * MiB;
const soon = { timeoutMs: 5_000, everyMs: 10 };

let rig: Rig;
afterEach(() => rig.stop());

const start = async (limits: Partial<ProxyLimits> = {}, service = echoService()) => {
  rig = await new Rig(limits).start(service);
};

const bytes = (size: number, onChunk: (sent: number) => void = () => undefined): Readable => {
  const chunk = Buffer.alloc(64 * 1024, 1);
  return Readable.from(
    (function* () {
      for (let sent = 0; sent < size; sent += chunk.length) {
        onChunk(sent);
        yield chunk;
      }
    })(),
  );
};

function open(path: string, options: { method?: string; headers?: Record<string, string> } = {}) {
  const req = request({
    host: '127.0.0.1',
    port: rig.hubPort,
    path,
    method: options.method ?? 'GET',
    headers: { authorization: 'Bearer owner', ...options.headers },
  });
  const response = new Promise<IncomingMessage>((resolve, reject) => {
    req.once('response', resolve);
    req.on('error', reject);
  });
  response.catch(() => undefined);
  return { req, response };
}

function socketTo(path = rig.path()): WebSocket {
  const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}${path}`, {
    headers: { authorization: 'Bearer owner' },
  });
  socket.on('error', () => undefined);
  return socket;
}

describe('streams', () => {
  it('carries 128 MiB up and down without keeping them', async () => {
    // What has left one end and not reached the other is what the way between them keeps.
    let sent = 0;
    let arrived = 0;
    let keptMax = 0;
    const leaves = (bytesSent: number): void => {
      sent = bytesSent;
      keptMax = Math.max(keptMax, sent - arrived);
    };
    const service = createServer((req, res) => {
      if (req.method === 'GET') {
        return void pipeline(bytes(total, leaves), res).catch(() => undefined);
      }
      req.on('data', (chunk: Buffer) => (arrived += chunk.length));
      req.on('end', () => res.end(String(arrived)));
    });
    await start({}, service);
    const up = open(rig.path(), { method: 'POST' });
    await pipeline(bytes(total, leaves), up.req);
    const counted = await (await up.response).toArray();
    expect(Buffer.concat(counted as Buffer[]).toString()).toBe(String(total));
    arrived = 0;
    const down = open(rig.path());
    down.req.end();
    for await (const chunk of await down.response) arrived += (chunk as Buffer).length;
    expect(arrived).toBe(total);
    expect(keptMax).toBeGreaterThan(0);
    expect(keptMax).toBeLessThan(keptBytesMax);
  });

  it('holds a fast service back for a slow reader', async () => {
    let produced = 0;
    const source = bytes(total, (sent) => (produced = sent));
    await start(
      {},
      createServer((_req, res) => void pipeline(source, res).catch(() => undefined)),
    );
    const { req, response } = open(rig.path());
    req.end();
    (await response).pause();
    let before = -1;
    const stopped = (): boolean => {
      const same = produced === before;
      before = produced;
      return same;
    };
    await waitFor('the service stops', stopped, { timeoutMs: 10_000, everyMs: 300 });
    expect(produced).toBeLessThan(keptBytesMax);
    req.destroy();
    await waitFor('the service is told', () => source.destroyed, soon);
  });

  it('passes events on at once, and their end', async () => {
    const service = echoService();
    await start({}, service);
    const closed = once(service, 'events-closed');
    const { req, response } = open(rig.path('events'));
    req.end();
    const [first] = (await once(await response, 'data')) as [Buffer];
    expect(first.toString()).toBe('data: first\n\n');
    req.destroy();
    await closed;
    await waitFor('nothing is open', () => rig.hub.counts().requests === 0, soon);
    await waitFor('nothing is open', () => rig.host().ingress.counts().requests === 0, soon);
  });

  it('does not make a broken response look whole', async () => {
    const service = createServer((_req, res) => {
      res.writeHead(200);
      res.write('half', () => res.socket?.destroy());
    });
    await start({}, service);
    const { req, response } = open(rig.path());
    req.end();
    const got = await response;
    await expect(got.toArray()).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('answers 502 for a service that does not speak HTTP', async () => {
    const service = createServer((_req, res) => void res.socket?.end('SSH-2.0-x\r\n'));
    await start({}, service);
    const answer = await send(rig.hubPort, rig.path());
    expect([answer.status, answer.json().code]).toEqual([502, 'PROXY_UPSTREAM_FAILED']);
  });

  it.each(['HTTP/1.1 000 OK\r\n\r\n', 'HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n'])(
    'answers 502 for the odd status in %j',
    async (raw) => {
      await start(
        {},
        createServer((_req, res) => void res.socket?.end(raw)),
      );
      expect((await send(rig.hubPort, rig.path())).status).toBe(502);
    },
  );

  it('tries again when an idle upstream connection has just died', async () => {
    let sockets = 0;
    let requests = 0;
    const service = createServer((req, res) => {
      requests += 1;
      // The second request on a connection meets a service that had hung up.
      if (requests === 2) res.socket?.destroy();
      else res.end(`${req.url}`);
    }).on('connection', () => (sockets += 1));
    await start({}, service);
    expect((await send(rig.hubPort, rig.path('1'))).status).toBe(200);
    expect((await send(rig.hubPort, rig.path('2'))).status).toBe(200);
    expect([requests, sockets]).toEqual([3, 2]);
  });

  it('reuses connections on both hops', async () => {
    const service = echoService();
    let sockets = 0;
    service.on('connection', () => (sockets += 1));
    await start({}, service);
    for (let i = 0; i < 10; i += 1) await send(rig.hubPort, rig.path(String(i)));
    expect(sockets).toBe(1);
  });
});

describe('idle connections to a service', () => {
  it.each([
    ['are given up after a while', 200, 60_000],
    ['are given up before the service gives them up', 60_000, 2_000],
  ])('%s', async (_what, idleUpstreamMs, serviceKeepsMs) => {
    const service = echoService();
    // The service says the first, and in truth keeps a connection for both.
    Object.assign(service, { keepAliveTimeout: serviceKeepsMs, keepAliveTimeoutBuffer: 60_000 });
    const ended: Promise<unknown>[] = [];
    service.on('connection', (socket) => ended.push(once(socket, 'end')));
    await start({ idleUpstreamMs }, service);
    expect((await send(rig.hubPort, rig.path())).status).toBe(200);
    expect(ended).toHaveLength(1);
    await ended[0];
  });
});

describe('limits', () => {
  it('answers 429 beyond the requests of one project, and counts down again', async () => {
    await start({ requestsPerProjectMax: 2 });
    const events = [open(rig.path('events')), open(rig.path('events'))];
    for (const { req, response } of events) {
      req.end();
      await response;
    }
    const answer = await send(rig.hubPort, rig.path());
    expect([answer.status, answer.json().code]).toEqual([429, 'PROXY_BUSY']);
    for (const { req } of events) req.destroy();
    await waitFor('they are gone', () => rig.hub.counts().requests === 0, soon);
    await waitFor('they are gone', () => rig.host().ingress.counts().requests === 0, soon);
    expect((await send(rig.hubPort, rig.path())).status).toBe(200);
  });

  it('refuses WebSockets beyond their limit', async () => {
    await start({ socketsPerProjectMax: 1 });
    const first = socketTo();
    await once(first, 'open');
    const second = socketTo();
    const [, res] = (await once(second, 'unexpected-response')) as [unknown, IncomingMessage];
    expect(res.statusCode).toBe(429);
    first.terminate();
    await waitFor('it is gone', () => rig.hub.counts().sockets === 0, soon);
  });

  it('answers 504 when the service says nothing, and 408 when the client stops', async () => {
    await start(
      { responseMs: 200, bodyIdleMs: 150 },
      createServer((req) => void req.resume()),
    );
    const silent = await send(rig.host().port, rig.path(), {
      as: 'nobody',
      headers: { 'rookery-token': await hostToken() },
    });
    expect([silent.status, silent.json().code]).toEqual([504, 'PROXY_UPSTREAM_TIMEOUT']);
    const stopped = open(rig.path(), { method: 'POST', headers: { 'content-length': '10' } });
    stopped.req.write('half');
    expect((await stopped.response).statusCode).toBe(408);
    stopped.req.destroy();
  });

  it('answers 504 to an upgrade that the service ignores', async () => {
    const service = createServer();
    service.on('upgrade', (_req, socket) => socket.on('error', () => undefined).resume());
    service.on('upgrade', (_req, socket) => socket.once('end', () => socket.destroy()));
    await start({ upgradeMs: 200 }, service);
    const [, res] = (await once(socketTo(), 'unexpected-response')) as [unknown, IncomingMessage];
    expect(res.statusCode).toBe(504);
    service.closeAllConnections();
  });

  const hostToken = () =>
    rig.minter.mint({
      aud: `host:${rig.host().hostId}`,
      sub: 'account:x',
      project: rig.projectId,
      role: 'owner',
    });
});

describe('ends', () => {
  it.each([
    ['project', () => ({ projectId: rig.projectId })],
    ['account', () => ({ subject: `account:${accounts.owner}` })],
    ['session', () => ({ sessionId: 'session-owner' })],
  ])('cuts off what is open for a %s', async (_what, filter) => {
    await start();
    const socket = socketTo();
    await once(socket, 'open');
    const { req, response } = open(rig.path('events'));
    req.end();
    await response;
    expect(rig.hub.closeConnectionsOf({ projectId: 'another' })).toBe(0);
    expect(rig.hub.closeConnectionsOf(filter())).toBe(2);
    await once(socket, 'close');
    await waitFor('both halves are gone', () => rig.host().ingress.counts().sockets === 0, soon);
    await waitFor('both halves are gone', () => rig.host().ingress.counts().requests === 0, soon);
  });

  it('lets requests end in a drain, takes none, and cuts WebSockets off', async () => {
    let finish!: () => void;
    const slow = new Promise<void>((resolve) => (finish = resolve));
    const service = echoService();
    service.removeAllListeners('request');
    service.on('request', (_req, res) => void slow.then(() => res.end('done')));
    await start({}, service);
    const socket = socketTo();
    await once(socket, 'open');
    const pending = open(rig.path('slow'));
    pending.req.end();
    await waitFor('it is under way', () => rig.hub.counts().requests === 1, soon);
    const drained = rig.hub.drain(5_000);
    const refused = await send(rig.hubPort, rig.path());
    expect([refused.status, refused.json().code]).toEqual([503, 'PROXY_DRAINING']);
    finish();
    await drained;
    expect((await pending.response).statusCode).toBe(200);
    await once(socket, 'close');
  });

  it('ends both halves of a WebSocket when either goes', async () => {
    await start();
    const socket = socketTo();
    await once(socket, 'open');
    socket.terminate();
    await waitFor('both are gone', () => rig.host().ingress.counts().sockets === 0, soon);
    await waitFor('both are gone', () => rig.hub.counts().sockets === 0, soon);
    const other = socketTo();
    await once(other, 'open');
    rig.serviceServer.closeAllConnections();
    rig.host().ingress.closeConnectionsOf({ projectId: rig.projectId });
    await once(other, 'close');
  });
});
