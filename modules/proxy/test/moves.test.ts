import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { waitFor } from '@rookery/core';
import { WebSocket } from 'ws';
import { rawExchange, Rig, send } from './rig.js';

const soon = { timeoutMs: 5_000, everyMs: 5 };

describe('while a project moves', () => {
  let rig: Rig;
  beforeEach(async () => {
    rig = await new Rig({ holdMs: 400, heldPerProjectMax: 3, rerouteMs: 2_000 }).start();
    await rig.addHost();
  });
  afterEach(() => rig.stop());

  const hold = () => rig.host(0).routes.set(rig.projectId, { state: 'held' });
  const held = (count: number) =>
    waitFor(`${count} wait`, () => rig.host(0).ingress.heldCount() === count, soon);

  it('holds requests with their bodies and lets them through on release', async () => {
    hold();
    const answers = Promise.all([
      send(rig.hubPort, rig.path('a')),
      send(rig.hubPort, rig.path('b'), { method: 'POST', body: 'kept' }),
    ]);
    await held(2);
    rig.place(0);
    const [get, post] = await answers;
    expect(get.status).toBe(200);
    expect(post.json()).toMatchObject({ method: 'POST', body: 'kept' });
    expect(rig.host(0).ingress.heldCount()).toBe(0);
  });

  it('holds WebSockets too', async () => {
    hold();
    const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}${rig.path()}`, {
      headers: { authorization: 'Bearer owner' },
    });
    await held(1);
    rig.place(0);
    await once(socket, 'open');
    socket.terminate();
  });

  it('does not hold for ever', async () => {
    hold();
    const answer = await send(rig.hubPort, rig.path());
    expect(answer.status).toBe(503);
    expect(answer.json().code).toBe('PROXY_PROJECT_HELD');
    expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0);
  });

  it('holds only so many', async () => {
    hold();
    const waiting = Array.from({ length: 3 }, () => send(rig.hubPort, rig.path()));
    await held(3);
    const tooMany = await send(rig.hubPort, rig.path());
    expect([tooMany.status, tooMany.json().code]).toEqual([503, 'PROXY_PROJECT_HELD']);
    rig.place(0);
    const statuses = (await Promise.all(waiting)).map((answer) => answer.status);
    expect(statuses).toEqual([200, 200, 200]);
  });

  it('forgets a held request whose client has gone', async () => {
    hold();
    const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}${rig.path()}`, {
      headers: { authorization: 'Bearer owner' },
    });
    socket.on('error', () => undefined);
    await held(1);
    socket.terminate();
    await held(0);
  });

  it('finds the new host for what had waited at the old one', async () => {
    hold();
    const waiting = send(rig.hubPort, rig.path('a'));
    await held(1);
    rig.host(1).routes.set(rig.projectId, { state: 'running', address: '127.0.0.1' });
    rig.pointHub(1);
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    expect((await waiting).status).toBe(200);
    expect(rig.resolver.freshCount).toBe(1);
  });

  it('finds the new host for a WebSocket, too, with what it has said already', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    const hello = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]).toString('latin1');
    const talk = rawExchange(
      rig.hubPort,
      [
        `GET ${rig.path()} HTTP/1.1`,
        'host: x',
        'authorization: Bearer owner',
        'upgrade: websocket',
        'connection: upgrade',
        'sec-websocket-version: 13',
        'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==',
        '',
        hello,
      ].join('\r\n'),
      (text) => text.includes('\x81\x02hi'),
    );
    await waitFor('it has looked often', () => rig.resolver.freshCount >= 6, soon);
    rig.place(1);
    const said = await talk;
    expect(said).toMatch(/^HTTP\/1.1 101 /);
    expect(said.split('\x81\x02hi')).toHaveLength(2);
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
  });

  it('gives up looking for the host of a WebSocket, too', async () => {
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    const socket = new WebSocket(`ws://127.0.0.1:${rig.hubPort}${rig.path()}`, {
      headers: { authorization: 'Bearer owner' },
    });
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    expect(response.statusCode).toBe(503);
    socket.on('error', () => undefined);
    socket.terminate();
  });

  it('keeps looking until the hub knows better', async () => {
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    const waiting = send(rig.hubPort, rig.path('a'));
    await waitFor('it has looked twice', () => rig.resolver.freshCount >= 2, soon);
    rig.place(1);
    expect((await waiting).status).toBe(200);
  });

  it('leaves nothing on a request that is sent again and again', async () => {
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    let most = 0;
    rig.hubServer.prependListener('request', (req: IncomingMessage, res: ServerResponse) => {
      const timer = setInterval(() => {
        most = Math.max(most, req.listenerCount('error'), res.listenerCount('close'));
      }, 5);
      res.once('close', () => clearInterval(timer));
    });
    const waiting = send(rig.hubPort, rig.path('a'));
    await waitFor('it has looked often', () => rig.resolver.freshCount >= 6, soon);
    rig.place(1);
    expect((await waiting).status).toBe(200);
    process.off('warning', onWarning);
    expect(warnings).toEqual([]);
    expect(most).toBeGreaterThan(0);
    expect(most).toBeLessThan(8);
  });

  it('gives up looking after its limit', async () => {
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    const answer = await send(rig.hubPort, rig.path('a'));
    expect([answer.status, answer.json().code]).toEqual([503, 'PROXY_PROJECT_HELD']);
  });

  it('asks a client to send a body again rather than lose it', async () => {
    rig.host(0).routes.set(rig.projectId, { state: 'moved' });
    const answer = await send(rig.hubPort, rig.path(), { method: 'POST', body: 'x' });
    expect(answer.status).toBe(503);
    expect(answer.json()).toMatchObject({ code: 'PROXY_PROJECT_HELD', retryable: true });
  });

  describe('and its service has yet to listen again', () => {
    const later = createServer((req, res) => {
      void buffer(req).then((body) => res.end(`${req.method} ${body.toString()}`));
    });
    later.on('upgrade', (_req, socket) => {
      socket.end(
        'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
      );
    });
    let port = 0;
    const path = () => rig.path('', 'port', port);
    const awaitPort = (forMs: number) => {
      const awaited = [{ port, until: Date.now() + forMs }];
      rig.host(0).routes.set(rig.projectId, { state: 'running', address: '127.0.0.1', awaited });
    };
    const listen = () => new Promise<void>((resolve) => later.listen(port, '127.0.0.1', resolve));

    beforeEach(async () => {
      // A port of its own, free again.
      await new Promise<void>((resolve) => later.listen(0, '127.0.0.1', resolve));
      ({ port } = later.address() as AddressInfo);
      await closed();
    });
    const closed = async (): Promise<void> => {
      later.closeAllConnections();
      await new Promise((resolve) => later.close(resolve));
    };
    afterEach(closed);

    it('holds requests and WebSockets until it does', async () => {
      awaitPort(5_000);
      const answers = Promise.all([
        send(rig.hubPort, path()),
        send(rig.hubPort, path(), { method: 'POST', body: 'kept' }),
        rawExchange(
          rig.hubPort,
          `GET ${path()} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer owner\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n`,
        ),
      ]);
      await held(3);
      await listen();
      const [get, post, socket] = await answers;
      expect([get.status, get.text, post.text]).toEqual([200, 'GET ', 'POST kept']);
      expect(socket).toMatch(/^HTTP\/1.1 101 /);
      await held(0);
    });

    it('says that nothing listens once it would have been up', async () => {
      awaitPort(150);
      const answer = await send(rig.hubPort, path());
      expect([answer.status, answer.json().code]).toEqual([502, 'PROXY_PORT_REFUSED']);
      expect((await send(rig.hubPort, path())).status).toBe(502);
      expect(rig.host(0).ingress.heldCount()).toBe(0);
    });

    it('holds for its limit, and does not call that an answer of the service', async () => {
      awaitPort(5_000);
      const answer = await send(rig.hubPort, path());
      expect([answer.status, answer.json().code]).toEqual([503, 'PROXY_PROJECT_HELD']);
    });

    it('waits for no other port', async () => {
      rig.host(0).routes.set(rig.projectId, {
        state: 'running',
        address: '127.0.0.1',
        awaited: [{ port: 1, until: Date.now() + 5_000 }],
      });
      expect((await send(rig.hubPort, path())).status).toBe(502);
    });

    it('waits again for one that answered and went away while it started', async () => {
      awaitPort(5_000);
      await listen();
      expect((await send(rig.hubPort, path())).status).toBe(200);
      await closed();
      const again = send(rig.hubPort, path());
      await held(1);
      await listen();
      expect((await again).status).toBe(200);
    });

    it('waits for a project that was stopped to be started again, and no longer', async () => {
      const { routes } = rig.host(0);
      routes.set(rig.projectId, { state: 'stopped', heldUntil: Date.now() + 60_000 });
      const waiting = send(rig.hubPort, rig.path());
      await held(1);
      rig.place(0);
      expect((await waiting).status).toBe(200);
      routes.set(rig.projectId, { state: 'stopped', heldUntil: Date.now() - 1 });
      expect((await send(rig.hubPort, rig.path())).json().code).toBe('PROXY_PROJECT_NOT_RUNNING');
    });
  });

  it('tells who comes directly the new address', async () => {
    const newUrl = 'https://host2.example';
    rig.host(0).routes.set(rig.projectId, { state: 'moved', newUrl });
    const token = await rig.minter.mint({
      aud: `host:${rig.host(0).hostId}`,
      sub: 'account:x',
      project: rig.projectId,
      role: 'owner',
    });
    const headers = { 'rookery-token': token };
    const answer = await send(rig.host(0).port, rig.path(), { as: 'nobody', headers });
    expect(answer.status).toBe(421);
    expect(answer.json()).toMatchObject({ code: 'PROXY_PROJECT_MOVED', details: { newUrl } });
  });
});
