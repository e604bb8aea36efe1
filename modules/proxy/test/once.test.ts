import { afterEach, describe, expect, it } from '@jest/globals';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { waitFor } from '@rookery/core';
import type { ProxyLimits } from '@rookery/proxy';
import { Rig, send } from './rig.js';

const soon = { timeoutMs: 5_000, everyMs: 5 };

let rig: Rig;
afterEach(() => rig.stop());

/** Takes every request; drops the connection in place of the second answer, without a word before. */
class DroppingService {
  /** Methods in the order in which the service took them. */
  readonly taken: string[] = [];
  readonly sockets = new Set<Socket>();
  private readonly served = new Map<Socket, number>();
  readonly server: Server;

  constructor(private readonly answer: (res: ServerResponse) => void = (res) => res.end()) {
    this.server = createServer({ keepAlive: true }, (req, res) => {
      this.taken.push(req.method ?? '');
      const served = this.served.get(req.socket) ?? 0;
      this.served.set(req.socket, served + 1);
      if (served === 0) this.answer(res);
      else req.socket.destroy();
    });
    // It does not say how long it keeps a connection.
    this.server.keepAliveTimeout = 0;
    this.server.on('connection', (socket) => this.sockets.add(socket));
  }
}

async function start(
  service = new DroppingService(),
  limits: Partial<ProxyLimits> = {},
): Promise<DroppingService> {
  rig = await new Rig(limits).start(service.server);
  return service;
}

const unsafe = ['POST', 'PUT', 'PATCH', 'DELETE'];

describe('a service that drops a connection which it has kept', () => {
  it.each(unsafe)('gets a %s once, over a connection that nobody has used', async (method) => {
    const service = await start();
    expect((await send(rig.hubPort, rig.path())).status).toBe(200);
    expect((await send(rig.hubPort, rig.path(), { method })).status).toBe(200);
    expect(service.taken).toEqual(['GET', method]);
    expect((await send(rig.hubPort, rig.path(), { method, body: 'x' })).status).toBe(200);
    expect(service.taken).toEqual(['GET', method, method]);
  });

  it.each(unsafe)('gets a %s once even where a connection is used again', async (method) => {
    const service = await start(undefined, { unsafeIdleMs: 10_000 });
    expect((await send(rig.hubPort, rig.path(), { method })).status).toBe(200);
    const answer = await send(rig.hubPort, rig.path(), { method });
    expect([answer.status, answer.json().code]).toEqual([502, 'PROXY_UPSTREAM_FAILED']);
    expect(service.taken).toEqual([method, method]);
    expect(service.sockets.size).toBe(1);
  });

  it.each(['GET', 'HEAD', 'OPTIONS'])('gets a %s again, over a new connection', async (method) => {
    const waiting: ServerResponse[] = [];
    const service = await start(new DroppingService((res) => void waiting.push(res)));
    // Several idle connections, and none of them would serve a second request.
    const first = Array.from({ length: 5 }, () => send(rig.hubPort, rig.path()));
    await waitFor('all have come', () => waiting.length === 5, soon);
    for (const res of waiting.splice(0)) res.end();
    await Promise.all(first);
    expect(service.sockets.size).toBe(5);
    const again = send(rig.hubPort, rig.path(), { method });
    await waitFor('it comes over a new one', () => waiting.length === 1, soon);
    for (const res of waiting) res.end();
    expect((await again).status).toBe(200);
    expect(service.taken).toHaveLength(7);
    expect(service.sockets.size).toBe(6);
  });
});

describe('a host that drops a connection of the hub', () => {
  const dropNext = (): void => {
    rig.host().server.prependOnceListener('request', (req: IncomingMessage) => {
      req.socket.destroy();
    });
  };

  it.each(['POST', 'DELETE'])('does not get a %s again', async (method) => {
    const service = await start();
    expect((await send(rig.hubPort, rig.path('1'), { method })).status).toBe(200);
    let taken = 0;
    rig.host().server.on('request', () => (taken += 1));
    dropNext();
    const answer = await send(rig.hubPort, rig.path('2'), { method });
    expect([answer.status, taken]).toEqual([502, 1]);
    expect(service.taken).toHaveLength(1);
  });

  it('gets a GET again', async () => {
    await start();
    expect((await send(rig.hubPort, rig.path('1'))).status).toBe(200);
    dropNext();
    expect((await send(rig.hubPort, rig.path('2'))).status).toBe(200);
  });
});
