import { describe, expect, it } from '@jest/globals';
import { Broker, brokerMetrics, type BrokerLimitsInput } from '@rookery/conat';
import { AllowAllAuthenticator, RawClient } from '@rookery/conat/testing';
import { waitFor } from '@rookery/core';

const start = (limits: BrokerLimitsInput = {}): Broker =>
  new Broker({ authenticator: new AllowAllAuthenticator(), limits });

const count = (text: string, part: string): number => text.split(part).length - 1;
const publish = 'PUB a 0\r\n\r\n';
const patient = { timeoutMs: 30_000, everyMs: 5 };

describe('rates', () => {
  it('reads a client more slowly that publishes more than its identity may, and drops nothing', async () => {
    const rate = 2_000;
    const total = 2.5 * rate;
    const broker = start({ publishesPerSecondMax: rate });
    const [loud, listener] = [
      await RawClient.ready(broker, { name: 'loud' }),
      await RawClient.ready(broker, { name: 'listener' }),
    ];
    listener.say('SUB a 1\r\n');
    await listener.answers();
    loud.say(publish.repeat(total) + 'PING\r\n');
    expect(loud.paused).toBe(true);
    const taken = broker.metrics.messagesIn;
    expect(taken).toBeGreaterThanOrEqual(rate);
    expect(taken).toBeLessThan(total);
    // Others are not held back meanwhile.
    listener.say(publish);
    await listener.answers();
    expect(loud.text).not.toContain('PONG');
    await waitFor('all was taken', () => loud.text.includes('PONG'), patient);
    expect(loud.text).toBe('PONG\r\n');
    expect(broker.metrics.messagesIn).toBe(total + 1);
    expect(broker.metrics.messagesOut).toBe(total + 1);
    expect(broker.metrics.throttled).toBeGreaterThan(0);
    expect(loud.closed).toBeNull();
    const text = await brokerMetrics(broker);
    expect(text).toContain(`conat_messages_in_total ${total + 1}`);
    expect(text).toMatch(/conat_throttled_total [1-9]/);
  });

  it('counts all connections of an identity together, also a new one', async () => {
    const broker = start({ publishesPerSecondMax: 1_000 });
    const first = await RawClient.ready(broker, { name: 'one' });
    first.say(publish.repeat(3_000));
    expect(first.paused).toBe(true);
    const second = await RawClient.ready(broker, { name: 'one' });
    second.say(publish.repeat(950));
    expect(second.paused).toBe(true);
    first.connection.lost();
    second.connection.lost();
    expect(broker.identityNames()).toEqual([]);
    const third = await RawClient.ready(broker, { name: 'one' });
    third.say(publish.repeat(990));
    expect(third.paused).toBe(true);
    const other = await RawClient.ready(broker, { name: 'other' });
    other.say(publish);
    expect(other.paused).toBe(false);
  });

  it('counts requests apart', async () => {
    const broker = start({ requestsPerSecondMax: 500 });
    const client = await RawClient.ready(broker, { name: 'asker' });
    client.say(publish.repeat(5_000));
    expect(client.paused).toBe(false);
    client.say('PUB a r 0\r\n\r\n'.repeat(1_500));
    expect(client.paused).toBe(true);
  });

  it('bounds how often a connection may change its subscriptions', async () => {
    const broker = start({ operationsPerSecondMax: 1_000 });
    const client = await RawClient.ready(broker);
    client.say('SUB a 1\r\nUNSUB 1\r\n'.repeat(1_200));
    expect(client.paused).toBe(true);
    await waitFor('it is read again', () => !client.paused, patient);
    expect(await client.answers()).toBe('');
  });

  it('does not call a client stale that it does not read', async () => {
    const broker = start({ publishesPerSecondMax: 200, pingEveryMs: 10, pingsOutMax: 1 });
    const client = await RawClient.ready(broker);
    client.say(publish.repeat(420));
    expect(client.paused).toBe(true);
    client.say('PONG\r\n'.repeat(2));
    await waitFor('it is read again', () => broker.metrics.messagesIn === 420, patient);
    expect(client.closed).toBeNull();
  });

  it('cuts a client that pours out PINGs', async () => {
    const broker = start({ pingsWaitingMax: 100 });
    const client = await RawClient.ready(broker);
    client.say('PING\r\n'.repeat(100));
    await waitFor('all are answered', () => count(client.text, 'PONG\r\n') === 100, patient);
    client.forget();
    client.say('PING\r\n'.repeat(101));
    expect((await client.gone()).code).toBe(1008);
    expect(client.text).toContain("-ERR 'maximum pings exceeded'\r\n");
    expect(broker.metrics.closed['maximum pings exceeded']).toBe(1);
  });
});

describe('subjects', () => {
  const deep = Array.from({ length: 9 }, () => 'x').join('.');

  it('refuses what is too deep or too long to publish, to reply to or to subscribe', async () => {
    const broker = start({ subjectTokensMax: 8, subjectBytesMax: 64 });
    const client = await RawClient.ready(broker);
    const long = 'y'.repeat(65);
    client.say('SUB > 1\r\n');
    for (const subject of [deep, long]) {
      client.say(`PUB ${subject} 0\r\n\r\nPUB a ${subject} 0\r\n\r\nSUB ${subject} 2\r\n`);
      expect(await client.answers()).toBe(
        `-ERR 'Permissions Violation for Publish to "${subject}"'\r\n` +
          `-ERR 'Permissions Violation for Publish with Reply of "${subject}"'\r\n` +
          `-ERR 'Permissions Violation for Subscription to "${subject}", too many tokens'\r\n`,
      );
    }
    const longest = `${'z'.repeat(49)}.a.b.c.d.e.f.g`;
    client.say(`PUB ${longest} 1\r\nx\r\n`);
    expect(await client.answers()).toBe(`MSG ${longest} 1 1\r\nx\r\n`);
    expect(broker.metrics.violations).toBe(4);
  });
});

describe('subscriptions', () => {
  it('refuses those above the limit, and cuts a client that goes on', async () => {
    const broker = start({ subscriptionsPerConnectionMax: 10, subscriptionRefusalsMax: 5 });
    const client = await RawClient.ready(broker);
    for (let i = 0; i < 100; i += 1) client.say(`SUB a ${i}\r\n`);
    expect((await client.gone()).code).toBe(1008);
    expect(count(client.text, "-ERR 'maximum subscriptions exceeded'\r\n")).toBe(5);
    expect(broker.metrics.closed['maximum subscriptions exceeded']).toBe(1);
    expect(broker.subscriptionCount).toBe(0);
  });
});

describe('metrics', () => {
  it('renders everything without a label that grows', async () => {
    const broker = start({ pingEveryMs: 20, pingsOutMax: 1_000 });
    const client = await RawClient.ready(broker, { name: 'someone' });
    client.say('SUB secret.subject 1\r\nPUB nobody secret.reply 0\r\n\r\n');
    await waitFor(
      'a round trip is counted',
      async () => {
        client.say('PONG\r\n');
        return /conat_ping_seconds_bucket\{le="\+Inf"\} [1-9]/.test(await brokerMetrics(broker));
      },
      patient,
    );
    client.connection.lost();
    const text = await brokerMetrics(broker);
    expect(text).toContain('conat_connections_opened_total{transport="memory"} 1');
    expect(text).toContain('conat_connections_closed_total{reason="client closed"} 1');
    expect(text).toContain('conat_no_responders_total 1');
    expect(text).toMatch(/conat_subscriptions 0\n/);
    expect(text).not.toMatch(/secret|someone/);
    expect(await brokerMetrics(broker)).toBe(text);
  });

  it('tells clients that take INFO what a part of the broker announces', async () => {
    const broker = start();
    const [old, modern] = [
      await RawClient.ready(broker),
      await RawClient.ready(broker, { protocol: 1 }),
    ];
    broker.announce({ api_lvl: 2 });
    expect(await modern.heard('INFO')).toContain('"api_lvl":2');
    expect(await old.answers()).toBe('');
    expect(await new RawClient(broker).heard('INFO')).toContain('"api_lvl":2');
  });
});
