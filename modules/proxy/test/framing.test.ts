import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  createServer as createNetServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net';
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

  it.each([
    ['h2c', ['Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk']],
    ['an unknown protocol', ['Connection: Upgrade', 'Upgrade: foo']],
    ['a WebSocket with a body', ['Connection: Upgrade', 'Upgrade: websocket', 'Content-Length: 3']],
  ])('refuses an upgrade to %s', async (_what, lines) => {
    const text = await rawExchange(rig.hubPort, `${head('GET', ...lines)}abc`);
    expect(statuses(text)).toEqual(['400']);
    expect(text).toContain('PROXY_UPGRADE_INVALID');
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

  it('refuses an address in absolute form and CONNECT', async () => {
    const absolute = await rawExchange(
      rig.hubPort,
      `GET http://hub${base} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer owner\r\n\r\n`,
      (answer) => answer.includes('the app behind'),
    );
    expect(statuses(absolute)[0]).not.toBe('200');
    const connect = await rawExchange(
      rig.hubPort,
      `CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: hub\r\n\r\n`,
    );
    expect(connect).toBe('');
    expect(tap.text).toBe('');
  });
});
