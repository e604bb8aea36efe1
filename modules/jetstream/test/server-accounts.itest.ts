import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { configuredBroker, readServerConfig, serveBroker } from '@rookery/conat';
import { JetStream, openAccounts } from '@rookery/jetstream';
import { NatsServerOracle } from '@rookery/conat/testing';
import { Reverter } from '@rookery/core';
import { besides, fieldsOf, leftOut } from './support/pages-oracle.js';

const accounts = `
  accounts {
    SHOP {
      users: [
        { user: ann, password: a }
        { user: bob, password: b, permissions { publish: ["open.>"], subscribe: [">"] } }
      ]
      jetstream { max_mem: 1K, max_file: 2K, max_streams: 2, max_consumers: 1 }
      limits { max_connections: 3, max_payload: 4K, max_subs: 3 }
    }
    BANK { users: [{ user: cat, password: c }], jetstream: enabled }
    PARK { users: [{ user: dan, password: d }] }
  }
  authorization { users: [{ user: eve, password: e }] }
  no_auth_user: dan
`;
const passwords: Readonly<Record<string, string>> = { ann: 'a', bob: 'b', cat: 'c', eve: 'e' };

interface Server {
  readonly url: string;
  readonly tcpUrl: string;
  readonly monitoringUrl: string;
}

let nats: NatsServerOracle;
let conat: Server;
const undo = new Reverter();

beforeAll(async () => {
  nats = await NatsServerOracle.start({ config: accounts });
  undo.add(() => nats.close());
  const folder = await mkdtemp(join(tmpdir(), 'conat-accounts-'));
  undo.add(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'nats.conf');
  await writeFile(
    file,
    `server_name: oracle
     listen: "127.0.0.1:-1"
     http: "127.0.0.1:-1"
     websocket { listen: "127.0.0.1:-1", no_tls: true }
     jetstream { store_dir: streams }
     ${accounts}`,
  );
  const config = readServerConfig(file, {});
  const broker = configuredBroker(config, 'conat');
  const jetStream = new JetStream({ threads: 0 });
  await jetStream.start(broker);
  await openAccounts(jetStream, broker, config.storeDir!, config.accounts);
  const { tcp, monitoring, webSocket } = config;
  const storeDir = config.storeDir!;
  const server = await serveBroker({
    broker,
    persistence: jetStream,
    storeDir,
    tcp,
    ...webSocket!,
    monitoring: monitoring!,
  });
  undo.add(() => server.close(0));
  conat = {
    url: server.url,
    tcpUrl: `nats://127.0.0.1:${server.tcp!.port}`,
    monitoringUrl: server.monitoring!,
  };
});
afterAll(() => undo.fail());

type Connect = (user: string) => Promise<NatsConnection>;

/** Runs the program on both servers; what it says must be the same. */
async function same(
  program: (as: Connect, said: (what: unknown) => void, server: Server) => Promise<void>,
): Promise<void> {
  const seen: unknown[][] = [];
  for (const server of [nats, conat]) {
    const lines: unknown[] = [];
    seen.push(lines);
    const open: NatsConnection[] = [];
    const as: Connect = async (user) => {
      const pass = passwords[user];
      const who = pass === undefined ? {} : { user, pass };
      const client = await wsconnect({ servers: server.url, name: user, ...who });
      open.push(client);
      return client;
    };
    try {
      await program(as, (what) => void lines.push(what), server);
    } finally {
      for (const client of open) await client.close();
    }
  }
  expect(seen[0]!.length).toBeGreaterThan(0);
  expect(seen[1]).toEqual(seen[0]);
}

const asked = (client: NatsConnection, subject: string, body: string = ''): Promise<string> =>
  client.request(subject, body, { timeout: 1_500, noMux: true }).then(
    (message) => message.string(),
    (error: Error) => error.name,
  );

/** The answer of JetStream: its error, or some of what it says. */
async function api(
  client: NatsConnection,
  subject: string,
  body: object | string = '',
): Promise<unknown> {
  const payload = typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await asked(client, `$JS.API.${subject}`, payload);
  if (!answer.startsWith('{')) return answer;
  const { error, type, limits, ...rest } = JSON.parse(answer) as Record<string, unknown>;
  const { memory, storage, reserved_memory, reserved_storage, streams } = rest;
  const shown = { type, error, limits, memory, storage, reserved_memory, reserved_storage };
  return error ? shown : { ...shown, streams };
}

/** No limit of streams is one here. */
const unbounded = (answer: unknown): unknown =>
  JSON.parse(JSON.stringify(answer).replace('"max_streams":10000', '"max_streams":-1'));

describe('accounts, as those of nats-server', () => {
  test('have subjects of their own', async () => {
    await same(async (as, said) => {
      const clients = [await as('ann'), await as('cat'), await as('dan'), await as('eve')];
      const heard: string[] = [];
      for (const [at, client] of clients.entries()) {
        client.subscribe('>', {
          callback: (_, message) => {
            if (!message.subject.startsWith('_INBOX')) heard.push(`${at} ${message.string()}`);
          },
        });
        client.subscribe('who', { callback: (_, message) => void message.respond(`${at}`) });
        await client.flush();
      }
      for (const client of clients) {
        client.publish('x.y', client.info!.client_ip);
        said(await asked(client, 'who'));
      }
      for (const client of clients) await client.flush();
      said(heard.sort());
      said(
        clients.slice(0, 3).map(({ info }) => {
          const { max_payload, remote_account: account } = info as unknown as Record<
            string,
            unknown
          >;
          return [max_payload, account];
        }),
      );
    });
  });

  test('have users with permissions of their own', async () => {
    await same(async (as, said) => {
      const [ann, bob] = [await as('ann'), await as('bob')];
      ann.subscribe('open.x', { callback: (_, message) => void message.respond('from ann') });
      ann.subscribe('shut', { callback: (_, message) => void message.respond('from ann') });
      await ann.flush();
      said(await asked(bob, 'open.x'));
      said(await asked(bob, 'shut'));
    });
  });

  test('have limits of connections, subscriptions and payload', async () => {
    await same(async (as, said, { tcpUrl }) => {
      const ann = await as('ann');
      await as('ann');
      await as('bob');
      const raw = async (lines: string): Promise<string> => {
        const socket = connect(Number(new URL(tcpUrl.replace('nats', 'http')).port), '127.0.0.1');
        socket.write(lines);
        return (await text(socket)).replace(/^INFO.*\r\n/gm, '');
      };
      const login = (user: string): string =>
        `CONNECT {"user":"${user}","pass":"${passwords[user]}","verbose":false}\r\n`;
      said(await raw(`${login('ann')}PING\r\n`));
      await ann.close();
      const large = 'x'.repeat(4_001);
      said(await raw(`${login('bob')}PING\r\nPUB open.x ${large.length}\r\n`));
      const cat = await as('cat');
      cat.publish('large', large);
      await cat.flush();
      const subscribed = [1, 2, 3, 4].map((sid) => `SUB s.${sid} ${sid}\r\n`).join('');
      const end = 'PUB open.x 4001\r\n';
      said(await raw(`${login('bob')}${subscribed}PING\r\n${end}`));
    });
  });

  test('have JetStream when they are given it, up to their quota', async () => {
    await same(async (as, said) => {
      const [ann, cat] = [await as('ann'), await as('cat')];
      for (const client of [ann, cat]) said(unbounded(await api(client, 'INFO')));
      const stream = (name: string, more: object = {}): object => ({
        name,
        subjects: [name.toLowerCase()],
        ...more,
      });
      const memory = { storage: 'memory', max_bytes: 2_000 };
      said(await api(ann, 'STREAM.CREATE.M', stream('M', memory)));
      said(await api(ann, 'STREAM.CREATE.M', stream('M', { max_bytes: 4_000 })));
      said(await api(ann, 'STREAM.CREATE.M', stream('M')));
      said(await api(ann, 'STREAM.CREATE.N', stream('N', { max_bytes: 1_000 })));
      for (const bytes of [3_000, 1_500, 1_400]) {
        said(await api(ann, 'STREAM.UPDATE.N', stream('N', { max_bytes: bytes })));
      }
      said(await api(ann, 'STREAM.CREATE.O', stream('O')));
      said(await api(ann, 'STREAM.CREATE.M', stream('M')));
      said(await api(cat, 'STREAM.CREATE.M', stream('M')));
      for (const name of ['c', 'd', 'c']) {
        const config = { durable_name: name, ack_policy: 'explicit' };
        const body = { stream_name: 'M', config };
        said(await api(ann, `CONSUMER.CREATE.M.${name}`, body));
      }
      const payload = 'x'.repeat(600);
      for (let n = 0; n < 4; n += 1) said(await asked(ann, 'm', payload));
      said(await asked(ann, 'n', payload));
      said(await asked(cat, 'm', payload));
      said(await api(ann, 'STREAM.PURGE.M'));
      said(await asked(ann, 'm', payload));
      said(unbounded(await api(ann, 'INFO')));
      said(unbounded(await api(cat, 'INFO')));
    });
  });

  test('are told that they have none', async () => {
    await same(async (as, said) => {
      for (const user of ['dan', 'eve']) {
        const client = await as(user);
        const named = { name: 'X', subjects: ['x'] };
        for (const request of ['INFO', 'STREAM.NAMES', 'STREAM.LIST', 'STREAM.INFO.X']) {
          said(await asked(client, `$JS.API.${request}`));
        }
        said(await asked(client, '$JS.API.STREAM.CREATE.X', JSON.stringify(named)));
        for (const request of ['NAMES.X', 'LIST.X', 'INFO.X.c', 'DELETE.X.c', 'MSG.NEXT.X.c']) {
          said(await asked(client, `$JS.API.CONSUMER.${request}`));
        }
        const create = { stream_name: 'X', config: { durable_name: 'c' } };
        for (const verb of ['CREATE', 'DURABLE.CREATE']) {
          said(await asked(client, `$JS.API.CONSUMER.${verb}.X.c`, JSON.stringify(create)));
        }
        said(await asked(client, '$JS.API.DIRECT.GET.X', '{"seq":1}'));
      }
    });
  });
});

describe('pages about accounts, as those of nats-server', () => {
  test('tell connections and streams by account', async () => {
    await same(async (as, said, { monitoringUrl }) => {
      for (const user of ['ann', 'cat', 'dan', 'eve']) await as(user);
      const page = async (path: string): Promise<Record<string, unknown>> =>
        (await (await fetch(monitoringUrl + path)).json()) as Record<string, unknown>;
      const connections = async (query: string): Promise<unknown> => {
        const { connections: all } = await page(`/connz?${query}`);
        return ((all ?? []) as Record<string, unknown>[]).map((one) => [
          one.name,
          one.authorized_user,
          one.account,
          one.name_tag,
        ]);
      };
      for (const query of ['auth=1', '', 'acc=SHOP', 'acc=$G&auth=1', 'acc=NONE']) {
        said(await connections(query));
      }
      for (const query of ['', 'acc=SHOP', 'acc=PARK', 'accounts=1', 'accounts=1&limit=1']) {
        const {
          accounts: count,
          total,
          account_details: details,
          streams,
        } = await page(`/jsz?${query}`);
        const sorted = (details as Record<string, unknown>[] | undefined)?.map((one) => ({
          ...one,
          api: null,
        }));
        said({ count, total, sorted, streams });
      }
    });
  });

  test('have the fields of those of nats-server, and name what is left out', async () => {
    const found: Map<string, string>[] = [];
    for (const server of [nats, conat]) {
      const pass = passwords.cat!;
      const client = await wsconnect({ servers: server.url, user: 'cat', pass, name: 'pages' });
      await asked(client, '$JS.API.STREAM.CREATE.F', '{"name":"F","subjects":["f"]}');
      const config = { durable_name: 'c', ack_policy: 'explicit' };
      const create = JSON.stringify({ stream_name: 'F', config });
      await asked(client, '$JS.API.CONSUMER.CREATE.F.c', create);
      await asked(client, 'f', 'x');
      const { reply } = await client.request('$JS.API.CONSUMER.MSG.NEXT.F.c', '1', {
        timeout: 1_500,
        noMux: true,
      });
      await asked(client, reply!, '+ACK');
      const fields = new Map<string, string>();
      const details = 'accounts=1&streams=1&consumers=1&config=1';
      const pages = ['/varz', '/connz?subs=1&auth=1', `/jsz?${details}`, '/healthz'];
      for (const path of pages) {
        const body: unknown = await (await fetch(server.monitoringUrl + path)).json();
        const page = path.replace(/\?.*/, '');
        for (const [field, type] of fieldsOf(body)) fields.set(`${page} ${field}`, type);
      }
      found.push(fields);
      await client.close();
    }
    const [theirs, ours] = found as [Map<string, string>, Map<string, string>];
    // Of the first PING, which may not have been answered yet.
    for (const fields of found) fields.delete('/connz connections[].rtt');
    for (const [page, field] of leftOut) {
      expect([field, theirs.delete(`${page} ${field}`)]).toEqual([field, true]);
      for (const key of [...theirs.keys()]) {
        if (key.startsWith(`${page} ${field}.`)) theirs.delete(key);
      }
    }
    for (const [page, field] of besides) {
      expect([field, ours.delete(`${page} ${field}`)]).toEqual([field, true]);
    }
    expect(Object.fromEntries([...ours].sort())).toEqual(Object.fromEntries([...theirs].sort()));
    const docs = await readFile(new URL('../../../docs/conat.md', import.meta.url), 'utf8');
    const rows = docs.split('\n').map((line) => line.replace(/ +/g, ' '));
    for (const [page, field, why] of leftOut) {
      expect(rows).toContain(`| \`${page}\` | \`${field}\` | ${why} |`);
    }
  });
});
