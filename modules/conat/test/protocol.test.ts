import { once } from 'node:events';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Broker, type BrokerLimitsInput } from '@rookery/conat';
import { Random } from '@rookery/core/testing';
import {
  AllowAllAuthenticator,
  startTestBroker,
  type TestBroker,
  RawClient,
} from '@rookery/conat/testing';
import { WebSocket } from 'ws';

const start = (limits: BrokerLimitsInput = {}): Broker =>
  new Broker({ authenticator: new AllowAllAuthenticator(), limits });

let network: TestBroker | null = null;
afterEach(async () => {
  await network?.close();
  network = null;
});

describe('greeting', () => {
  it('sends INFO first, with a nonce, headers, max_payload and never connect_urls', () => {
    const client = new RawClient(start());
    return client.heard('\r\n').then((text) => {
      expect(text).toMatch(/^INFO \{.*\} \r\n$/);
      const info = JSON.parse(text.slice(5)) as Record<string, unknown>;
      expect(info).toMatchObject({ headers: true, proto: 1, max_payload: 1_048_576 });
      expect(String(info['nonce']).length).toBeGreaterThan(15);
      expect(info['server_id']).toMatch(/^N[A-Z2-7]{55}$/);
      expect(info).not.toHaveProperty('connect_urls');
      // Whoever comes is let in: nothing has to be shown.
      expect(info).not.toHaveProperty('auth_required');
      expect(info['go']).toBe(`node${process.versions.node}`);
    });
  });

  it.each([
    ['PING\r\n', 'Authorization Violation'],
    ['SUB a 1\r\n', 'Authorization Violation'],
    ['NONSENSE\r\n', 'Authorization Violation'],
    ['CONNECT {"protocol":2}\r\n', 'invalid client protocol'],
    ['CONNECT {"no_responders":true}\r\n', 'no responders requires headers support'],
  ])('refuses %j before authentication', async (line, text) => {
    const client = new RawClient(start());
    client.say(line);
    await client.gone();
    expect(client.text).toContain(`-ERR '${text}'\r\n`);
  });

  it.each(['CONNECT {oops}\r\n', 'CONNECT\r\n', 'CONNECT {"name":5}\r\n'])(
    'closes without a word on %j',
    async (line) => {
      const client = new RawClient(start());
      client.say(line);
      await client.gone();
      expect(client.text).not.toContain('-ERR');
    },
  );

  it('cuts a client that never authenticates, and one that sends too much before', async () => {
    const slow = new RawClient(start({ authTimeoutMs: 30 }));
    await slow.gone();
    expect(slow.text).toContain("-ERR 'Authentication Timeout'\r\n");
    const flood = new RawClient(start({ preAuthBytesMax: 1_000 }));
    flood.say('CONNECT {}\r\n');
    flood.say('x'.repeat(2_000));
    await flood.gone();
    expect(flood.text).toContain("-ERR 'Authorization Violation'\r\n");
  });

  it('keeps what comes while the authenticator thinks', async () => {
    const client = new RawClient(start());
    client.say('CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 2\r\nhi\r\nPI');
    client.say('NG\r\n');
    expect(await client.heard('PONG\r\n')).toContain('MSG a 1 2\r\nhi\r\nPONG\r\n');
  });

  it('refuses more connections than its limits allow, in all, by address and by identity', async () => {
    const broker = start({ connectionsMax: 3, connectionsPerAddressMax: 2 });
    const kept = [
      new RawClient(broker, 'a'),
      new RawClient(broker, 'a'),
      new RawClient(broker, 'b'),
    ];
    for (const peer of ['a', 'c']) {
      const refused = new RawClient(broker, peer);
      await refused.gone();
      expect(refused.text).toContain("-ERR 'maximum connections exceeded'\r\n");
    }
    kept[0]!.connection.lost();
    expect(new RawClient(broker, 'a').closed).toBeNull();
    const one = start({ connectionsPerIdentityMax: 1 });
    await RawClient.ready(one, { name: 'n' });
    const second = new RawClient(one);
    second.say('CONNECT {"name":"n"}\r\n');
    await second.gone();
    expect(second.text).toContain("-ERR 'maximum connections exceeded'\r\n");
  });
});

describe('verbs', () => {
  it('answers +OK to each op when verbose, which is the default', async () => {
    const client = new RawClient(start());
    client.say('CONNECT {}\r\nSUB foo 1\r\nPUB foo 5\r\nhello\r\nUNSUB 1\r\nPING\r\n');
    const text = await client.heard('PONG');
    const [, ...lines] = text.split('\r\n');
    expect(lines.filter((line) => line === '+OK')).toHaveLength(4);
    expect(text).toContain('MSG foo 1 5\r\nhello\r\n');
  });

  it('takes verbs in any case, tabs and several spaces, and lone line feeds', async () => {
    const client = await RawClient.ready(start());
    client.say('sUb  foo\t1\r\npuB \t foo   2 \nhi\r\nPiNg\r\n');
    expect(await client.heard('PONG')).toBe('MSG foo 1 2\r\nhi\r\nPONG\r\n');
  });

  it('carries reply, headers and payload byte for byte', async () => {
    const client = await RawClient.ready(start());
    const payload = Buffer.from([0, 13, 10, 255, 13, 10, 0]);
    client.say('SUB a.> q.1\r\n');
    client.say(Buffer.concat([Buffer.from('PUB a.b re.ply 7\r\n'), payload, Buffer.from('\r\n')]));
    const header = 'NATS/1.0\r\nKey:  v\u00e9\r\n\r\n';
    const size = Buffer.byteLength(header);
    client.say(`HPUB a.c re ${size} ${size + 2}\r\n${header}ok\r\n`);
    client.say(`HPUB a.d ${size} ${size}\r\n${header}\r\nHPUB a.e 0 1\r\nx\r\n`);
    const text = Buffer.from(await client.answers(), 'latin1').toString('utf8');
    expect(text).toBe(
      `MSG a.b q.1 re.ply 7\r\n${payload.toString('utf8')}\r\n` +
        `HMSG a.c q.1 re ${size} ${size + 2}\r\n${header}ok\r\n` +
        `HMSG a.d q.1 ${size} ${size}\r\n${header}\r\nMSG a.e q.1 1\r\nx\r\n`,
    );
  });

  it('strips headers for a client that does not know them', async () => {
    const broker = start();
    const old = await RawClient.ready(broker, { headers: false, no_responders: false });
    old.say('SUB a 1\r\n');
    await old.answers();
    const client = await RawClient.ready(broker);
    client.say('HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n');
    expect(await old.heard('hi\r\n')).toBe('MSG a 1 r 2\r\nhi\r\n');
    old.say('HPUB a 12 14\r\n');
    expect((await old.gone()).code).toBe(1002);
  });

  it('does not echo when asked not to', async () => {
    const client = await RawClient.ready(start(), { echo: false });
    client.say('SUB a 1\r\nPUB a 0\r\n\r\n');
    expect(await client.answers()).toBe('');
  });

  it('ends a subscription after as many messages as it says, and at once without', async () => {
    const client = await RawClient.ready(start());
    client.say('SUB a 1\r\nUNSUB 1 2\r\n' + 'PUB a 1\r\nx\r\n'.repeat(3));
    expect((await client.answers()).match(/MSG/g)).toHaveLength(2);
    client.say('SUB a 2\r\nPUB a 1\r\nx\r\nUNSUB 2 1\r\nPUB a 1\r\nx\r\nUNSUB 99\r\n');
    expect((await client.answers()).match(/MSG/g)).toHaveLength(1);
  });

  it('keeps the first subscription of a sid', async () => {
    const client = await RawClient.ready(start());
    client.say('SUB a 1\r\nSUB b 1\r\nPUB a 0\r\n\r\nPUB b 0\r\n\r\n');
    expect(await client.answers()).toBe('MSG a 1 0\r\n\r\n');
  });

  it('says 503 to a request that nobody hears, on the subscription of its reply', async () => {
    const client = await RawClient.ready(start());
    client.say('SUB _INBOX.x.* 7\r\nPUB nobody _INBOX.x.1 0\r\n\r\n');
    const header = 'NATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n';
    expect(await client.answers()).toBe(
      `HMSG _INBOX.x.1 7 ${header.length} ${header.length}\r\n${header}\r\n`,
    );
    client.say('PUB nobody _INBOX.y.1 0\r\n\r\nSUB nobody q 8\r\nPUB nobody _INBOX.x.1 0\r\n\r\n');
    expect(await client.answers()).toBe('MSG nobody 8 _INBOX.x.1 0\r\n\r\n');
  });

  it('matches wildcards on token borders only', async () => {
    const client = await RawClient.ready(start());
    const filters = ['foo.*', 'foo.>', '*.bar', '>', 'foo', 'fo*', 'foo.bar', '*.*.baz', 'foo.b>'];
    client.say(filters.map((filter, i) => `SUB ${filter} ${i}\r\n`).join(''));
    const hears = async (subject: string): Promise<string[]> => {
      client.say(`PUB ${subject} 0\r\n\r\n`);
      const text = await client.answers();
      return [...text.matchAll(/MSG \S+ (\d)/g)].map((match) => filters[Number(match[1])]!).sort();
    };
    expect(await hears('foo')).toEqual(['>', 'foo']);
    expect(await hears('foo.bar')).toEqual(['*.bar', '>', 'foo.*', 'foo.>', 'foo.bar']);
    expect(await hears('foo.x.baz')).toEqual(['*.*.baz', '>', 'foo.>']);
    expect(await hears('fo*')).toEqual(['>', 'fo*']);
    expect(await hears('foo.b>')).toEqual(['>', 'foo.*', 'foo.>', 'foo.b>']);
    // The cache forgets what changed.
    client.say('UNSUB 0\r\n');
    expect(await hears('foo.bar')).toEqual(['*.bar', '>', 'foo.>', 'foo.bar']);
    client.say('SUB foo.* 0\r\n');
    expect(await hears('foo.bar')).toEqual(['*.bar', '>', 'foo.*', 'foo.>', 'foo.bar']);
  });

  it('finds new and removed inbox subscriptions behind the cache of prefixes', async () => {
    const client = await RawClient.ready(start());
    const ask = async (): Promise<string[]> => {
      client.say('PUB _INBOX.a.b.c 0\r\n\r\n');
      return [...(await client.answers()).matchAll(/MSG \S+ (\d+)/g)].map((m) => m[1]!).sort();
    };
    client.say('SUB _INBOX.a.b.* 1\r\n');
    expect(await ask()).toEqual(['1']);
    client.say('SUB _INBOX.a.b.c 2\r\n');
    expect(await ask()).toEqual(['1', '2']);
    client.say('SUB _INBOX.> 3\r\nSUB _INBOX.*.b.c 4\r\nSUB _INBOX.a.b.d 5\r\n');
    expect(await ask()).toEqual(['1', '2', '3', '4']);
    client.say('UNSUB 1\r\nUNSUB 4\r\n');
    expect(await ask()).toEqual(['2', '3']);
    client.say('UNSUB 2\r\nUNSUB 5\r\n');
    expect(await ask()).toEqual(['3']);
    client.say('SUB _INBOX.a.b.* 6\r\nUNSUB 3\r\n');
    expect(await ask()).toEqual(['6']);
  });

  it('gives each message to one member of a queue group, and spreads them', async () => {
    const client = await RawClient.ready(start());
    client.say('SUB a q 1\r\nSUB a q 2\r\nSUB a r 3\r\nSUB a 4\r\n');
    client.say('PUB a 0\r\n\r\n'.repeat(200));
    const text = await client.answers();
    const count = (sid: number): number => text.split(`MSG a ${sid} `).length - 1;
    expect(count(1) + count(2)).toBe(200);
    expect(count(1)).toBeGreaterThan(40);
    expect(count(2)).toBeGreaterThan(40);
    expect([count(3), count(4)]).toEqual([200, 200]);
  });
});

describe('errors', () => {
  it.each([
    ['FOO bar\r\n', 'Unknown Protocol Operation'],
    ['\r\n', 'Unknown Protocol Operation'],
    ['PUB a 3\r\nab\r\nX', 'Unknown Protocol Operation'],
    ['PUB a 2000000000\r\n', 'Maximum Payload Violation'],
    [
      'SUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1\r\n',
      'maximum control line exceeded',
    ],
    [
      'SUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
      'maximum control line exceeded',
    ],
  ])('closes on %j', async (line, text) => {
    const client = await RawClient.ready(start({ controlLineBytesMax: 128 }));
    client.say(line);
    await client.gone();
    expect(client.text).toBe(`-ERR '${text}'\r\n`);
  });

  it.each([
    'SUB a\r\n',
    'SUB a b c d\r\n',
    'PUB a\r\n',
    'PUB a x\r\n',
    'PUB a -1\r\n',
    'HPUB a 9 8\r\n',
  ])('closes without a word on %j', async (line) => {
    const client = await RawClient.ready(start());
    client.say(line);
    await client.gone();
    expect(client.text).toBe('');
  });

  it.each([
    ['SUB a..b 1\r\n', 'Invalid Subject'],
    ['SUB a.>.b 1\r\n', 'Invalid Subject'],
    ['SUB .a 1\r\n', 'Invalid Subject'],
    ['PUB a.* 0\r\n\r\n', 'Invalid Publish Subject'],
    ['PUB a..b 0\r\n\r\n', 'Invalid Publish Subject'],
  ])('goes on after %j', async (line, text) => {
    const client = await RawClient.ready(start(), { pedantic: true });
    client.say(line);
    expect(await client.answers()).toBe(`-ERR '${text}'\r\n`);
  });

  it('refuses subscriptions above the limit and goes on', async () => {
    const client = await RawClient.ready(start({ subscriptionsPerConnectionMax: 2 }));
    client.say('SUB a 1\r\nSUB b 2\r\nSUB c 3\r\nUNSUB 1\r\nSUB d 4\r\n');
    expect(await client.answers()).toBe("-ERR 'maximum subscriptions exceeded'\r\n");
  });

  it('pings, and cuts a client that does not answer', async () => {
    const client = await RawClient.ready(start({ pingEveryMs: 20, pingsOutMax: 2 }));
    await client.gone();
    expect(client.text).toBe("PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
    const alive = await RawClient.ready(start({ pingEveryMs: 20, pingsOutMax: 1 }));
    for (let i = 0; i < 4; i += 1) {
      await alive.heard('PING\r\n');
      alive.forget();
      alive.say('PONG\r\n');
    }
    expect(alive.closed).toBeNull();
  });

  it('cuts a slow consumer and nobody else', async () => {
    const broker = start({ pendingBytesMax: 100_000 });
    const slow = await RawClient.ready(broker);
    const other = await RawClient.ready(broker);
    slow.say('SUB a 1\r\n');
    other.say('SUB a 1\r\n');
    await slow.answers();
    slow.bufferedBytes = 100_001;
    other.say('PUB a 5\r\nhello\r\n');
    expect(await slow.gone()).toEqual({ code: 1008, reason: 'Slow Consumer' });
    expect(await other.answers()).toBe('MSG a 1 5\r\nhello\r\n');
    expect(broker.metrics.slowConsumers).toBe(1);
    expect(broker.subscriptionCount).toBe(1);
  });

  it('leaves nothing behind when a client is lost', async () => {
    const broker = start();
    const client = await RawClient.ready(broker);
    client.say('SUB a.b.c 1\r\nSUB a.* q 2\r\nSUB > 3\r\n');
    await client.answers();
    expect(broker.subscriptionCount).toBe(3);
    client.connection.lost();
    client.connection.lost();
    expect([broker.subscriptionCount, broker.connectionCount]).toEqual([0, 0]);
    expect(broker.identityNames()).toEqual([]);
  });
});

describe('frames', () => {
  it('sends one frame a tick, however many messages there are', async () => {
    const client = await RawClient.ready(start());
    client.say('SUB a 1\r\n');
    await client.answers();
    client.say('PUB a 3\r\nabc\r\n'.repeat(100));
    await client.heard('MSG');
    expect(client.frames).toEqual(['MSG a 1 3\r\nabc\r\n'.length * 100]);
  });

  it('cuts what is larger than a frame', async () => {
    const client = await RawClient.ready(start({ frameBytesMax: 16_384 }));
    client.say('SUB a 1\r\n');
    await client.answers();
    const payload = Buffer.alloc(100_000, 'xyz');
    client.say(Buffer.concat([Buffer.from('PUB a 100000\r\n'), payload, Buffer.from('\r\n')]));
    const text = await client.heard('x\r\n');
    expect(Math.max(...client.frames)).toBeLessThanOrEqual(16_384);
    expect(text).toBe(`MSG a 1 100000\r\n${payload.toString('latin1')}\r\n`);
  });

  it('reads the same however the bytes are split or joined', async () => {
    for (let seed = 1; seed <= 25; seed += 1) {
      const random = new Random(seed);
      const script = randomScript(random);
      const whole = await RawClient.ready(start());
      whole.say(script.bytes);
      const expected = await whole.answers();
      expect(expected.match(/H?MSG /g) ?? []).toHaveLength(script.deliveries);
      const split = await RawClient.ready(start());
      for (let at = 0; at < script.bytes.length;) {
        const size = random.chance(0.5) ? 1 + random.below(4) : 1 + random.below(300);
        split.say(script.bytes.subarray(at, at + size));
        at += size;
      }
      expect({ seed, text: await split.answers() }).toEqual({ seed, text: expected });
    }
  });

  it('writes the same bytes whatever the size of its frames', async () => {
    for (let seed = 1; seed <= 15; seed += 1) {
      const random = new Random(seed);
      const frameBytesMax = 4_096 + random.below(20_000);
      const sizes = Array.from({ length: 60 }, () =>
        Math.floor(random.chance(0.8) ? random.next() * 600 : random.next() * 5 * frameBytesMax),
      );
      const script = sizes.map((size) => `PUB a ${size}\r\n${'#'.repeat(size)}\r\n`).join('');
      const client = await RawClient.ready(start({ frameBytesMax, payloadBytesMax: 200_000 }));
      client.say('SUB a 1\r\n');
      await client.answers();
      for (let at = 0; at < script.length;) {
        const part = script.slice(at, at + 1 + random.below(60_000));
        client.say(part);
        at += part.length;
        if (random.chance(0.3)) await new Promise((resolve) => setImmediate(resolve));
      }
      client.say('PUB a 3\r\nend\r\n');
      const text = await client.heard('end\r\n');
      expect(Math.max(...client.frames)).toBeLessThanOrEqual(frameBytesMax);
      const expected = `${script}PUB a 3\r\nend\r\n`.replaceAll('PUB a ', 'MSG a 1 ');
      expect({ seed, same: text === expected }).toEqual({ seed, same: true });
    }
  });

  it('reads WebSocket frames that cut and join protocol lines anywhere', async () => {
    network = await startTestBroker();
    for (let seed = 1; seed <= 8; seed += 1) {
      const random = new Random(seed);
      const script = randomScript(random);
      const socket = new WebSocket(network.url, { perMessageDeflate: false });
      let received = Buffer.alloc(0);
      socket.on('message', (data: Buffer) => (received = Buffer.concat([received, data])));
      await once(socket, 'open');
      const bytes = Buffer.concat([
        Buffer.from('CONNECT {"verbose":false,"headers":true}\r\n'),
        script.bytes,
        Buffer.from('PING\r\n'),
      ]);
      for (let at = 0; at < bytes.length;) {
        const size = random.chance(0.3) ? 1 : 1 + random.below(2_000);
        // Frames may themselves be cut into fragments.
        const end = Math.min(bytes.length, at + size);
        const half = random.chance(0.2) ? at + Math.floor((end - at) / 2) : end;
        if (half < end) socket.send(bytes.subarray(at, half), { binary: true, fin: false });
        socket.send(bytes.subarray(half < end ? half : at, end), { binary: true, fin: true });
        at = end;
      }
      while (!received.includes('PONG\r\n')) await once(socket, 'message');
      const whole = await RawClient.ready(start());
      whole.say(script.bytes);
      const text = received
        .toString('latin1')
        .replace(/^INFO .*?\r\n/, '')
        .replace('PONG\r\n', '');
      expect({ seed, text }).toEqual({ seed, text: await whole.answers() });
      socket.terminate();
    }
  });

  it('survives noise: every stream of bytes is answered or cut, and nothing stays', async () => {
    const broker = start({ controlLineBytesMax: 256 });
    const words = [
      'PUB',
      'HPUB',
      'SUB',
      'UNSUB',
      'PING',
      'CONNECT {}',
      ' ',
      '\t',
      '\r\n',
      '\n',
      'a.b',
    ];
    for (let seed = 1; seed <= 300; seed += 1) {
      const random = new Random(seed);
      const client = await RawClient.ready(broker);
      for (let i = 0; i < 30 && !client.closed; i += 1) {
        const noise = random.chance(0.8)
          ? words[random.below(words.length)]!
          : String.fromCharCode(...Array.from({ length: 8 }, () => random.next() * 256));
        client.say(
          Buffer.from(random.chance(0.3) ? `${noise}${random.below(99)}` : noise, 'latin1'),
        );
      }
      client.connection.lost();
    }
    expect([broker.connectionCount, broker.subscriptionCount, broker.keptBytes()]).toEqual([
      0, 0, 0,
    ]);
  });

  it('does the same over a real WebSocket, byte by byte', async () => {
    network = await startTestBroker();
    const socket = new WebSocket(network.url, { perMessageDeflate: false });
    let text = '';
    socket.on('message', (data: Buffer, binary) => {
      expect(binary).toBe(true);
      text += data.toString('latin1');
    });
    await once(socket, 'open');
    const script = 'CONNECT {"verbose":false}\r\nSUB a 1\r\nPUB a 4\r\n\r\n\r\n\r\nPING\r\n';
    for (const byte of Buffer.from(script)) socket.send(Buffer.from([byte]));
    while (!text.includes('PONG')) await once(socket, 'message');
    expect(text.slice(text.indexOf('\r\n') + 2)).toBe('MSG a 1 4\r\n\r\n\r\n\r\nPONG\r\n');
    expect(socket.extensions).toBe('');
    socket.send('FOO\r\n');
    const [code, reason] = (await once(socket, 'close')) as [number, Buffer];
    expect([code, reason.toString()]).toEqual([1002, 'Unknown Protocol Operation']);
  });
});

describe('drain', () => {
  it('tells clients, takes nobody new, sends what waits, then closes', async () => {
    const broker = start();
    const client = await RawClient.ready(broker, { protocol: 1 });
    const drained = broker.drain(100);
    expect(await client.heard('INFO')).toContain('"ldm":true');
    const late = new RawClient(broker);
    await late.gone();
    expect(late.closed).toEqual({ code: 1001, reason: 'Server Shutdown' });
    expect(late.text).not.toContain('-ERR');
    client.say('SUB a 1\r\nPUB a 2\r\nhi\r\n');
    await drained;
    expect(client.text).toContain('MSG a 1 2\r\nhi\r\n');
    expect(client.closed).toEqual({ code: 1001, reason: 'Server Shutdown' });
    expect(broker.connectionCount).toBe(0);
  });

  it('ends as soon as the last client has left', async () => {
    const broker = start();
    const client = await RawClient.ready(broker);
    const drained = broker.drain(60_000);
    client.connection.lost();
    await drained;
  });
});

/** Random ops, and how many messages a correct broker delivers for them. */
function randomScript(random: Random): { bytes: Buffer; deliveries: number } {
  const subjects = ['a', 'a.b', 'a.b.c', 'x.y', '_INBOX.q.w.1'];
  const parts: Buffer[] = [];
  const subscribed = new Map<number, string>();
  let deliveries = 0;
  for (let i = 0; i < 60; i += 1) {
    const subject = subjects[random.below(subjects.length)]!;
    const dice = random.next();
    if (dice < 0.2) {
      subscribed.set(i, subject);
      parts.push(Buffer.from(`SUB ${subject} ${i}\r\n`));
    } else if (dice < 0.3 && subscribed.size > 0) {
      const sid = [...subscribed.keys()][0]!;
      subscribed.delete(sid);
      parts.push(Buffer.from(`UNSUB ${sid}\r\n`));
    } else {
      const payload = Buffer.from(
        Array.from({ length: random.below(200) }, () => random.below(256)),
      );
      const reply = random.chance(0.3) ? ' some.reply' : '';
      const header = 'NATS/1.0\r\nA: b\r\n\r\n';
      const line = random.chance(0.3)
        ? `HPUB ${subject}${reply} ${header.length} ${header.length + payload.length}\r\n${header}`
        : `PUB ${subject}${reply} ${payload.length}\r\n`;
      parts.push(Buffer.from(line), payload, Buffer.from('\r\n'));
      for (const other of subscribed.values()) if (other === subject) deliveries += 1;
    }
  }
  return { bytes: Buffer.concat(parts), deliveries };
}
