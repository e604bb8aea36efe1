import { afterEach, describe, expect, it } from '@jest/globals';
import { wsconnect, type NatsConnection } from '@nats-io/nats-core';
import { newId, waitFor } from '@rookery/core';
import { Broker, type InternalClient, type InternalMessage } from '@rookery/conat';
import { projectIdentity } from '@rookery/fleet';
import { projectSpaceRoot } from '@rookery/fleet/contract';
import { ProjectTokenAuthenticator } from '@rookery/fleet/testing';
import { startTestBroker, type TestBroker, RawClient } from '@rookery/conat/testing';

const [P, Q, A] = [newId(), newId(), newId()] as [string, string, string];
const authenticator = new ProjectTokenAuthenticator({ [A]: [{ projectId: P, role: 'owner' }] });
const ackTail = 'S.C.1.2.3.4.5';

interface Space {
  readonly broker: Broker;
  readonly service: InternalClient;
  readonly enter: (token: string, options?: object) => Promise<RawClient>;
  readonly inP: (options?: object) => Promise<RawClient>;
}

function open(limits = {}): Space {
  const broker = new Broker({ authenticator, limits, spaceRoot: projectSpaceRoot });
  const enter = (auth_token: string, options = {}): Promise<RawClient> =>
    RawClient.ready(broker, { auth_token, ...options });
  return {
    broker,
    service: broker.internal('service'),
    enter,
    inP: (options) => enter(`project:${P}`, options),
  };
}

/** What a client that listens to everything of the broker would see. */
function watchAll({ service }: Space): { subject: string; reply: string }[] {
  const seen: { subject: string; reply: string }[] = [];
  service.subscribe('>', '', ({ subject, reply }: InternalMessage) => {
    seen.push({ subject, reply });
    return false;
  });
  return seen;
}

describe('what a rooted connection says', () => {
  it.each([
    ['orders.1', `project.${P}.orders.1`],
    ['$KV.b.k', `project.${P}.$KV.b.k`],
    ['$JS.API.STREAM.INFO.S', `project.${P}.js.api.STREAM.INFO.S`],
    ['$JS.API', `project.${P}.$JS.API`],
    ['$JS.EVENT.x', `project.${P}.$JS.EVENT.x`],
    [`$JS.ACK.${ackTail}`, `$JS.ACK._.${P}.${ackTail}`],
    [`$JS.ACK._.${P}.${ackTail}`, `$JS.ACK._.${P}.${ackTail}`],
    [`$JS.ACK._.${P}.${ackTail}.random`, `$JS.ACK._.${P}.${ackTail}.random`],
    ['$JS.FC.S.C.x1', `$JS.FC._.${P}.S.C.x1`],
    [`$JS.FC._.${P}.S.C.x1`, `$JS.FC._.${P}.S.C.x1`],
    ['_INBOX.abc.1', `_INBOX.project-${P}.abc.1`],
    ['_INBOX', `project.${P}._INBOX`],
    ['my-inbox.abc.1', `project.${P}.my-inbox.abc.1`],
    // Nothing of others can be named.
    [`project.${Q}.x`, `project.${P}.project.${Q}.x`],
    [`$JS.ACK._.${Q}.${ackTail}`, `project.${P}.$JS.ACK._.${Q}.${ackTail}`],
    [`$JS.ACK._.${Q}.${ackTail}.random`, `project.${P}.$JS.ACK._.${Q}.${ackTail}.random`],
    [`$JS.FC._.${Q}.S.C.x1`, `project.${P}.$JS.FC._.${Q}.S.C.x1`],
    [`_INBOX.account-${A}.x`, `_INBOX.project-${P}.account-${A}.x`],
    ['_R_.1', `project.${P}._R_._.1`],
    ['hosts.register', `project.${P}.hosts.register`],
    ['$SYS.REQ.x', `project.${P}.$SYS.REQ.x`],
    ['>', `project.${P}.>`],
  ])('%s is %s on the broker, also as a reply', async (said, there) => {
    const space = open();
    const seen = watchAll(space);
    const client = await space.inP();
    client.say(`PUB ${said} ${said} 0\r\n\r\nPUB ${said} 0\r\n\r\n`);
    expect(await client.answers()).toBe('');
    expect(seen).toEqual([
      { subject: there, reply: there },
      { subject: there, reply: '' },
    ]);
  });

  it('keeps the rest of the line, whoever hears it', async () => {
    const { service, inP, enter } = open();
    const heard: InternalMessage[] = [];
    service.subscribe(`project.${P}.x`, '', (message) => {
      const { headers, payload } = message;
      heard.push({
        ...message,
        headers: headers && Buffer.from(headers),
        payload: Buffer.from(payload),
      });
    });
    const account = await enter(`account:${A}`);
    const plain = await enter(`account:${A}`, { headers: false, no_responders: false });
    for (const each of [account, plain]) {
      each.say(`SUB project.${P}.x 1\r\n`);
      await each.answers();
    }
    const client = await inP();
    const header = 'NATS/1.0\r\na: b\r\n\r\n';
    client.say(`HPUB  x   _INBOX.r.1  ${header.length}  ${header.length + 3}\r\n${header}abc\r\n`);
    await client.answers();
    const from = projectIdentity(P);
    const reply = `_INBOX.project-${P}.r.1`;
    const subject = `project.${P}.x`;
    const payload = Buffer.from('abc');
    expect(heard).toEqual([{ subject, reply, headers: Buffer.from(header), payload, from }]);
    const sizes = `${header.length} ${header.length + 3}`;
    expect(await account.answers()).toBe(`HMSG ${subject} 1 ${reply} ${sizes}\r\n${header}abc\r\n`);
    expect(await plain.answers()).toBe(`MSG ${subject} 1 ${reply} 3\r\nabc\r\n`);
  });
});

describe('what a rooted connection hears', () => {
  const said = [
    'a',
    'a.b',
    'js.x',
    '$JS.API.INFO',
    '$JS.API.STREAM.INFO.S',
    `$JS.ACK.${ackTail}`,
    '$JS.FC.S.C.x1',
    '$JS.EVENT.x',
    '_INBOX.abc.1',
    '_INBOX.abc',
  ];
  it.each([
    ['>', said],
    ['*', ['a']],
    ['*.*', ['a.b', 'js.x', '_INBOX.abc']],
    ['a.>', ['a.b']],
    ['*.*.*', ['$JS.API.INFO', '$JS.EVENT.x', '_INBOX.abc.1']],
    ['*.API.>', ['$JS.API.INFO', '$JS.API.STREAM.INFO.S']],
    ['*.*.INFO', ['$JS.API.INFO']],
    ['$JS.*.INFO', ['$JS.API.INFO']],
    ['$JS.>', said.filter((subject) => subject.startsWith('$JS'))],
    ['$JS.API.>', ['$JS.API.INFO', '$JS.API.STREAM.INFO.S']],
    ['$JS.ACK.S.C.>', [`$JS.ACK.${ackTail}`]],
    ['$JS.FC.>', ['$JS.FC.S.C.x1']],
    ['_INBOX.>', ['_INBOX.abc.1', '_INBOX.abc']],
    ['_INBOX.abc.*', ['_INBOX.abc.1']],
    ['$JS', []],
  ])('with %s is what an account of NATS would hear, once', async (filter, heard) => {
    const { inP } = open();
    const listener = await inP();
    listener.say(`SUB ${filter} 1\r\n`);
    expect(await listener.answers()).toBe('');
    const speaker = await inP();
    for (const subject of said) speaker.say(`PUB ${subject} 0\r\n\r\n`);
    await speaker.answers();
    expect(await listener.answers()).toBe(
      heard.map((subject) => `MSG ${subject} 1 0\r\n\r\n`).join(''),
    );
  });

  it('with > is nothing of other projects, accounts, inboxes or of Rookery’s own services', async () => {
    const { broker, inP, enter, service } = open();
    const client = await inP();
    client.say('SUB > 1\r\nSUB *.> 2\r\nSUB *.*.> 3\r\nSUB _R_.> 4\r\nSUB project.> 5\r\n');
    await client.answers();
    const other = await enter(`project:${Q}`);
    for (const subject of ['a', '$JS.API.INFO', `$JS.ACK.${ackTail}`, '_INBOX.x.1', '_R_.1']) {
      other.say(`PUB ${subject} 0\r\n\r\n`);
    }
    other.say(`PUB project.${P}.a 0\r\n\r\nPUB _INBOX.project-${P}.x 0\r\n\r\n`);
    await other.answers();
    for (const to of [
      `_INBOX.account-${A}.x`,
      `_INBOX.hub.x`,
      `account.${A}.x`,
      `project.${P}.fs.read`,
      `project.${P}.terminal.open`,
      `project.${Q}.x`,
      `hosts.x`,
      `host.x.y`,
    ]) {
      service.publish({ to });
    }
    expect(await client.answers()).toBe('');
    expect(broker.interest(`project.${P}.fs.read`)).toBe(false);
    client.say('SUB fs.read q 9\r\nSUB fs.> 10\r\n');
    expect(await client.answers()).toBe(
      `-ERR 'Permissions Violation for Subscription to "fs.read" using queue "q"'\r\n` +
        `-ERR 'Permissions Violation for Subscription to "fs.>"'\r\n`,
    );
  });

  it('counts towards one maximum, through whichever part it came', async () => {
    const { broker, inP } = open();
    const before = broker.subscriptionCount;
    const client = await inP();
    client.say('SUB > 1\r\nUNSUB 1 3\r\nSUB > 2\r\n');
    await client.answers();
    const speaker = await inP();
    speaker.say('PUB a 0\r\n\r\nPUB _INBOX.x.1 0\r\n\r\nPUB $JS.FC.S.C.x 0\r\n\r\n');
    speaker.say('PUB a 0\r\n\r\n');
    await speaker.answers();
    const heard = await client.answers();
    expect(heard.match(/ 1 0\r\n/g)).toHaveLength(3);
    expect(heard.match(/ 2 0\r\n/g)).toHaveLength(4);
    client.say('UNSUB 2\r\n');
    await client.answers();
    expect(broker.subscriptionCount).toBe(before);
  });

  it('is shared by the members of a queue', async () => {
    const { inP, service } = open();
    const clients = [await inP(), await inP()];
    for (const client of clients) {
      client.say('SUB work.* q 1\r\n');
      await client.answers();
    }
    for (let i = 0; i < 50; i += 1) service.publish({ to: `project.${P}.work.${i}` });
    const counts = [];
    for (const client of clients) {
      counts.push((await client.answers()).match(/MSG/g)?.length ?? 0);
    }
    expect(counts[0]! + counts[1]!).toBe(50);
    expect(Math.min(...counts)).toBeGreaterThan(0);
  });
});

describe('replies', () => {
  it('reach somebody outside by a name that only this connection knows', async () => {
    const { inP, enter } = open();
    const [server, stranger, account] = [
      await inP(),
      await inP(),
      await enter(`account:${A}`),
    ] as const;
    server.say('SUB ask 1\r\n');
    await server.answers();
    account.say(
      `SUB _INBOX.account-${A}.> 7\r\nPUB project.${P}.ask _INBOX.account-${A}.r1 2\r\nhi\r\n`,
    );
    await account.answers();
    expect(await server.answers()).toBe('MSG ask 1 _R_.1 2\r\nhi\r\n');
    stranger.say('PUB _R_.1 3\r\nbad\r\nPUB _R_.2 3\r\nbad\r\n');
    expect(await stranger.answers()).toBe('');
    expect(await account.answers()).toBe('');
    server.say('PUB _R_.1 2\r\nok\r\n');
    expect(await server.answers()).toBe('');
    expect(await account.answers()).toBe(`MSG _INBOX.account-${A}.r1 7 2\r\nok\r\n`);
  });

  it('may be handed on to another connection of the project', async () => {
    const { inP, enter } = open();
    const [first, second, account] = [await inP(), await inP(), await enter(`account:${A}`)];
    first.say('SUB ask 1\r\n');
    second.say('SUB work 1\r\n');
    await first.answers();
    await second.answers();
    account.say(
      `SUB _INBOX.account-${A}.> 7\r\nPUB project.${P}.ask _INBOX.account-${A}.r1 0\r\n\r\n`,
    );
    await account.answers();
    await first.answers();
    first.say('PUB work _R_.1 0\r\n\r\n');
    expect(await first.answers()).toBe('');
    expect(await second.answers()).toBe('MSG work 1 _R_.1 0\r\n\r\n');
    second.say('PUB _R_.1 2\r\nok\r\n');
    await second.answers();
    expect(await account.answers()).toBe(`MSG _INBOX.account-${A}.r1 7 2\r\nok\r\n`);
  });

  it('are forgotten when there are too many, and then lead nowhere', async () => {
    const { inP, enter } = open({ replyGrantsMax: 2 });
    const [server, account] = [await inP(), await enter(`account:${A}`)] as const;
    server.say('SUB ask 1\r\n');
    await server.answers();
    account.say(`SUB _INBOX.account-${A}.> 7\r\n`);
    for (let i = 1; i <= 3; i += 1) {
      account.say(`PUB project.${P}.ask _INBOX.account-${A}.r${i} 0\r\n\r\n`);
    }
    await account.answers();
    await server.answers();
    server.say('PUB _R_.1 0\r\n\r\nPUB _R_.3 0\r\n\r\n');
    await server.answers();
    expect(await account.answers()).toBe(`MSG _INBOX.account-${A}.r3 7 0\r\n\r\n`);
  });

  it('show no aliases for what lies inside', async () => {
    const { inP, service } = open();
    const client = await inP();
    client.say('SUB x 1\r\n');
    await client.answers();
    const to = `project.${P}.x`;
    for (const reply of [
      `$JS.ACK._.${P}.${ackTail}`,
      `$JS.ACK._.${P}.${ackTail}.random`,
      `$JS.FC._.${P}.S.C.x1`,
      `_INBOX.project-${P}.i.1`,
      `project.${P}.r`,
      `project.${P}.js.api.CONSUMER.X`,
    ]) {
      service.publish({ to, reply });
    }
    expect((await client.answers()).match(/ 1 (\S+) 0/g)).toEqual([
      ` 1 $JS.ACK.${ackTail} 0`,
      ` 1 $JS.ACK.${ackTail} 0`,
      ' 1 $JS.FC.S.C.x1 0',
      ' 1 _INBOX.i.1 0',
      ' 1 r 0',
      ' 1 $JS.API.CONSUMER.X 0',
    ]);
  });

  it('say that nobody is there in the client’s own words', async () => {
    const { inP, enter } = open();
    const client = await inP();
    client.say('SUB _INBOX.i.* 1\r\nPUB $JS.API.INFO _INBOX.i.1 0\r\n\r\n');
    expect(await client.answers()).toBe(
      'HMSG _INBOX.i.1 1 44 44\r\nNATS/1.0 503\r\nNats-Subject: $JS.API.INFO\r\n\r\n\r\n',
    );
    const account = await enter(`account:${A}`);
    const asked = `project.${P}.js.api.$KV.b.k`;
    account.say(`SUB _INBOX.account-${A}.* 1\r\nPUB ${asked} _INBOX.account-${A}.1 0\r\n\r\n`);
    expect(await account.answers()).toContain(`Nats-Subject: ${asked}\r\n`);
  });
});

describe('an unrooted connection with the project’s apiPrefix', () => {
  it('puts keys where the project has them', async () => {
    const space = open();
    const [inside, account] = [await space.inP(), await space.enter(`account:${A}`)] as const;
    inside.say('SUB $KV.b.> 1\r\n');
    await inside.answers();
    account.say(`PUB project.${P}.js.api.$KV.b.k 1\r\nv\r\n`);
    expect(await account.answers()).toBe('');
    expect(await inside.answers()).toBe('MSG $KV.b.k 1 1\r\nv\r\n');
  });
});

describe('a part of the process', () => {
  it('shows another subject than the one that is listened on', async () => {
    const { inP, enter, service } = open();
    const [inside, account] = [await inP(), await enter(`account:${A}`)] as const;
    inside.say('SUB deliver 1\r\nSUB _INBOX.i.> 2\r\n');
    account.say(`SUB _INBOX.account-${A}.d 3\r\n`);
    await inside.answers();
    await account.answers();
    const reply = `$JS.ACK._.${P}.${ackTail}`;
    const body = { shown: 'orders.1', reply, payload: Buffer.from('hi') };
    expect(service.publish({ to: `project.${P}.deliver`, ...body })).toBe(1);
    expect(service.publish({ to: `_INBOX.project-${P}.i.d`, ...body })).toBe(1);
    expect(service.publish({ to: `_INBOX.account-${A}.d`, ...body })).toBe(1);
    expect(service.publish({ to: `project.${Q}.deliver`, ...body })).toBe(0);
    expect(await inside.answers()).toBe(
      `MSG orders.1 1 $JS.ACK.${ackTail} 2\r\nhi\r\nMSG orders.1 2 $JS.ACK.${ackTail} 2\r\nhi\r\n`,
    );
    expect(await account.answers()).toBe(`MSG orders.1 3 ${reply} 2\r\nhi\r\n`);
  });

  it('sends many at once, in order, and stops when the last listener goes', async () => {
    const { inP, service } = open();
    const client = await inP();
    client.say('SUB d 1\r\nUNSUB 1 3\r\n');
    await client.answers();
    const bodies = Array.from({ length: 10 }, (_, i) => ({
      shown: `s.${i}`,
      headers: i % 2 ? Buffer.from('NATS/1.0\r\n\r\n') : null,
      payload: Buffer.from(String(i)),
    }));
    expect(service.publishBatch(`project.${P}.d`, bodies)).toBe(3);
    expect(await client.answers()).toBe(
      'MSG s.0 1 1\r\n0\r\nHMSG s.1 1 12 13\r\nNATS/1.0\r\n\r\n1\r\nMSG s.2 1 1\r\n2\r\n',
    );
  });

  it('hears, answers from within, and may leave a message to others', async () => {
    const { inP, service } = open();
    const big = Buffer.alloc(100_000, 'x');
    service.subscribe(`project.*.echo`, 'q', ({ reply, payload, from }) => {
      if (payload.length === 0) return false;
      expect(from.name).toBe(`project-${P}`);
      expect(service.publish({ to: reply, payload })).toBe(1);
      return true;
    });
    const end = service.subscribe(`project.*.big`, '', ({ reply }) => {
      service.publish({ to: reply, payload: big });
    });
    const client = await inP();
    client.say('SUB _INBOX.i.* 1\r\nPUB echo _INBOX.i.1 2\r\nhi\r\nPUB echo _INBOX.i.2 0\r\n\r\n');
    const heard = await client.answers();
    expect(heard).toContain('MSG _INBOX.i.1 1 2\r\nhi\r\n');
    expect(heard).toContain('HMSG _INBOX.i.2 1 ');
    client.say('PUB big _INBOX.i.3 0\r\n\r\n');
    expect((await client.answers()).length).toBe(
      `MSG _INBOX.i.3 1 100000\r\n\r\n`.length + 100_000,
    );
    end();
    client.say('PUB big _INBOX.i.4 0\r\n\r\n');
    expect(await client.answers()).toContain('503');
    service.close();
    client.say('PUB echo _INBOX.i.5 2\r\nhi\r\n');
    expect(await client.answers()).toContain('503');
  });

  it('is told when interest begins and ends, however it is expressed', async () => {
    const { inP, service } = open();
    const inbox = `_INBOX.project-${P}.i.1`;
    const events: string[] = [];
    const ends = [
      service.watchInterest(inbox, (present) => events.push(`inbox ${present}`)),
      service.watchInterest(`project.${P}.d`, (present) => events.push(`d ${present}`)),
    ];
    service.subscribe('>', '', () => undefined);
    const client = await inP();
    const happened = async (text: string): Promise<void> => {
      client.say(text);
      await client.answers();
    };
    await happened('SUB _INBOX.i.* 1\r\n');
    expect(service.interest(inbox)).toBe(true);
    await happened('SUB _INBOX.i.1 2\r\nUNSUB 1\r\n');
    expect(events.splice(0)).toEqual(['inbox true']);
    await happened('UNSUB 2\r\n');
    expect(events.splice(0)).toEqual(['inbox false']);
    await happened('SUB d 3\r\n');
    await happened('SUB > 4\r\n');
    await happened('UNSUB 3\r\n');
    expect(events.splice(0)).toEqual(['d true', 'inbox true']);
    client.connection.lost();
    await waitFor('both ends', () => events.length === 2, { timeoutMs: 3_000, everyMs: 2 });
    expect(events.splice(0).sort()).toEqual(['d false', 'inbox false']);
    for (const end of ends) end();
    await inP().then((next) => next.say('SUB > 1\r\n'));
    expect(events).toEqual([]);
    expect(service.interest(inbox)).toBe(true);
  });
});

describe('clients of NATS with default options', () => {
  let network: TestBroker | null = null;
  const clients: NatsConnection[] = [];
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.close()));
    await network?.close();
    network = null;
  });

  it('talk to each other and to accounts, and to nobody else', async () => {
    network = await startTestBroker({ spaceRoot: projectSpaceRoot, authenticator });
    const connect = async (token: string, options = {}): Promise<NatsConnection> => {
      const client = await wsconnect({ servers: network!.url, token, ...options });
      clients.push(client);
      return client;
    };
    const [server, peer, other, custom, account] = await Promise.all([
      connect(`project:${P}`),
      connect(`project:${P}`),
      connect(`project:${Q}`),
      connect(`project:${P}`, { inboxPrefix: 'replies.of.mine' }),
      connect(`account:${A}`, { inboxPrefix: `_INBOX.account-${A}` }),
    ]);
    server.subscribe('echo', { callback: (_, message) => void message.respond(message.data) });
    await server.flush();
    for (const [client, subject] of [
      [peer, 'echo'],
      [custom, 'echo'],
      [account, `project.${P}.echo`],
    ] as const) {
      const reply = await client.request(subject, 'hello', { timeout: 3_000 });
      expect(reply.string()).toBe('hello');
    }
    await expect(other.request('echo', 'hello', { timeout: 3_000 })).rejects.toThrow(
      'no responders',
    );
  });
});
