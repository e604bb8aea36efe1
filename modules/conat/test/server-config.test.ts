import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { readServerConfig, type ServerConfig } from '@rookery/conat';

const nkey = `U${'A'.repeat(55)}`;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-nats-conf-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function read(text: string, environment: Record<string, string> = {}): ServerConfig {
  const file = join(folder, 'nats.conf');
  writeFileSync(file, text);
  return readServerConfig(file, environment);
}

describe('a configuration file of nats-server’s form', () => {
  it('is read with its defaults when it is empty', () => {
    expect(read('# nothing\n')).toEqual({
      tcp: { host: '0.0.0.0', port: 4222 },
      webSocket: null,
      monitoring: null,
      storeDir: null,
      limits: {},
      accounts: [],
      users: {
        users: [],
        permissions: {
          publish: { allow: ['>'] },
          subscribe: { allow: ['>'] },
          inboxes: 'listed',
        },
      },
    });
  });

  it('is read with everything that it can say', () => {
    writeFileSync(join(folder, 'limits.conf'), 'max_payload = 2MB; max_conn: 1k // so many');
    const config = read(
      `
      server_name: "north \\"1\\""   # a name
      listen: "[::1]:5222"
      http: 127.0.0.1:-1
      include 'limits.conf'
      ping_interval: "90s", ping_max = 3
      lame_duck_duration: 4
      jetstream { store_dir: "data" }
      websocket { port: 8443, no_tls: true }
      SECRET = $FROM_OUTSIDE
      TEAM { publish: ["a.>", b], subscribe { deny: secret.> } }
      authorization {
        timeout: 1500ms
        default_permissions = { publish: { allow: [] } }
        users = [
          { user: ann, password: $SECRET, permissions: $TEAM }
          { nkey: ${nkey}, permissions { sub = x, allow_responses { max: 5, expires: "1m" } } }
          {user: '007', pass: '12345'}
        ]
      }
      no_auth_user: ann
      `,
      { FROM_OUTSIDE: 'sesame' },
    );
    expect(config).toMatchObject({
      name: 'north "1"',
      tcp: { host: '::1', port: 5222 },
      monitoring: { host: '127.0.0.1', port: 0 },
      webSocket: { host: '::1', port: 8443 },
      storeDir: join(folder, 'data'),
      drainMs: 4_000,
      limits: {
        payloadBytesMax: 2 * 2 ** 20,
        connectionsMax: 1_000,
        connectionsPerIdentityMax: 1_000,
        pingEveryMs: 90_000,
        pingsOutMax: 3,
        authTimeoutMs: 1_500,
      },
      users: {
        nobody: 'ann',
        permissions: { publish: { allow: [] }, subscribe: { allow: ['>'] } },
      },
    });
    expect(config.users.users).toEqual([
      {
        name: 'ann',
        password: 'sesame',
        permissions: {
          publish: { allow: ['a.>', 'b'] },
          subscribe: { allow: ['>'], deny: ['secret.>'] },
          inboxes: 'listed',
        },
      },
      {
        nkey,
        permissions: {
          publish: { allow: [] },
          subscribe: { allow: ['x'] },
          inboxes: 'listed',
          responses: { countMax: 5, ttlMs: 60_000 },
        },
      },
      { name: '007', password: '12345' },
    ]);
  });

  it('takes users, limits and quotas of accounts', () => {
    const config = read(`accounts {
      SHOP: {
        users: [{user: a, password: b}]
        jetstream: { max_mem: -1, max_file: 2K, max_streams: 3, max_consumers: 4 }
        limits { max_connections: 3, max_subs: 4, max_payload: 5 }
      }
      BANK {
        default_permissions { publish: x }
        users: [{user: c, password: d}, {user: e, password: f, permissions { publish: y }}]
        jetstream: enabled
      }
      PARK { jetstream: disabled }
    }
    authorization { users: [{user: g, password: h}] }`);
    const may = (subject: string): object => ({
      publish: { allow: [subject] },
      subscribe: { allow: ['>'] },
      inboxes: 'listed',
    });
    expect(config.users.users).toEqual([
      { name: 'a', password: 'b', account: 'SHOP' },
      { name: 'c', password: 'd', account: 'BANK', permissions: may('x') },
      { name: 'e', password: 'f', account: 'BANK', permissions: may('y') },
      { name: 'g', password: 'h' },
    ]);
    expect(config.limits).toEqual({});
    expect(config.accounts).toEqual([
      {
        name: 'SHOP',
        limits: {
          connectionsMax: 3,
          connectionsPerIdentityMax: 3,
          connectionsPerAddressMax: 3,
          subscriptionsPerConnectionMax: 4,
          payloadBytesMax: 5,
        },
        quota: { storageBytesMax: 2_000, streamsMax: 3, consumersMax: 4 },
      },
      { name: 'BANK', limits: {}, quota: {} },
      { name: 'PARK', limits: {}, quota: null },
    ]);
  });

  it.each([
    ['cluster { port: 6222 }', 'line 1: "cluster" is not supported here'],
    ['port: 4222\nlog_file: x', 'line 2: "log_file" is not supported here'],
    [
      'authorization {\n users: [{ user: a, password: b,\n proxied: true }] }',
      'users[0].proxied" is not supported here',
    ],
    ['websocket { no_tls: true, jwt_cookie: c }', '"websocket.jwt_cookie" is not supported here'],
    ['websocket { port: 1 }', 'wants a tls block, or no_tls: true'],
    ['websocket { no_tls: true, compression: true }', '"websocket.compression"'],
    ['jetstream: enabled', 'wants a block with store_dir'],
    ['jetstream { store_dir: x, max_file: 1G }', '"jetstream.max_file" is not supported here'],
    ['accounts { $SYS {} }', '"accounts.$SYS" is an account that cannot be set up here'],
    ['accounts { "A.B" {} }', 'must be a name of letters'],
    ['accounts { A { imports: [] } }', '"accounts.A.imports" is not supported here'],
    ['accounts { A { mappings {} } }', '"accounts.A.mappings" is not supported here'],
    ['accounts { A { jetstream: maybe } }', 'must be enabled, disabled or a block with limits'],
    [
      'accounts { A { jetstream { max_bytes_required: true } } }',
      '"accounts.A.jetstream.max_bytes_required" is not supported here',
    ],
    ['system_account: A', '"system_account" is not supported here'],
    [
      'accounts { A { users: [{user: a, pass: b}] }, B { users: [{user: a, pass: c}] } }',
      'the user "a" is there twice',
    ],
    ['accounts { A { exports: [] } }', '"accounts.A.exports" is not supported here'],
    ['tls { cert_file: nope, key_file: nope }', '"tls.cert_file" cannot be read'],
    ['tls { verify: true }', '"tls.verify" is not supported here'],
    ['tls { }', 'wants cert_file and key_file'],
    ['authorization { user: a }', 'wants both a user and a password'],
    ['authorization { user: a, password: "$2a$11$abc" }', 'bcrypt'],
    ['authorization { users: [{ nkey: UABC }] }', 'must be a public user key'],
    ['authorization { users: [{ user: a }] }', 'wants a user and a password, or an nkey'],
    ['authorization { users: [{ user: a, password: b, permissions { sub: "x q" } }] }', 'queue'],
    ['authorization { user: 007, password: b }', 'put it in quotes'],
    ['no_auth_user: bob', '"no_auth_user" is not one of the users'],
    ['port: 70000', '"port" must be a port'],
    ['max_payload: lots', '"max_payload" must be a number'],
    ['ping_interval: soon', '"ping_interval" must be a duration'],
    ['a: $NOPE', 'the variable $NOPE is not set'],
    ['x { y: 1', 'a "}" is missing'],
    ['x [1, 2', 'a "]" is missing'],
    ['\n\nname: "abc', 'line 3: a quote is not closed'],
    ['name:', '"name" has no value'],
    ['}', 'unexpected "}"'],
  ])('%j is refused, with where and why', (text, reason) => {
    expect(() => read(text)).toThrow(
      expect.objectContaining({
        code: 'CONAT_CONFIG_INVALID',
        message: expect.stringContaining(reason),
      }),
    );
  });

  it('is refused when it is not there, or includes itself', () => {
    expect(() => readServerConfig(join(folder, 'none'), {})).toThrow('none');
    expect(() => read('include nats.conf')).toThrow('too many includes');
  });
});
