import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { jetstream, jetstreamManager, type JetStreamManager } from '@nats-io/jetstream';
import { Kvm, type KV } from '@nats-io/kv';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { projectSpaceRoot } from '@rookery/fleet/contract';
import { newId, waitFor } from '@rookery/core';
import { spaceAccount } from '@rookery/jetstream';
import { ProjectTokenAuthenticator } from '@rookery/fleet/testing';
import { startTestJetStream, type TestJetStream } from '@rookery/jetstream/testing';

const [P, Q, owner, viewer] = Array.from({ length: 4 }, newId) as [string, string, string, string];
const timeout = 3_000;

let folder: string;
let network: TestJetStream;
const clients: NatsConnection[] = [];

const connect = async (token: string): Promise<NatsConnection> => {
  const [, id] = token.split(':');
  const account = token.startsWith('account');
  const client = await wsconnect({
    servers: network.url,
    token,
    ...(account && { inboxPrefix: `_INBOX.account-${id}` }),
  });
  clients.push(client);
  return client;
};
/** Accounts name the project by the prefix of its API. */
const apiPrefix = (project: string): string => `project.${project}.js.api`;

async function keysOf(kv: KV): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const watch = await kv.watch();
  if ((await kv.status()).values === 0) watch.stop();
  for await (const entry of watch) {
    found[entry.key] = entry.string();
    if (entry.delta === 0) break;
  }
  return found;
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'rookery-jetstream-'));
  network = await startTestJetStream({
    spaceRoot: projectSpaceRoot,
    authenticator: new ProjectTokenAuthenticator({
      [owner]: [{ projectId: P, role: 'owner' }],
      [viewer]: [{ projectId: P, role: 'viewer' }],
    }),
    jetStream: {
      accounts: [P, Q].map((id) =>
        spaceAccount({ root: projectSpaceRoot, id }, join(folder, `${id}.sqlite`)),
      ),
      options: { threads: 0 },
    },
  });
});
afterAll(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await network?.close();
  rmSync(folder, { recursive: true });
});

describe('persistence of projects', () => {
  let kvP: KV;

  it('has the same names twice and mixes nothing up', async () => {
    const [p, q] = await Promise.all([connect(`project:${P}`), connect(`project:${Q}`)]);
    for (const [client, value] of [
      [p, 'of P'],
      [q, 'of Q'],
    ] as const) {
      const kv = await new Kvm(client).create('bucket');
      await kv.put('key', value);
      const manager = await jetstreamManager(client);
      await manager.streams.add({ name: 'S', subjects: ['s.>'] });
      await manager.consumers.add('S', { durable_name: 'C', ack_policy: 'explicit' });
      const ack = await jetstream(client).publish('s.1', value, { timeout });
      expect(ack.seq).toBe(1);
    }
    kvP = await new Kvm(p).open('bucket');
    expect(await keysOf(kvP)).toEqual({ key: 'of P' });
    expect(await keysOf(await new Kvm(q).open('bucket'))).toEqual({ key: 'of Q' });
    const consumer = await jetstream(q).consumers.get('S', 'C');
    const message = await consumer.next({ expires: timeout });
    expect([message?.string(), message?.subject]).toEqual(['of Q', 's.1']);
    await message?.ackAck({ timeout });
    const pending = async (client: NatsConnection): Promise<number> =>
      (await (await jetstreamManager(client)).consumers.info('S', 'C')).num_pending;
    expect([await pending(p), await pending(q)]).toEqual([1, 0]);
  });

  it('cannot be acknowledged or purged from another project, whatever form is tried', async () => {
    const [p, q] = await Promise.all([connect(`project:${P}`), connect(`project:${Q}`)]);
    const consumer = await jetstream(p).consumers.get('S', 'C');
    const message = await consumer.next({ expires: timeout });
    expect(message?.string()).toBe('of P');
    const { reply } = message as unknown as { reply: string };
    const tail = reply.split('.').slice(2).join('.');
    for (const subject of [
      `$JS.ACK._.${P}.${tail}`,
      `$JS.ACK._.${P}.${tail}.random`,
      `project.${P}.js.api.STREAM.PURGE.S`,
      `$JS.FC._.${P}.S.C.x`,
    ]) {
      q.publish(subject, '+ACK');
      await expect(q.request(subject, '', { timeout })).rejects.toThrow(/no responders/);
    }
    const info = await (await jetstreamManager(p)).consumers.info('S', 'C');
    expect(info.num_ack_pending).toBe(1);
    await message!.ackAck({ timeout });
  });

  it('is open to its owner’s account by the prefix of its API', async () => {
    const client = await connect(`account:${owner}`);
    const js = jetstream(client, { apiPrefix: apiPrefix(P) });
    const kv = await new Kvm(js).open('bucket');
    await kv.put('mine', 'by the owner');
    await waitFor('the project sees it', async () => (await kvP.get('mine')) !== null, {
      timeoutMs: timeout,
    });
    expect(await keysOf(kv)).toEqual({ key: 'of P', mine: 'by the owner' });
    const other = jetstreamManager(client, { apiPrefix: apiPrefix(Q), timeout: 500 });
    await expect(other).rejects.toThrow();
  });

  it('lets a viewer read, by watches and consumers that acknowledge nothing', async () => {
    const client = await connect(`account:${viewer}`);
    const js = jetstream(client, { apiPrefix: apiPrefix(P) });
    const kv = await new Kvm(js).open('bucket');
    expect((await kv.get('key'))?.string()).toBe('of P');
    expect(await keysOf(kv)).toMatchObject({ key: 'of P' });
    const ordered = await js.consumers.get('S');
    expect((await ordered.next({ expires: timeout }))?.string()).toBe('of P');
  });

  it('lets a viewer write nothing, also not by way of a consumer', async () => {
    const client = await connect(`account:${viewer}`);
    const manager: JetStreamManager = await jetstreamManager(client, { apiPrefix: apiPrefix(P) });
    const denied = /permission|403|may only read/i;
    const add = (config: object) => manager.consumers.add('S', config);
    await expect(add({ durable_name: 'C2', ack_policy: 'none' })).rejects.toThrow(denied);
    await expect(add({ name: 'C', ack_policy: 'explicit' })).rejects.toThrow(denied);
    await expect(add({ name: 'n', ack_policy: 'explicit' })).rejects.toThrow(denied);
    await expect(
      add({ name: 'n', ack_policy: 'none', deliver_subject: 'fs.write' }),
    ).rejects.toThrow(denied);
    await expect(add({ name: 'C', ack_policy: 'none' })).rejects.toThrow();
    const consumer = await jetstream(client, { apiPrefix: apiPrefix(P) }).consumers.get('S', 'C');
    await expect(consumer.next({ expires: timeout })).rejects.toThrow(denied);
    await expect(manager.streams.purge('S')).rejects.toThrow(denied);
    await expect(manager.streams.delete('S')).rejects.toThrow(denied);
    await expect(manager.consumers.delete('S', 'C')).rejects.toThrow(denied);
    const js = jetstream(client, { apiPrefix: apiPrefix(P) });
    const kv = await new Kvm(js).open('bucket');
    await expect(kv.put('key', 'changed')).rejects.toThrow(denied);
    await expect(kv.delete('key')).rejects.toThrow(denied);
    expect((await kvP.get('key'))?.string()).toBe('of P');
    const { config } = await (
      await jetstreamManager(await connect(`project:${P}`))
    ).consumers.info('S', 'C');
    expect(config.ack_policy).toBe('explicit');
    // Not even one whose messages nobody acknowledges.
    const own = await jetstreamManager(await connect(`project:${P}`));
    await own.consumers.add('S', { name: 'program', ack_policy: 'none' });
    const programs = await js.consumers.get('S', 'program');
    await expect(programs.next({ expires: timeout })).rejects.toThrow(denied);
    expect((await own.consumers.info('S', 'program')).delivered.consumer_seq).toBe(0);
  });
});
