import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { newId, waitFor } from '@rookery/core';
import { TrustedProxies } from '@rookery/proxy';
import { WebSocket, WebSocketServer } from 'ws';
import { accounts, closeServer, listen, Rig, send } from './rig.js';

const soon = { timeoutMs: 20_000 };
const limits = { requestsPerProjectMax: 32, requestsMax: 128, socketsPerProjectMax: 16 };

/** Answers `/quick` at once and everything else never. */
const slowService = (): Server =>
  createServer((req, res) => {
    if (req.url?.endsWith('/quick') === true) res.end('here');
  });

describe('when many ask at once', () => {
  let rig: Rig;
  let other: Server;
  let otherPort: number;
  let under: ReturnType<typeof request>[];
  let refused: number;

  beforeEach(async () => {
    const trustedProxies = new TrustedProxies(['127.0.0.1']);
    rig = await new Rig(limits, { trustedProxies }).start(slowService());
    other = slowService();
    otherPort = await listen(other);
    rig.pointHub(0, [rig.servicePort]);
    under = [];
    refused = 0;
  });
  afterEach(async () => {
    for (const req of under) req.destroy();
    await closeServer(other);
    await rig.stop();
  });

  /** Leaves a request open, and counts it when it is refused. */
  function ask(port: number, path: string, headers: Record<string, string>): void {
    const req = request({ host: '127.0.0.1', port, path, headers });
    req.on('error', () => undefined);
    req.on('response', (res) => {
      if (res.statusCode === 429) refused += 1;
      res.resume();
    });
    req.end();
    under.push(req);
  }

  /** Until all that were asked are refused or wait for the service; how many wait. */
  async function waiting(): Promise<number> {
    const { ingress } = rig.host();
    await waitFor(
      'all have arrived',
      () => ingress.counts().requests === under.length - refused,
      soon,
    );
    return under.length - refused;
  }

  /** Strangers ask forty times, each time from the next of so many addresses. */
  async function flood(path: string, addresses: number): Promise<number> {
    for (let n = 0; n < 40; n += 1) {
      ask(rig.hubPort, path, { 'x-forwarded-for': `192.0.2.${(n % addresses) + 1}` });
    }
    return waiting();
  }

  const quick = async (path: string, as: 'owner' | 'stranger' | 'nobody' = 'owner') =>
    (await send(rig.hubPort, path, { as })).status;

  it('keeps room for the owner beside strangers at a public port, also directly at the host', async () => {
    // A quarter of what the project may have.
    expect(await flood(rig.path(), 40)).toBe(8);
    expect(await quick(rig.path('quick'))).toBe(200);
    expect(await quick(rig.path('quick', 'port', otherPort))).toBe(200);
    expect(await quick(rig.path('quick'), 'nobody')).toBe(429);
  });

  it('gives strangers at one public port no part of another’s', async () => {
    rig.pointHub(0, [rig.servicePort, otherPort]);
    await flood(rig.path(), 40);
    const elsewhere = { 'x-forwarded-for': '198.51.100.7' };
    const path = rig.path('quick', 'port', otherPort);
    expect((await send(rig.hubPort, path, { as: 'nobody', headers: elsewhere })).status).toBe(200);
  });

  it('gives one address a part of what strangers may have', async () => {
    expect(await flood(rig.path(), 1)).toBe(6);
    const another = { 'x-forwarded-for': '198.51.100.7' };
    const answer = await send(rig.hubPort, rig.path('quick'), { as: 'nobody', headers: another });
    expect(answer.status).toBe(200);
  });

  it('keeps room for those who are known when strangers flood many projects', async () => {
    const { hostId, url: hostUrl } = rig.host();
    const projects = Array.from({ length: 16 }, () => newId());
    for (const projectId of projects) {
      rig.host().routes.set(projectId, { state: 'running', address: '127.0.0.1' });
      rig.resolver.table.set(projectId, {
        projectId,
        state: 'running',
        hostId,
        hostUrl,
        generation: 1,
        publicPorts: [rig.servicePort],
      });
    }
    for (const [n, projectId] of projects.entries()) {
      const path = `/${projectId}/port/${rig.servicePort}/`;
      for (let i = 0; i < 8; i += 1) {
        ask(rig.hubPort, path, { 'x-forwarded-for': `192.0.2.${n * 8 + i + 1}` });
      }
    }
    // Three eighths of what the process may have.
    expect(await waiting()).toBe(48);
    expect(await quick(rig.path('quick'))).toBe(200);
  });

  it('keeps room for the owner beside an editor’s account, and for others beside an owner’s', async () => {
    rig.resolver.editors.add(accounts.stranger);
    for (const [as, most, others] of [
      ['stranger', 24, 'owner'],
      ['owner', 28, 'stranger'],
    ] as const) {
      for (let n = 0; n < 40; n += 1) {
        ask(rig.hubPort, rig.path(), { authorization: `Bearer ${as}` });
      }
      expect(await waiting()).toBe(most);
      expect(await quick(rig.path('quick'), others)).toBe(200);
      for (const req of under.splice(0)) req.destroy();
      refused = 0;
      await waitFor('they are gone', () => rig.hub.counts().requests === 0, soon);
      await waitFor('they are gone', () => rig.host().ingress.counts().requests === 0, soon);
    }
  });

  it('holds the host’s own port to the same shares', async () => {
    const token = (sub: string, role: 'anonymous' | 'owner') =>
      rig.minter.mint({
        aud: `host:${rig.host().hostId}`,
        sub,
        project: rig.projectId,
        role,
        via: 'hub',
        ...(role === 'anonymous' && { port: rig.servicePort }),
      });
    const strangers = await token('anonymous', 'anonymous');
    const headers = (n: number) => ({
      'rookery-token': strangers,
      'x-forwarded-for': `192.0.2.${n}`,
    });
    for (let n = 0; n < 40; n += 1) ask(rig.host().port, rig.path(), headers(n + 1));
    expect(await waiting()).toBe(8);
    const owner = { 'rookery-token': await token(`account:${accounts.owner}`, 'owner') };
    const answer = await send(rig.host().port, rig.path('quick'), { as: 'nobody', headers: owner });
    expect(answer.status).toBe(200);
  });

  it('counts WebSockets apart, by the same shares', async () => {
    const open: WebSocket[] = [];
    const upgrades = createServer();
    const sockets = new WebSocketServer({ server: upgrades });
    const port = await listen(upgrades);
    try {
      rig.pointHub(0, [port]);
      const url = `ws://127.0.0.1:${rig.hubPort}${rig.path('', 'port', port)}`;
      const statuses = Array.from({ length: 12 }, async (_, n) => {
        const socket = new WebSocket(url, {
          headers: { 'x-forwarded-for': `192.0.2.${n + 1}` },
        });
        socket.on('error', () => undefined);
        open.push(socket);
        const [, res] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
        return res.statusCode;
      });
      expect(await Promise.race(statuses)).toBe(429);
      await waitFor('strangers have their share', () => rig.hub.counts().sockets === 4, soon);
      expect(await quick(rig.path('quick'))).toBe(200);
    } finally {
      for (const socket of open) socket.terminate();
      for (const socket of sockets.clients) socket.terminate();
      await rig.hub.drain(0);
      await closeServer(upgrades);
    }
  });
});
