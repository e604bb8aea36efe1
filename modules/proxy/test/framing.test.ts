import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  connect,
  createServer as createNetServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net';
import { waitFor } from '@rookery/core';
import { Rig, rawExchange } from './rig.js';

/** Requests as they reach the project's socket, byte by byte. */
class Tap {
  text = '';
  readonly server: Server = createNetServer((socket: Socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk: Buffer) => {
      this.text += chunk.toString('latin1');
      // Answers whenever what has come so far ends a message.
      if (/\r\n\r\n$|0\r\n\r\n$|END$/.test(this.text)) {
        socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
      }
    });
  });
}

describe('message framing', () => {
  let rig: Rig;
  const tap = new Tap();
  let base: string;
  beforeAll(async () => {
    rig = await new Rig({ headersMs: 500 }).start();
    await new Promise<void>((resolve) => tap.server.listen(0, '127.0.0.1', resolve));
    base = rig.path('', 'port', (tap.server.address() as AddressInfo).port);
  });
  afterAll(async () => {
    await rig.stop();
    await new Promise((resolve) => tap.server.close(resolve));
  });
  beforeEach(() => {
    tap.text = '';
  });

  const head = (method: string, ...lines: string[]): string =>
    [
      `${method} ${base} HTTP/1.1`,
      'Host: hub',
      'Authorization: Bearer owner',
      ...lines,
      '',
      '',
    ].join('\r\n');
  /** Without a way in. */
  const plainHead = (method: string, ...lines: string[]): string =>
    [`${method} ${base} HTTP/1.1`, 'Host: hub', ...lines, '', ''].join('\r\n');
  const hops = async () => [
    { port: rig.hubPort, proof: 'Authorization: Bearer owner' },
    { port: rig.host().port, proof: `Rookery-Token: ${await rig.ownToken()}` },
  ];
  const smuggled = `GET ${'/smuggled'} HTTP/1.1\r\nHost: x\r\n\r\n`;
  const statuses = (text: string): string[] =>
    [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status = '']) => status);

  it.each(['DELETE', 'GET', 'OPTIONS', 'POST'])(
    'keeps the chunked body of a %s a body, on a kept-alive connection',
    async (method) => {
      const body = smuggled;
      const chunk = `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
      const text = await rawExchange(
        rig.hubPort,
        head(method, 'Transfer-Encoding: chunked') + chunk + head('GET'),
        (answer) => statuses(answer).length >= 2 && answer.endsWith('ok'),
      );
      expect(statuses(text)).toEqual(['200', '200']);
      const requestLines = tap.text.match(/^(?:[A-Z]+) \S+ HTTP\/1\.1/gm) ?? [];
      expect(requestLines).toContain(`${method} ${base} HTTP/1.1`);
      // It is there, as the content of a chunk: after its length and before the last chunk.
      const at = tap.text.indexOf('GET /smuggled');
      expect(tap.text.slice(0, at)).toMatch(/transfer-encoding: chunked/i);
      expect(tap.text.slice(0, at).endsWith(`\r\n\r\n${body.length.toString(16)}\r\n`)).toBe(true);
      expect(tap.text).not.toMatch(/content-length/i);
    },
  );

  it.each([
    ['a length beside chunks', ['Content-Length: 5', 'Transfer-Encoding: chunked'], '0\r\n\r\nEND'],
    ['two lengths', ['Content-Length: 3', 'Content-Length: 30'], 'END'],
    ['a list of lengths', ['Content-Length: 3, 30'], 'END'],
    ['a signed length', ['Content-Length: +3'], 'END'],
    ['an unknown encoding', ['Transfer-Encoding: identity'], 'END'],
    ['chunked and something', ['Transfer-Encoding: gzip, chunked'], '0\r\n\r\n'],
    ['chunked twice', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], '0\r\n\r\n'],
    ['a disguised encoding', ['Transfer-Encoding: xchunked'], '0\r\n\r\n'],
    ['a space before the colon', ['Transfer-Encoding : chunked'], '0\r\n\r\n'],
    ['a folded header', ['X-A: 1', ' Transfer-Encoding: chunked'], '0\r\n\r\n'],
    ['two hosts', ['Host: other'], ''],
    ['a bare line feed', ['X-A: 1\nX-B: 2'], ''],
    ['a NUL in a header', ['X-A: a\0b'], ''],
  ])('refuses %s and sends nothing on', async (_what, lines, rest) => {
    const text = await rawExchange(rig.hubPort, head('POST', ...lines) + rest + smuggled);
    expect(statuses(text)[0]).toBe('400');
    expect(statuses(text)).toHaveLength(1);
    expect(tap.text).toBe('');
  });

  it.each([
    ['a chunk with a wrong size', '5\r\nabc\r\n0\r\n\r\n'],
    ['a chunk size that is no number', 'zz\r\nabc\r\n0\r\n\r\n'],
    ['a chunk size that overflows', 'fffffffffffffffff\r\nabc'],
  ])('cuts off %s', async (_what, rest) => {
    const text = await rawExchange(
      rig.hubPort,
      head('POST', 'Transfer-Encoding: chunked') + rest + head('GET'),
    );
    expect(statuses(text)).not.toContain('200');
    expect(tap.text).not.toContain('GET /smuggled');
  });

  it('does not take the rest of a refused body for a request', async () => {
    const long = `${smuggled.repeat(50)}`;
    const text = await rawExchange(
      rig.hubPort,
      `POST /nobody/port/80/ HTTP/1.1\r\nHost: hub\r\nContent-Length: ${long.length}\r\n\r\n` +
        long,
    );
    expect(statuses(text)).toEqual(['400']);
  });

  it('refuses an upgrade to a WebSocket with a body', async () => {
    const lines = ['Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 3'];
    const text = await rawExchange(rig.hubPort, `${head('GET', ...lines)}abc`);
    expect(statuses(text)).toEqual(['400']);
    expect(text).toContain('PROXY_UPGRADE_INVALID');
    expect(tap.text).toBe('');
  });

  it.each([
    ['h2c', ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk']],
    ['an unknown protocol', ['Connection: Upgrade', 'Upgrade: foo']],
  ])('ignores an offer of %s, at both hops', async (_what, offer) => {
    for (const { port, proof } of await hops()) {
      const lines = [...offer, proof, 'Content-Length: 3'];
      const text = await rawExchange(
        port,
        `${plainHead('POST', ...lines).replace(base, rig.path('x'))}END`,
        (answer) => answer.endsWith('}'),
      );
      expect(statuses(text)).toEqual(['200']);
      const seen = JSON.parse(text.slice(text.indexOf('{'))) as { headers: object; body: string };
      expect(seen).toMatchObject({ method: 'POST', body: 'END' });
      expect(JSON.stringify(seen.headers)).not.toMatch(/upgrade|http2-settings|h2c/i);
    }
  });

  it.each([
    ['HTTP/0.9', (url: string) => `GET ${url}`],
    ['HTTP/0.9 by number', (url: string) => `GET ${url} HTTP/0.9`],
    ['HTTP/2.0', (url: string) => `GET ${url} HTTP/2.0`],
    ['RTSP', (url: string) => `GET ${url} RTSP/1.0`],
    ['ICE', (url: string) => `SOURCE ${url} ICE/1.0`],
    ['two spaces before the target', (url: string) => `GET  ${url} HTTP/1.1`],
    ['two spaces behind the target', (url: string) => `GET ${url}  HTTP/1.1`],
    ['another host in its target', (url: string) => `GET http://other${url} HTTP/1.1`],
    ['a user in its target', (url: string) => `GET http://me@hub${url} HTTP/1.1`],
  ])('refuses a request line with %s, at both hops', async (_what, line) => {
    for (const { port, proof } of await hops()) {
      for (const more of [[], ['Connection: Upgrade', 'Upgrade: websocket']]) {
        const lines = [line(base), 'Host: hub', proof, ...more];
        const text = await rawExchange(port, `${lines.join('\r\n')}\r\n\r\n`);
        expect(statuses(text)).toEqual(['400']);
        expect(text).toContain('PROXY_REQUEST_AMBIGUOUS');
      }
    }
    expect(tap.text).toBe('');
  });

  it('takes a request line that comes in pieces', async () => {
    const whole = head('GET', `Referer: http://hub${base}`);
    const at = whole.indexOf(' HTTP/1.1') + 3;
    const socket = connect(rig.hubPort, '127.0.0.1');
    socket.setNoDelay(true);
    let text = '';
    socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    socket.write(whole.slice(0, at));
    // Taken before the rest comes: else both arrive as one.
    const sockets = () =>
      new Promise<number>((ok) => rig.hubServer.getConnections((_e, n) => ok(n)));
    await waitFor('it is taken', async () => (await sockets()) > 0, { timeoutMs: 2000 });
    await new Promise((resolve) => setImmediate(resolve));
    socket.write(whole.slice(at));
    await waitFor('it is answered', () => text.endsWith('ok'), { timeoutMs: 5000 });
    socket.destroy();
    expect(statuses(text)).toEqual(['200']);
  });

  it('writes an encoding as everybody does, at both hops', async () => {
    for (const { port, proof } of await hops()) {
      tap.text = '';
      const lines = [proof, 'Transfer-Encoding: CHUNKED'];
      const text = await rawExchange(
        port,
        `${plainHead('POST', ...lines)}3\r\nabc\r\n0\r\n\r\n`,
        (answer) => answer.endsWith('ok'),
      );
      expect(statuses(text)).toEqual(['200']);
      expect(tap.text).toMatch(/transfer-encoding: chunked\r\n/);
      expect(tap.text).toContain('\r\n\r\n3\r\nabc\r\n0\r\n\r\n');
    }
  });

  it('runs nothing that came behind a request whose refusal closes the connection', async () => {
    const refused = 'GET /nobody/port/80/ HTTP/1.1\r\nHost: hub\r\n\r\n';
    for (const { port, proof } of await hops()) {
      const behind = plainHead('DELETE', proof);
      const texts = await Promise.all(
        Array.from({ length: 30 }, () => rawExchange(port, refused + behind)),
      );
      for (const text of texts) expect(statuses(text)).toEqual(['400']);
    }
    expect(tap.text).toBe('');
  });

  it('opens no tunnel when the service does not upgrade', async () => {
    const text = await rawExchange(
      rig.hubPort,
      head('GET', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 777') +
        smuggled,
    );
    expect(statuses(text)).toEqual(['200']);
    expect(tap.text).not.toContain('/smuggled');
  });

  it('refuses headers that are too big or too slow', async () => {
    const big = await rawExchange(rig.hubPort, head('GET', `X-Big: ${'a'.repeat(20_000)}`));
    expect(statuses(big)).toEqual(['431']);
    const slow = await rawExchange(rig.hubPort, 'GET / HTTP/1.1\r\nHost: hub\r\n');
    expect(statuses(slow)).toEqual(['408']);
  });

  it('takes an address in absolute form', async () => {
    for (const { port, proof } of await hops()) {
      tap.text = '';
      const text = await rawExchange(
        port,
        `GET HTTP://Hub${base}x?y HTTP/1.1\r\nHost: hub\r\n${proof}\r\n\r\n`,
        (answer) => answer.endsWith('ok'),
      );
      expect(statuses(text)).toEqual(['200']);
      expect(tap.text).toMatch(new RegExp(`^GET ${base}x\\?y HTTP/1.1\r\n`));
    }
  });

  it('refuses CONNECT', async () => {
    const tunnel = await rawExchange(
      rig.hubPort,
      `CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: hub\r\n\r\n`,
    );
    expect(tunnel).toBe('');
    expect(tap.text).toBe('');
  });
});
