import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createServer, request, type IncomingMessage } from 'node:http';
import { createServer as createNetServer, type AddressInfo, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { Rig, closeServer, listen, rawExchange } from './rig.js';

/** What a service says besides the head and the body of its answer, over both hops. */
describe('beside a response', () => {
  let rig: Rig;
  const sockets = new Set<Socket>();
  /** Says what the path asks for, byte by byte. */
  const service = createNetServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      const [, name = ''] = /^\w+ \S*\/(\w+) /.exec(chunk.toString('latin1')) ?? [];
      socket.write(answers[name] ?? 'HTTP/1.1 404 x\r\nContent-Length: 0\r\n\r\n', 'latin1');
    });
  });
  const answers: Record<string, string> = {
    reason: 'HTTP/1.1 200 Tout est bon \xe0 prendre\r\nContent-Length: 2\r\n\r\nok',
    noreason: 'HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok',
    hints:
      'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload; as=style, </b.js>; rel=preload\r\n' +
      'Rookery-Error: PROXY_NOT_HERE\r\nSet-Cookie: a=1\r\n\r\n' +
      'HTTP/1.1 103 Early Hints\r\nLink: nonsense"\r\n\r\n' +
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    manyhints:
      'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'.repeat(40) +
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    trailers:
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum, Set-Cookie\r\n\r\n' +
      '2\r\nok\r\n0\r\nChecksum: abc\r\nSet-Cookie: a=1\r\nRookery-Error: X\r\n' +
      'Location: /x\r\n\r\n',
    switch:
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nxyz',
    bareswitch: 'HTTP/1.1 101 Switching Protocols\r\n\r\n',
  };
  let port: number;
  beforeAll(async () => {
    rig = await new Rig().start();
    await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve));
    ({ port } = service.address() as AddressInfo);
  });
  afterAll(async () => {
    await rig.stop();
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => service.close(resolve));
  });

  const raw = (name: string, version = '1.1'): Promise<string> =>
    rawExchange(
      rig.hubPort,
      `GET ${rig.path(name, 'port', port)} HTTP/${version}\r\nHost: hub\r\nConnection: close\r\n` +
        'Authorization: Bearer owner\r\n\r\n',
    );

  it('its reason passes, and none', async () => {
    expect(await raw('reason')).toMatch(/^HTTP\/1\.1 200 Tout est bon \xe0 prendre\r\n/);
    expect(await raw('noreason')).toMatch(/^HTTP\/1\.1 200 \r\n/);
  });

  it('early hints pass, with their links alone', async () => {
    const text = await raw('hints');
    const [hints = '', response = ''] = text.split('\r\n\r\n');
    expect(hints.split('\r\n')).toEqual([
      'HTTP/1.1 103 Early Hints',
      'Link: </a.css>; rel=preload; as=style, </b.js>; rel=preload',
    ]);
    expect(response).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
    expect(text.endsWith('\r\n\r\nok')).toBe(true);
  });

  it('a service cannot fill memory with hints, and an old client gets none', async () => {
    const hints = (text: string): number => text.split('HTTP/1.1 103').length - 1;
    expect(hints(await raw('manyhints'))).toBe(8);
    const old = await raw('hints', '1.0');
    expect(old).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });

  it('trailers pass, unless they say what a head must say', async () => {
    const text = await raw('trailers');
    expect(text).toMatch(/\r\ntrailer: Checksum\r\n/i);
    expect(text.endsWith('2\r\nok\r\n0\r\nChecksum: abc\r\n\r\n')).toBe(true);
    expect(await raw('trailers', '1.0')).toMatch(/\r\n\r\nok$/);
  });

  it('trailers of a request pass', async () => {
    const seen = new Promise<IncomingMessage>((resolve) => {
      taker.once('request', (req: IncomingMessage, res) => {
        void buffer(req).then(() => {
          res.end('ok');
          resolve(req);
        });
      });
    });
    const req = request({
      host: '127.0.0.1',
      port: rig.hubPort,
      method: 'POST',
      path: rig.path('', 'port', await listen(taker)),
      headers: {
        authorization: 'Bearer owner',
        'transfer-encoding': 'chunked',
        trailer: 'Checksum, Authorization',
      },
    });
    req.write('body');
    req.addTrailers({ checksum: 'abc', authorization: 'Bearer x', 'x-forwarded-for': '1.2.3.4' });
    req.end();
    req.on('response', (response) => response.resume());
    const { headers, trailers } = await seen;
    expect(headers.trailer).toBe('Checksum');
    expect(trailers).toEqual({ checksum: 'abc' });
    await closeServer(taker);
  });
  const taker = createServer();

  it.each(['switch', 'bareswitch'])(
    'a 101 that nobody asked for is an error at once: %s',
    async (name) => {
      const startedAt = Date.now();
      const text = await raw(name);
      expect(text).toMatch(/^HTTP\/1\.1 502 /);
      expect(text).toContain('PROXY_UPSTREAM_FAILED');
      expect(Date.now() - startedAt).toBeLessThan(5_000);
      expect(rig.hub.counts()).toEqual({ requests: 0, sockets: 0 });
      expect(rig.host().ingress.counts()).toEqual({ requests: 0, sockets: 0 });
    },
  );
});
