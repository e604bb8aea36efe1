import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { mayReadMetrics } from '@rookery/conat';

const token = 'a-token-of-some-length';
let close: () => Promise<void>;
afterEach(() => close());

async function allowed(headers: Record<string, string>, secret?: string): Promise<boolean> {
  const server = createServer((request, response) => {
    response.writeHead(mayReadMetrics(request, secret) ? 200 : 403).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  close = () => new Promise((resolve) => server.close(() => resolve()));
  const { port } = server.address() as AddressInfo;
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, headers, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).on('error', reject);
  });
}

describe('metrics', () => {
  it.each([
    ['a program of this machine', {}, undefined, true],
    ['by name', { host: 'localhost:7700' }, undefined, true],
    ['a proxy of this machine', { 'x-forwarded-for': '203.0.113.9' }, undefined, false],
    ['a page whose name leads here', { host: 'evil.example:7700' }, undefined, false],
    ['the token', { authorization: `Bearer ${token}` }, token, true],
    ['the token through a proxy', { authorization: `Bearer ${token}`, via: 'x' }, token, true],
    ['another token', { authorization: 'Bearer other' }, token, false],
    ['no token on this machine', {}, token, false],
  ])('are shown or not to %s', async (_, headers, secret, expected) => {
    expect(await allowed(headers as Record<string, string>, secret)).toBe(expected);
  });
});
