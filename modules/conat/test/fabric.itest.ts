import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { AckPolicy, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { Kvm } from '@nats-io/kv';
import { headers, type Msg, type Subscription } from '@nats-io/nats-core';
import { brokerMetrics, type ConatClient, type ConatPermissions } from '@rookery/conat';
import {
  natsServerMissing,
  RawClient,
  spaceIdentity,
  TokenAuthenticator,
} from '@rookery/conat/testing';
import { waitFor } from '@rookery/core';
import { TestHub } from './fabric/test-hub.js';
import { NatsCluster } from './fabric/nats-cluster.js';

const missing = await natsServerMissing();
const tests = missing === undefined ? describe : describe.skip;
if (missing !== undefined) process.stderr.write(`left out: ${missing}\n`);

const timeoutMs = 30_000;
const everything = { allow: ['>'] };
/** A user, with what she may do in the space p1. */
const inFirst: ConatPermissions = {
  publish: { allow: ['space.p1.>'] },
  subscribe: { allow: ['space.p1.>'] },
};
const nothing: ConatPermissions = { publish: { allow: [] }, subscribe: { allow: [] } };
const identities = {
  hub: {
    name: 'hub',
    permissions: { publish: everything, subscribe: everything, inboxes: 'all' as const },
  },
  'space:p1': spaceIdentity({ root: 'space', id: 'p1' }),
  'space:p2': spaceIdentity({ root: 'space', id: 'p2' }),
  'user:ann': { name: 'user-ann', permissions: inFirst },
};
let cluster: NatsCluster;
let hubs: TestHub[];
let clients: ConatClient[];

beforeAll(async () => {
  if (missing !== undefined) return;
  cluster = await NatsCluster.start();
  // Each on a node of its own.
  hubs = await Promise.all(
    cluster.servers.map((server, n) =>
      TestHub.start([server], {
        name: `hub${n}`,
        authenticator: new TokenAuthenticator(identities),
      }),
    ),
  );
  clients = await Promise.all(hubs.map((hub) => connectTo(hub)));
}, 90_000);

afterAll(async () => {
  for (const hub of hubs ?? []) await hub.close();
  await cluster?.close();
}, 60_000);

const connectTo = (hub: TestHub, token = 'hub') =>
  hub.connect({
    identity: token === 'hub' ? 'hub' : token.replace(':', '-'),
    credentials: { token },
  });

/** What `client` subscribed is known to the others' nodes: they learn in order. */
async function known(client: ConatClient): Promise<void> {
  await client.nats.flush();
  for (const other of clients) {
    const subject = `known.${Math.random()}`;
    let heard = false;
    client.nats.subscribe(subject, { max: 1, callback: () => void (heard = true) });
    await client.nats.flush();
    const tell = (): boolean => {
      if (!heard) other.nats.publish(subject);
      return heard;
    };
    await waitFor('the subscription is known', tell, { timeoutMs, everyMs: 5 });
  }
}

function collect(subscription: Subscription): Msg[] {
  const messages: Msg[] = [];
  void (async () => {
    for await (const message of subscription) messages.push(message);
  })();
  return messages;
}

const until = (what: string, probe: () => boolean) =>
  waitFor(what, probe, { timeoutMs, everyMs: 10 });

tests('brokers of three processes in a NATS cluster', () => {
  it('bring messages to subscribers of every process, once and in order', async () => {
    const heard: Msg[][] = [];
    for (const [n, client] of clients.entries()) {
      const subject = ['news.*.a', 'news.>', 'news.x.a'][n]!;
      heard.push(collect(client.nats.subscribe(subject)));
      await known(client);
    }
    for (let n = 0; n < 200; n += 1) clients[0]!.nats.publish('news.x.a', String(n));
    clients[0]!.nats.publish('newsx');
    await until('all have come', () => heard.every((messages) => messages.length >= 200));
    const wanted = Array.from({ length: 200 }, (_, n) => String(n));
    for (const messages of heard) expect(messages.map((m) => m.string())).toEqual(wanted);
  });

  it('hand headers on byte for byte', async () => {
    const options = { auth_token: 'hub', name: 'hub' };
    const [from, to] = [
      await RawClient.ready(hubs[0]!.broker, options),
      await RawClient.ready(hubs[1]!.broker, options),
    ];
    to.say('SUB odd.* 7\r\nSUB known.raw 8\r\n');
    await to.answers();
    await waitFor(
      'the subscription is known',
      () => {
        from.say('PUB known.raw 0\r\n\r\n');
        return to.text.includes('known.raw');
      },
      { timeoutMs, everyMs: 5 },
    );
    const block = Buffer.from('NATS/1.0\r\nfoo:  bar \r\nFOO:\xe4\xff\r\nx:y\r\n\r\n', 'latin1');
    const payload = Buffer.from([0, 13, 10, 255]);
    from.say(
      Buffer.concat([
        Buffer.from(`HPUB odd.\xe4 _INBOX.hub.1 ${block.length} ${block.length + 4}\r\n`, 'latin1'),
        block,
        payload,
        Buffer.from('\r\n'),
      ]),
    );
    await to.heard('HMSG odd');
    expect(to.text.slice(to.text.indexOf('HMSG'))).toBe(
      `HMSG odd.\xe4 7 _INBOX.hub.1 ${block.length} ${block.length + 4}\r\n` +
        `${block.toString('latin1')}${payload.toString('latin1')}\r\n`,
    );
  });

  it('carry messages that are larger than any read', async () => {
    const heard = collect(clients[1]!.nats.subscribe('large'));
    await known(clients[1]!);
    const payload = Buffer.alloc(1024 * 1024, 'large ');
    for (let n = 0; n < 5; n += 1) clients[0]!.nats.publish('large', payload);
    await until('all have come', () => heard.length === 5);
    for (const { data } of heard) expect(payload.equals(data)).toBe(true);
  });

  it('give each message of a queue group to one member, wherever it is', async () => {
    const members: Msg[][] = [];
    for (const client of clients) {
      members.push(collect(client.nats.subscribe('work', { queue: 'q' })));
      members.push(collect(client.nats.subscribe('work', { queue: 'q' })));
      await known(client);
    }
    for (let n = 0; n < 900; n += 1) clients[n % 3]!.nats.publish('work', String(n));
    const ids = () => members.flat().map((message) => Number(message.string()));
    await until('all have come', () => ids().length >= 900);
    await Promise.all(clients.map((client) => client.nats.flush()));
    expect(ids().sort((a, b) => a - b)).toEqual(Array.from({ length: 900 }, (_, n) => n));
    // A node may prefer its own clients, so only that nobody of them is left out is asked.
    for (const messages of members) expect(messages.length).toBeGreaterThan(0);
  });

  it('answer requests from other processes', async () => {
    clients[2]!.nats.subscribe('add', {
      callback: (_, message) => {
        const answer = headers();
        answer.set('by', 'three');
        message.respond(String(Number(message.string()) + 1), { headers: answer });
      },
    });
    await known(clients[2]!);
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, n) => clients[n % 3]!.nats.request('add', String(n))),
    );
    expect(answers.map((answer) => Number(answer.string()))).toEqual(
      Array.from({ length: 60 }, (_, n) => n + 1),
    );
    expect(answers[0]!.headers?.get('by')).toBe('three');
  });

  it('tell a requester alone that nobody heard it', async () => {
    const asking = await RawClient.ready(hubs[0]!.broker, { auth_token: 'hub', name: 'hub' });
    const silent = await RawClient.ready(hubs[0]!.broker, {
      auth_token: 'hub',
      name: 'hub',
      no_responders: false,
    });
    const listener = await RawClient.ready(hubs[0]!.broker, { auth_token: 'hub', name: 'hub' });
    listener.say('SUB _INBOX.> 1\r\n');
    await listener.answers();
    asking.say('SUB _INBOX.hub.a 4\r\nPUB nobody _INBOX.hub.a 0\r\n\r\n');
    silent.say('SUB _INBOX.hub.b 5\r\nPUB nobody _INBOX.hub.b 0\r\n\r\n');
    expect(await asking.heard('\r\n\r\n\r\n')).toMatch(
      /^HMSG _INBOX\.hub\.a 4 (\d+) \1\r\nNATS\/1\.0 503\r\nNats-Subject: nobody\r\n\r\n\r\n$/,
    );
    await silent.answers();
    expect(await silent.answers()).toBe('');
    expect(await listener.answers()).toBe('');
    await expect(clients[1]!.nats.request('nobody.else')).rejects.toThrow(/no responders/i);
  });

  it('say which request nobody heard, when several wait at one subject', async () => {
    const asking = await RawClient.ready(hubs[0]!.broker, { auth_token: 'hub', name: 'hub' });
    asking.say('SUB r.* 1\r\nPUB none.1 r.a 0\r\n\r\nPUB none.2 r.a 0\r\n\r\n');
    await asking.heard('Nats-Subject: none.1');
    const both = await asking.heard('Nats-Subject: none.2');
    expect(both.match(/Nats-Subject: none\.\d/g)).toEqual([
      'Nats-Subject: none.1',
      'Nats-Subject: none.2',
    ]);
  });

  it('end subscriptions after as many messages as were asked for, and lose none', async () => {
    const limited: Msg[] = [];
    for (let n = 0; n < 10; n += 1) {
      clients[1]!.nats.subscribe('few', {
        queue: 'q',
        max: 3,
        callback: (_: unknown, message: Msg) => void limited.push(message),
      });
    }
    await known(clients[1]!);
    const rest = collect(clients[2]!.nats.subscribe('few', { queue: 'q' }));
    await known(clients[2]!);
    for (let n = 0; n < 300; n += 1) clients[1]!.nats.publish('few', String(n));
    await until('all have come', () => limited.length + rest.length >= 300);
    const ids = [...limited, ...rest].map((message) => Number(message.string()));
    expect(new Set(ids).size).toBe(300);
    expect(ids).toHaveLength(300);
    expect(limited.length).toBeLessThanOrEqual(30);
    expect(limited.length).toBeGreaterThan(0);
  });

  it('deliver all that was said before a maximum, as a server does', async () => {
    const raw = await RawClient.ready(hubs[0]!.broker, { auth_token: 'hub', name: 'hub' });
    const said = [1, 2, 3].map((n) => `PUB own.${n} 0\r\n\r\n`).join('');
    raw.say(`SUB own.* 1\r\n${said}UNSUB 1 1\r\nPUB own.4 0\r\n\r\n`);
    const heard = await raw.answers();
    expect(heard.match(/MSG own\.\d/g)).toEqual(['MSG own.1', 'MSG own.2', 'MSG own.3']);
    raw.say('PUB own.5 0\r\n\r\n');
    expect(await raw.answers()).not.toContain('MSG');
  });

  it('lose nothing when a member of a queue group drains', async () => {
    const leaving = collect(clients[0]!.nats.subscribe('leave', { queue: 'q' }));
    const staying = collect(clients[1]!.nats.subscribe('leave', { queue: 'q' }));
    const drained = await connectTo(hubs[0]!);
    const third = collect(drained.nats.subscribe('leave', { queue: 'q' }));
    for (const client of [drained, clients[0]!, clients[1]!]) await known(client);
    let drain: Promise<void> | undefined;
    for (let n = 0; n < 1_000; n += 1) {
      clients[0]!.nats.publish('leave', String(n));
      if (n % 100 === 99) await clients[0]!.nats.flush();
      if (n === 500) drain = drained.nats.drain();
    }
    await drain;
    const all = () => [...leaving, ...staying, ...third];
    await until('all have come', () => all().length >= 1_000);
    expect(new Set(all().map((message) => message.string())).size).toBe(1_000);
    expect(all()).toHaveLength(1_000);
    expect(third.length).toBeGreaterThan(0);
  });

  it('let nobody hear itself who does not want to', async () => {
    const quiet = await RawClient.ready(hubs[0]!.broker, {
      auth_token: 'hub',
      name: 'hub',
      echo: false,
    });
    const other = collect(clients[0]!.nats.subscribe('said'));
    await clients[0]!.nats.flush();
    quiet.say('SUB said 1\r\nPUB said 2\r\nhi\r\n');
    expect(await quiet.answers()).toBe('');
    await until('the other hears it', () => other.length === 1);
    clients[0]!.nats.publish('said', 'ho');
    expect(await quiet.heard('ho\r\n')).toBe('MSG said 1 2\r\nho\r\n');
    expect(hubs[0]!.status.links).toBe(2);
    quiet.connection.lost();
    await until('its link is gone', () => hubs[0]!.status.links === 1);
  });

  it('hold each at its edge to what it may do', async () => {
    const inside = await connectTo(hubs[0]!, 'space:p1');
    const stranger = await connectTo(hubs[1]!, 'space:p2');
    const user = await connectTo(hubs[1]!, 'user:ann');
    inside.nats.subscribe('greet', {
      callback: (_, message) => void message.respond('hello'),
    });
    await known(clients[0]!);
    await inside.nats.flush();
    const greeting = () => user.nats.request('space.p1.greet').catch(() => null);
    const answer = await waitFor('it answers', async () => (await greeting()) ?? false, {
      timeoutMs,
    });
    expect(answer.string()).toBe('hello');
    await expect(stranger.nats.request('greet')).rejects.toThrow(/no responders/i);
    await expect(user.nats.request('space.p2.greet')).rejects.toThrow(/permission/i);
    await expect(user.nats.request('elsewhere.x')).rejects.toThrow(/permission/i);
    const leaked = collect(stranger.nats.subscribe('>'));
    await stranger.nats.flush();
    await user.nats.request('space.p1.greet');
    const spied = await RawClient.ready(hubs[1]!.broker, { auth_token: 'user:ann' });
    spied.say('SUB _INBOX.> 1\r\n');
    expect(await spied.answers()).toMatch(/Permissions Violation for Subscription/);
    await stranger.nats.flush();
    expect(leaked).toHaveLength(0);
    // What was taken away ends at once, whoever publishes it wherever.
    spied.say('SUB space.p1.news 2\r\n');
    expect(await spied.answers()).toBe('');
    const tell = (): boolean => {
      inside.nats.publish('news');
      return spied.text.includes('MSG space.p1.news 2 0');
    };
    await waitFor('it is heard', tell, { timeoutMs, everyMs: 5 });
    await inside.nats.flush();
    await spied.answers();
    spied.forget();
    hubs[1]!.broker.updatePermissions('user-ann', nothing);
    inside.nats.publish('news');
    await inside.nats.flush();
    expect(await spied.answers()).toBe(
      `-ERR 'Permissions Violation for Subscription to "space.p1.news" (sid "2")'\r\n`,
    );
  });

  it('join parts of the processes themselves', async () => {
    const [here, there] = [hubs[0]!.broker.internal('a'), hubs[1]!.broker.internal('b')];
    there.subscribe('inside.>', '', ({ reply, payload }) => {
      there.publish({ to: reply, payload: Buffer.concat([payload, Buffer.from('!')]) });
    });
    await known(clients[1]!);
    const answers: string[] = [];
    here.subscribe('_INBOX.inside.*', '', ({ payload, headers: block }) => {
      answers.push(block ? block.toString('latin1') : payload.toString());
    });
    await known(clients[0]!);
    expect(
      here.publish({ to: 'inside.x', reply: '_INBOX.inside.1', payload: Buffer.from('a') }),
    ).toBe(1);
    await until('it is answered', () => answers.length === 1);
    here.publish({ to: 'outside', reply: '_INBOX.inside.2' });
    await until('nobody hears it', () => answers.length === 2);
    expect(answers[0]).toBe('a!');
    expect(answers[1]).toBe('NATS/1.0 503\r\nNats-Subject: outside\r\n\r\n');
    here.close();
    there.close();
  });

  it('store in the JetStream of the cluster', async () => {
    expect(clients[0]!.nats.info?.jetstream).toBe(true);
    const manager = await jetstreamManager(clients[0]!.nats);
    await manager.streams.add({ name: 'ORDERS', subjects: ['orders.>'], num_replicas: 3 });
    for (const client of clients) {
      // Each node has to learn of the stream.
      const publish = () => jetstream(client.nats).publish('orders.0', '0', { msgID: 'm0' });
      await waitFor(
        'the stream is known',
        () =>
          publish().then(
            () => true,
            () => false,
          ),
        { timeoutMs },
      );
    }
    for (let n = 1; n < 20; n += 1) {
      await jetstream(clients[n % 3]!.nats).publish(`orders.${n}`, String(n), { msgID: `m${n}` });
    }
    const again = await jetstream(clients[1]!.nats).publish('orders.1', 'x', { msgID: 'm1' });
    expect(again.duplicate).toBe(true);
    await manager.consumers.add('ORDERS', { durable_name: 'c', ack_policy: AckPolicy.Explicit });
    const consumer = await jetstream(clients[2]!.nats).consumers.get('ORDERS', 'c');
    const seen: string[] = [];
    const messages = await consumer.fetch({ max_messages: 20, expires: 10_000 });
    for await (const message of messages) {
      seen.push(message.string());
      expect(await message.ackAck()).toBe(true);
    }
    expect(seen).toEqual(Array.from({ length: 20 }, (_, n) => String(n)));
    const bucket = await new Kvm(clients[0]!.nats).create('settings', { replicas: 3 });
    await bucket.put('a', '1');
    const elsewhere = await new Kvm(clients[2]!.nats).open('settings');
    expect((await elsewhere.get('a'))?.string()).toBe('1');
  });

  it('refuse what would end the link for all', async () => {
    const before = hubs[0]!.status;
    const raw = await RawClient.ready(hubs[0]!.broker, { auth_token: 'space:p1' });
    // On the broker the subjects are longer than what the client says.
    const long = 'a'.repeat(2_030);
    raw.say(`SUB in 1\r\nPUB ${long} ${long} 0\r\n\r\n`);
    raw.say('SUB x a\rb 2\r\nPUB a\rb 0\r\n\r\nPUB in 2\r\nok\r\n');
    await raw.heard('MSG in 1 2\r\nok\r\n');
    expect(hubs[0]!.status.reconnects).toBe(before.reconnects);
    expect(hubs[0]!.status.errors).toBeGreaterThan(before.errors);
  });

  it('are measured', async () => {
    const text = await brokerMetrics(hubs[0]!.broker);
    expect(text).toMatch(/^conat_fabric_connected 1$/m);
    expect(text).toMatch(/^conat_fabric_reconnects_total 0$/m);
    expect(text).toMatch(/^conat_fabric_subscriptions [1-9]/m);
  });
});
