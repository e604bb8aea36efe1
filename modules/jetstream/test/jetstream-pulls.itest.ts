import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { createInbox, type Msg, type NatsConnection } from '@nats-io/nats-core';
import { waitFor } from '@rookery/core';
import { Everywhere } from './support/everywhere.js';

const patience = { timeoutMs: 2_000, everyMs: 5 };
const answerMs = 1_500;
let everywhere: Everywhere;
beforeAll(async () => {
  everywhere = await Everywhere.start();
});
afterAll(() => everywhere?.close());

/** A stream `S` with a few messages. */
async function withMessages(client: NatsConnection, run: () => Promise<void>): Promise<void> {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: 'S', subjects: ['s.>'] });
  for (let n = 1; n <= 5; n += 1) await jetstream(client).publish('s.a', `m${n}`);
  try {
    await run();
  } finally {
    await manager.streams.delete('S');
  }
}

const shown = (message: Msg): string =>
  message.headers?.code
    ? `${message.headers.code} ${message.headers.description}`
    : message.string();

/** What comes back to a request, or that nothing does. */
// A message comes with its own subject: clients that wait at one inbox for all would not know it.
const asked = (client: NatsConnection, subject: string, body = ''): Promise<string> =>
  client
    .request(subject, body, { timeout: answerMs, noMux: true })
    .then(shown, (error: Error) => error.name);

/** The answer to an API request. */
async function api(client: NatsConnection, subject: string, body: unknown = ''): Promise<unknown> {
  const payload = typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await client.request(`$JS.API.${subject}`, payload);
  const { error } = answer.json<{ error?: { err_code: number; description: string } }>();
  return error ?? 'done';
}

const consumer = (name: string, more: object = {}, action = ''): object => ({
  stream_name: 'S',
  action,
  config: { durable_name: name, ack_policy: 'explicit', ...more },
});

const next = (name: string): string => `$JS.API.CONSUMER.MSG.NEXT.S.${name}`;

describe('requests for messages, answered like by nats-server', () => {
  test('one message for a batch of none, nought, or less', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        const bodies = [
          '{}',
          '{"batch":0}',
          '{"batch":-3}',
          '{"no_wait":true}',
          '{"expires":1000000000}',
        ];
        for (const body of [...bodies, '0', '-1', '+2', 'x']) {
          said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c')));
          const inbox = createInbox();
          const heard: string[] = [];
          client.subscribe(inbox, { callback: (_, message) => void heard.push(shown(message)) });
          client.publish(next('c'), body, { reply: inbox });
          await client.flush();
          const ended = await waitFor('an answer', () => heard.length > 0, patience).catch(String);
          said([body, ended === true ? heard : 'nothing']);
          said(await api(client, 'CONSUMER.DELETE.S.c'));
        }
      });
    });
  });

  test('who does not wait at a consumer that pauses', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c')));
        const until = new Date(Date.now() + 3_600_000).toISOString();
        said(await api(client, 'CONSUMER.PAUSE.S.c', { pause_until: until }));
        for (const body of [
          { no_wait: true },
          { batch: 0, no_wait: true },
          { batch: 2, no_wait: true },
          { batch: 2, no_wait: true, max_bytes: 100 },
          { batch: 2, no_wait: true, expires: 5e8 },
        ]) {
          said(await asked(client, next('c'), JSON.stringify(body)));
        }
      });
    });
  });

  test('null for what is left out', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        const stream = { name: 'N', subjects: ['n'], description: null, placement: null };
        said(await api(client, 'STREAM.CREATE.N', stream));
        said(await api(client, 'STREAM.DELETE.N'));
        const config = { description: null, filter_subjects: null, backoff: null, metadata: null };
        said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c', config)));
        said(await asked(client, next('c'), '{"batch":null,"no_wait":null}'));
      });
    });
  });

  test('a consumer that is there already', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c')));
        for (const action of ['', 'update', 'create']) {
          said([action, await api(client, 'CONSUMER.CREATE.S.c', consumer('c', {}, action))]);
          const other = consumer('c', { description: `by ${action}` }, action);
          said([action, await api(client, 'CONSUMER.CREATE.S.c', other)]);
          // Equal, with what was left out said.
          const spelled = { ack_wait: 30_000_000_000, max_deliver: -1, max_ack_pending: 1_000 };
          said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c', spelled, action)));
        }
      });
    });
  });

  test('acknowledgements to consumers that take none', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        const words = ['+ACK', '', '-NAK', '+WPI', '+TERM', '+NXT', 'other'];
        for (const policy of ['explicit', 'none', 'all']) {
          const config = consumer('c', { ack_policy: policy });
          for (const word of words) {
            said(await api(client, 'CONSUMER.CREATE.S.c', config));
            const options = { timeout: answerMs, noMux: true };
            const { reply } = await client.request(next('c'), '1', options);
            said([policy, word, await asked(client, reply!, word)]);
            said(await api(client, 'CONSUMER.DELETE.S.c'));
            said(['gone', word, await asked(client, reply!, word)]);
          }
        }
        for (const subject of ['$JS.ACK.S.no.1.1.1.1.1', '$JS.ACK.no.c.1.1.1.1.1']) {
          said([subject, await asked(client, subject, '+ACK')]);
        }
      });
    });
  });

  test('a pull whose reply subject nobody hears', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c')));
        client.publish(next('c'), '{"batch":3,"expires":60000000000}', { reply: 'nobody.hears' });
        await client.flush();
        said(await asked(client, next('c'), '1'));
        const info = await client.request('$JS.API.CONSUMER.INFO.S.c');
        const { num_pending, num_ack_pending, num_waiting } = info.json<Record<string, number>>();
        said([num_pending, num_ack_pending, num_waiting]);
      });
    });
  });

  test('a plain subscriber on what goes to a group', async () => {
    await everywhere.same(async (client, said) => {
      await withMessages(client, async () => {
        const push = { deliver_subject: 'to.group', deliver_group: 'g' };
        const heard: string[] = [];
        client.subscribe('to.group', {
          callback: (_, message) => void heard.push(`plain ${shown(message)}`),
        });
        await client.flush();
        said(await api(client, 'CONSUMER.CREATE.S.c', consumer('c', push)));
        const bound = async (): Promise<unknown> =>
          (await client.request('$JS.API.CONSUMER.INFO.S.c')).json<{ push_bound?: boolean }>()
            .push_bound;
        said([await bound(), heard]);
        client.subscribe('to.group', {
          queue: 'other',
          callback: (_, message) => void heard.push(`other ${shown(message)}`),
        });
        await client.flush();
        said([await bound(), heard]);
        client.subscribe('to.group', {
          queue: 'g',
          callback: (_, message) => void heard.push(`group ${shown(message)}`),
        });
        await waitFor(
          'all that is there',
          () => heard.filter((line) => line.startsWith('group')).length === 5,
          patience,
        ).catch(() => undefined);
        said([await bound(), [...heard].sort()]);
      });
    });
  });
});

describe('advisories, as those of nats-server', () => {
  test('when streams and consumers come, change and go', async () => {
    await everywhere.same(async (client, said) => {
      const heard: unknown[] = [];
      const callback = (_: unknown, message: Msg): void => {
        const { id, timestamp, ...rest } = message.json<Record<string, unknown>>();
        heard.push([message.subject, rest, typeof id, typeof timestamp]);
      };
      client.subscribe('$JS.EVENT.ADVISORY.STREAM.>', { callback });
      client.subscribe('$JS.EVENT.ADVISORY.CONSUMER.>', { callback });
      await client.flush();
      const ephemeral = (name: string): object => ({
        stream_name: 'S',
        config: { name, ack_policy: 'none', inactive_threshold: 60_000_000_000 },
      });
      const requests: [string, unknown?][] = [
        ['STREAM.CREATE.S', { name: 'S', subjects: ['s.>'] }],
        ['STREAM.CREATE.S', { name: 'S', subjects: ['s.>'] }],
        ['STREAM.UPDATE.S', { name: 'S', subjects: ['s.>'], max_msgs: 5 }],
        ['CONSUMER.CREATE.S.c', consumer('c')],
        ['CONSUMER.CREATE.S.c', consumer('c')],
        ['CONSUMER.CREATE.S.d', ephemeral('d')],
        ['CONSUMER.CREATE.S.e', ephemeral('e')],
        ['CONSUMER.PAUSE.S.c', { pause_until: '2050-01-01T00:00:00Z' }],
        ['CONSUMER.PAUSE.S.c', {}],
        ['CONSUMER.DELETE.S.d'],
        ['STREAM.DELETE.S'],
      ];
      for (const [subject, body] of requests) said(await api(client, subject, body));
      const isLast = (): boolean => JSON.stringify(heard).includes('ADVISORY.STREAM.DELETED');
      await waitFor('the last advisory', () => isLast(), patience);
      said(heard.map((each) => JSON.stringify(each)).sort());
    });
  });
});

// The last of this file: the servers are gone afterwards.
describe('a server that stops', () => {
  test('tells those who wait for messages', async () => {
    await everywhere.sameToTheEnd(async (client, said, stop) => {
      await api(client, 'STREAM.CREATE.S', { name: 'S', subjects: ['s.>'] });
      await api(client, 'CONSUMER.CREATE.S.c', consumer('c'));
      const heard: string[] = [];
      const inbox = createInbox();
      client.subscribe(inbox, {
        callback: (_, { headers }) =>
          void heard.push(
            `${headers?.code} ${headers?.description}`,
            ...(headers?.keys() ?? []).map((key) => `${key}: ${headers?.get(key)}`),
          ),
      });
      client.publish(next('c'), '{"batch":7,"expires":60000000000,"max_bytes":9000}', {
        reply: inbox,
      });
      await client.flush();
      await stop();
      await waitFor('the last words', () => heard.length > 0, patience);
      said(heard);
    });
  });
});
