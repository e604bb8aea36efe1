import 'reflect-metadata';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as pathOf } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { createUser } from '@nats-io/nkeys';
import { NestFactory } from '@nestjs/core';
import { Broker, ConatModule, NatsFabric, Persistence } from '@rookery/conat';
import {
  AllowAllAuthenticator,
  natsServerMissing,
  NatsServerOracle,
  type NatsServerOptions,
  RawClient,
} from '@rookery/conat/testing';
import { createLogger, waitFor } from '@rookery/core';
import { selfSignedCertificate } from '@rookery/core/testing';
import { TestHub } from './fabric/test-hub.js';

const missing = await natsServerMissing();
const tests = missing === undefined ? describe : describe.skip;
const why = missing ? ` — ${missing}` : '';
const timeoutMs = 30_000;

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function node(options: NatsServerOptions = {}): Promise<NatsServerOracle> {
  const server = await NatsServerOracle.start({ jetStream: false, ...options });
  cleanups.push(() => server.close());
  return server;
}

async function hub(server: NatsServerOracle, fabric: object): Promise<TestHub> {
  const started = await TestHub.start([server.tcpUrl], { name: 'hub', fabric });
  cleanups.push(() => started.close());
  return started;
}

const until = (what: string, probe: () => boolean) =>
  waitFor(what, probe, { timeoutMs, everyMs: 5 });

class NoPersistence extends Persistence {
  start = async (): Promise<void> => undefined;
  close = async (): Promise<void> => undefined;
  accounts = (): [] => [];
  damagedAccounts = (): [] => [];
  readonly apiLevel = 0;
}

tests(`a broker whose cluster is away${why}`, () => {
  it('keeps what is published, in order, and subscribes anew', async () => {
    const server = await node();
    const { broker } = await hub(server, { patienceMs: 60_000 });
    const listener = await RawClient.ready(broker);
    const speaker = await RawClient.ready(broker);
    listener.say('SUB a.* 1\r\nSUB b 2\r\nUNSUB 2 3\r\n');
    speaker.say('PUB b 1\r\n0\r\n');
    await speaker.answers();
    await listener.heard('MSG b 2 1\r\n0\r\n');
    await server.crash();
    await until('it is noticed', () => !broker.fabric.status!.connected);
    listener.say('SUB late 3\r\nSUB gone 4\r\nUNSUB 4\r\n');
    for (let n = 0; n < 100; n += 1) speaker.say(`PUB a.${n} 0\r\n\r\n`);
    for (let n = 1; n < 9; n += 1) speaker.say(`PUB b 1\r\n${n}\r\n`);
    speaker.say('PUB gone 0\r\n\r\nPUB late 0\r\n\r\nPING\r\n');
    expect(broker.fabric.status!.bufferedBytes).toBeGreaterThan(1_000);
    expect(speaker.text).toBe('');
    listener.forget();
    await server.restart();
    const text = await listener.heard('MSG late');
    const subjects = [...text.matchAll(/MSG (a\.\d+) /g)].map((match) => match[1]);
    expect(subjects).toEqual(Array.from({ length: 100 }, (_, n) => `a.${n}`));
    // Of three one had come before.
    expect(text.match(/MSG b 2/g)).toHaveLength(2);
    expect(text).not.toContain('MSG gone');
    await speaker.heard('PONG');
    expect(broker.fabric.status).toMatchObject({ dropped: 0, reconnects: 1, bufferedBytes: 0 });
  });

  it('tells requesters that nobody hears them once it has no more patience', async () => {
    const server = await node();
    const { broker } = await hub(server, { patienceMs: 200 });
    const asking = await RawClient.ready(broker);
    asking.say('SUB _INBOX.anyone.* 1\r\n');
    await asking.answers();
    await server.crash();
    await until('it is noticed', () => !broker.fabric.status!.connected);
    asking.say('PUB x _INBOX.anyone.early 0\r\n\r\n');
    await asking.heard('HMSG _INBOX.anyone.early 1 33 33\r\nNATS/1.0 503');
    asking.forget();
    asking.say('PUB x _INBOX.anyone.late 0\r\n\r\n');
    // At once, not only when the time is over.
    expect(await asking.heard('HMSG _INBOX.anyone.late')).toContain('NATS/1.0 503');
    asking.say('PUB x 0\r\n\r\n');
    expect(broker.fabric.status!.dropped).toBe(3);
    await server.restart();
    await until('it is back', () => broker.fabric.status!.connected);
    asking.say('SUB x 2\r\nPUB x 0\r\n\r\n');
    await asking.heard('MSG x 2 0');
  });

  it('keeps no more than it may', async () => {
    const server = await node();
    const { broker } = await hub(server, { patienceMs: 60_000, bufferedBytesMax: 64 * 1024 });
    const client = await RawClient.ready(broker);
    client.say('SUB _INBOX.anyone.* 1\r\n');
    await client.answers();
    await server.crash();
    await until('it is noticed', () => !broker.fabric.status!.connected);
    const message = Buffer.from(`PUB x ${10_000}\r\n${'.'.repeat(10_000)}\r\n`);
    for (let n = 0; n < 10; n += 1) client.say(message);
    client.say('PUB x _INBOX.anyone.1 0\r\n\r\n');
    const { dropped, bufferedBytes } = broker.fabric.status!;
    expect(dropped).toBe(4);
    expect(bufferedBytes).toBeLessThanOrEqual(64 * 1024);
    expect(bufferedBytes).toBeGreaterThan(60_000);
  });
});

tests(`a cluster that takes little${why}`, () => {
  it('makes publishers wait, and loses nothing', async () => {
    const server = await node();
    const pool = await hub(server, { holdAboveBytes: 256 * 1024 });
    const { broker } = pool;
    const count = 12_000;
    const [listener, speaker] = [await pool.connect(), await pool.connect()];
    let heard = 0;
    listener.nats.subscribe('much', { callback: () => void (heard += 1) });
    await listener.nats.flush();
    process.kill(server.pid!, 'SIGSTOP');
    try {
      const payload = Buffer.alloc(2_048);
      for (let n = 0; n < count; n += 1) speaker.nats.publish('much', payload);
      await until('it has to wait', () => broker.fabric.status!.held > 0);
      expect(broker.fabric.status!.bufferedBytes).toBeLessThan(8 * 1024 * 1024);
    } finally {
      process.kill(server.pid!, 'SIGCONT');
    }
    await until('all have come', () => heard === count);
    expect(broker.fabric.status).toMatchObject({ dropped: 0, reconnects: 0 });
  });

  it('is taken for dead when it says nothing at all', async () => {
    const server = await node();
    const { broker } = await hub(server, { pingEveryMs: 50, pingsOutMax: 2 });
    process.kill(server.pid!, 'SIGSTOP');
    try {
      await until('it is given up', () => broker.fabric.status!.reconnects > 0);
    } finally {
      process.kill(server.pid!, 'SIGCONT');
    }
    await until('it is used again', () => broker.fabric.status!.connected);
  });
});

tests(`joining a cluster${why}`, () => {
  const logger = createLogger('test-fabric', 'silent');
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(pathOf(tmpdir(), 'fabric-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** Starts it, and leaves at once. */
  async function join(options: object): Promise<void> {
    const fabric = new NatsFabric(options as never, { logger });
    const broker = new Broker({ authenticator: new AllowAllAuthenticator(), fabric });
    await broker.fabric.start();
    await broker.fabric.close();
  }

  it('says what was refused, without the password', async () => {
    const server = await node({ config: 'authorization { user: "a", password: "right" }' });
    const wrong = server.tcpUrl.replace('//', '//a:wrong@');
    const refused = join({ servers: wrong });
    await expect(refused).rejects.toMatchObject({ code: 'CONAT_FABRIC_REFUSED' });
    await expect(refused).rejects.toThrow(/Authorization Violation/);
    await expect(refused).rejects.not.toThrow(/wrong/);
    await join({ servers: server.tcpUrl.replace('//', '//a:right@') });
  });

  it('says when nobody is there', async () => {
    const gone = await NatsServerOracle.start({ jetStream: false });
    await gone.close();
    const url = gone.tcpUrl.replace('//', '//a:secret@');
    const unreachable = join({ servers: url, connectTimeoutMs: 300 });
    await expect(unreachable).rejects.toMatchObject({ code: 'CONAT_FABRIC_UNREACHABLE' });
    await expect(unreachable).rejects.not.toThrow(/secret/);
  });

  it('signs with an nkey', async () => {
    const user = createUser();
    const server = await node({
      config: `authorization { users: [{ nkey: ${user.getPublicKey()} }] }`,
    });
    const credentialsFile = pathOf(folder, 'user.nk');
    await writeFile(credentialsFile, `${Buffer.from(user.getSeed()).toString()}\n`);
    await join({ servers: server.tcpUrl, credentialsFile });
    await expect(join({ servers: server.tcpUrl })).rejects.toThrow(/Authorization Violation/);
  });

  it('speaks TLS, and not to strangers', async () => {
    const { key, cert } = await selfSignedCertificate(folder, {
      extension: 'subjectAltName=IP:127.0.0.1',
    });
    const server = await node({ config: `tls { cert_file: "${cert}", key_file: "${key}" }` });
    const url = server.tcpUrl.replace('nats:', 'tls:');
    await join({ servers: url, caFile: cert });
    await expect(join({ servers: url, connectTimeoutMs: 1_000 })).rejects.toMatchObject({
      code: 'CONAT_FABRIC_UNREACHABLE',
    });
    const plain = await node();
    await expect(join({ servers: plain.tcpUrl.replace('nats:', 'tls:') })).rejects.toThrow(
      /has no TLS/,
    );
  });

  it('wants room for the messages that clients may send', async () => {
    const server = await node({ config: 'max_payload: 1000' });
    await expect(join({ servers: server.tcpUrl })).rejects.toThrow(/max_payload/);
  });

  it('is an option of the module, which then stores nothing itself', async () => {
    const server = await node();
    const authenticator = new AllowAllAuthenticator();
    const fabric = `${server.tcpUrl}, ${server.tcpUrl}`;
    const options = { logger: false, abortOnError: false } as const;
    const module = ConatModule.forRoot({ authenticator, fabric });
    const app = await NestFactory.createApplicationContext(module, options);
    const { fabric: used } = app.get(Broker);
    expect(used.status).toMatchObject({ connected: true });
    await app.close();
    expect(used.status).toMatchObject({ connected: false });
    const both = ConatModule.forRoot({ authenticator, fabric, persistence: new NoPersistence() });
    await expect(NestFactory.createApplicationContext(both, options)).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
    });
  });
});
