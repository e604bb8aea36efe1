import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { IncomingMessage } from 'node:http';
import { TrustedProxies } from '@rookery/proxy';
import { Rig, send } from './rig.js';

const asked = (peer: string, headers: Record<string, string> = {}) =>
  ({ headers, socket: { remoteAddress: peer } }) as unknown as IncomingMessage;

describe('trusted proxies', () => {
  const trusted = new TrustedProxies(['10.0.0.0/8', '192.0.2.7', '2001:db8::/32']);
  const told = {
    host: 'inner:7700',
    'x-forwarded-for': '6.6.6.6, 198.51.100.9, 10.1.1.1',
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'Rookery.Example',
  };

  it('say who the client is, past what the client has made up', () => {
    expect(trusted.clientOf(asked('10.2.2.2', told))).toEqual({
      address: '198.51.100.9',
      scheme: 'https',
      host: 'rookery.example',
      chain: ['198.51.100.9', '10.1.1.1'],
    });
  });

  it('are believed alone', () => {
    for (const peer of ['198.51.100.1', '192.0.2.8', '2001:db9::1', 'unknown']) {
      expect(trusted.clientOf(asked(peer, told))).toEqual({
        address: peer,
        scheme: 'http',
        host: 'inner:7700',
        chain: [],
      });
    }
    expect(new TrustedProxies().clientOf(asked('127.0.0.1', told)).address).toBe('127.0.0.1');
  });

  it.each([
    ['::ffff:10.0.0.1', { 'x-forwarded-for': '198.51.100.9' }, '198.51.100.9'],
    ['2001:db8::5', { 'x-forwarded-for': '[2001:db9::9]:4711' }, '2001:db9::9'],
    ['192.0.2.7', { 'x-forwarded-for': '198.51.100.9:4711' }, '198.51.100.9'],
    ['192.0.2.7', { 'x-forwarded-for': '198.51.100.9, nonsense' }, '192.0.2.7'],
    ['192.0.2.7', { 'x-forwarded-for': '' }, '192.0.2.7'],
    ['192.0.2.7', {}, '192.0.2.7'],
  ])('%s with %j means %s', (peer, headers, address) => {
    expect(trusted.clientOf(asked(peer, headers as Record<string, string>)).address).toBe(address);
  });

  it('must be addresses or networks, and say no nonsense', () => {
    for (const text of [
      'proxy.example',
      '10.0.0.0/33',
      '10.0.0.0/x',
      '10.0.0.0/8/8',
      '',
      '::/129',
    ]) {
      expect(() => new TrustedProxies([text])).toThrow(/no address/);
    }
    const odd = { ...told, 'x-forwarded-proto': 'gopher', 'x-forwarded-host': 'a b<c>' };
    expect(trusted.clientOf(asked('10.0.0.1', odd))).toMatchObject({
      scheme: 'http',
      host: 'inner:7700',
    });
  });
});

describe('behind a TLS terminator', () => {
  let rig: Rig;
  beforeAll(async () => {
    rig = await new Rig({}, { trustedProxies: new TrustedProxies(['127.0.0.1']) }).start();
  });
  afterAll(() => rig.stop());

  it('a project sees the client’s address, scheme and host', async () => {
    const answer = await send(rig.hubPort, rig.path(), {
      headers: {
        'x-forwarded-for': '6.6.6.6, 198.51.100.9',
        'x-forwarded-proto': 'https',
        'x-forwarded-host': 'rookery.example',
      },
    });
    expect(answer.json<{ headers: Record<string, string> }>().headers).toMatchObject({
      'x-forwarded-for': '198.51.100.9, 127.0.0.1, 127.0.0.1',
      'x-forwarded-proto': 'https',
      'x-forwarded-host': 'rookery.example',
      host: 'rookery.example',
    });
  });
});
