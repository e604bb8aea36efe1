import { afterAll, beforeAll, describe, it } from '@jest/globals';
import {
  AckPolicy,
  DeliverPolicy,
  jetstream,
  jetstreamManager,
  type ConsumerConfig,
  type ConsumerInfo,
  type JetStreamManager,
  type JsMsg,
} from '@nats-io/jetstream';
import { createInbox, nanos, type NatsConnection } from '@nats-io/nats-core';
import { waitFor } from '@rookery/core';
import { errorOf, Everywhere } from './support/everywhere.js';

let everywhere: Everywhere;
beforeAll(async () => {
  everywhere = await Everywhere.start();
}, 60_000);
afterAll(() => everywhere?.close());

const shownInfo = ({ config, ...info }: ConsumerInfo): unknown => {
  const { metadata: _, ...rest } = config;
  return {
    config: rest,
    name: info.name,
    delivered: [info.delivered.consumer_seq, info.delivered.stream_seq],
    floor: [info.ack_floor.consumer_seq, info.ack_floor.stream_seq],
    counts: [info.num_ack_pending, info.num_redelivered, info.num_waiting, info.num_pending],
    paused: info.paused === true,
  };
};

const shown = (message: JsMsg): unknown => {
  const { stream, consumer, deliveryCount, streamSequence, deliverySequence, pending } =
    message.info;
  return [
    message.subject,
    message.string(),
    [stream, consumer, deliveryCount, streamSequence, deliverySequence, pending],
    message.redelivered,
  ];
};

/** A stream `S` on `a.>` with `count` messages on `a.1` … `a.3` in turn. */
async function filled(
  client: NatsConnection,
  count: number,
  config: object = {},
): Promise<JetStreamManager> {
  const manager = await jetstreamManager(client);
  await manager.streams.delete('S').catch(() => undefined);
  await manager.streams.add({ name: 'S', subjects: ['a.>'], ...config });
  const js = jetstream(client);
  for (let n = 1; n <= count; n += 1) await js.publish(`a.${((n - 1) % 3) + 1}`, `m${n}`);
  return manager;
}

/** Until the server has worked through the acknowledgements that were sent. */
async function settled(manager: JetStreamManager, name: string, pending: number): Promise<void> {
  await waitFor(
    'the acknowledgements',
    async () => (await manager.consumers.info('S', name)).num_ack_pending === pending,
    { timeoutMs: 10_000, everyMs: 20 },
  );
}

const explicit = { durable_name: 'C', ack_policy: AckPolicy.Explicit };

describe('consumers are those of a nats-server', () => {
  it('pull: fetch, acknowledge, refuse, terminate', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 7);
      said(shownInfo(await manager.consumers.add('S', explicit)));
      const consumer = await jetstream(client).consumers.get('S', 'C');
      const got: JsMsg[] = [];
      for await (const message of await consumer.fetch({ max_messages: 4, expires: 1_000 })) {
        got.push(message);
        said(shown(message));
      }
      got[0]!.ack();
      said(await got[1]!.ackAck());
      got[2]!.nak();
      got[3]!.term('not wanted');
      await settled(manager, 'C', 1);
      said(shownInfo(await manager.consumers.info('S', 'C')));
      for await (const message of await consumer.fetch({ max_messages: 10, expires: 1_000 })) {
        said(shown(message));
        message.ack();
      }
      await settled(manager, 'C', 0);
      said(shownInfo(await manager.consumers.info('S', 'C')));
    }));

  it('ordered, from every starting point', () =>
    everywhere.same(async (client, said) => {
      await filled(client, 9);
      const js = jetstream(client);
      for (const options of [
        {},
        { filter_subjects: ['a.2'] },
        { filter_subjects: ['a.1', 'a.3'] },
        { deliver_policy: DeliverPolicy.Last },
        { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: 6 },
        { deliver_policy: DeliverPolicy.LastPerSubject, filter_subjects: ['a.>'] },
        { headers_only: true },
      ]) {
        const consumer = await js.consumers.get('S', options);
        for await (const message of await consumer.fetch({ max_messages: 20, expires: 1_000 })) {
          const { streamSequence, deliverySequence, pending } = message.info;
          said([message.subject, message.string(), streamSequence, deliverySequence, pending]);
          said(message.headers?.get('Nats-Msg-Size'));
          if (pending === 0) break;
        }
      }
    }));

  it('delivers again after ack_wait, with backoff, up to max_deliver', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 2);
      await manager.consumers.add('S', { ...explicit, ack_wait: nanos(300), max_deliver: 2 });
      const consumer = await jetstream(client).consumers.get('S', 'C');
      for await (const message of await consumer.fetch({ max_messages: 5, expires: 1_500 })) {
        said(shown(message));
      }
      await settled(manager, 'C', 0);
      said(shownInfo(await manager.consumers.info('S', 'C')));
    }));

  it('says in statuses what it cannot do', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 0);
      await manager.consumers.add('S', {
        ...explicit,
        max_batch: 5,
        max_waiting: 1,
        max_expires: nanos(60_000),
        max_bytes: 4_096,
      });
      const ask = async (body: unknown, statuses: number): Promise<unknown[]> => {
        const inbox = createInbox();
        const seen: unknown[] = [];
        const subscription = client.subscribe(inbox, {
          callback: (_error, message) => {
            const { code, description } = message.headers ?? {};
            const pending = message.headers?.get('Nats-Pending-Messages');
            seen.push([code, description, pending]);
          },
        });
        const payload = typeof body === 'string' ? body : JSON.stringify(body);
        client.publish('$JS.API.CONSUMER.MSG.NEXT.S.C', payload, { reply: inbox });
        await waitFor('the status', () => seen.length >= statuses, {
          timeoutMs: 10_000,
          everyMs: 5,
        });
        subscription.unsubscribe();
        return seen;
      };
      said(await ask({ batch: 1, no_wait: true }, 1));
      said(await ask({ batch: 6 }, 1));
      said(await ask({ batch: 1, expires: nanos(120_000) }, 1));
      said(await ask({ batch: 1, max_bytes: 5_000 }, 1));
      said(await ask({ batch: 3, expires: nanos(200) }, 1));
      said(await ask({ batch: 1, expires: nanos(1_000), idle_heartbeat: nanos(900) }, 1));
      said(await ask({ batch: 1, expires: nanos(1_000), idle_heartbeat: nanos(400) }, 3));
      // Each language has its own words for what is wrong with it.
      said((await ask('{nonsense', 1)).map((status) => (status as unknown[])[0]));
      await jetstream(client).publish('a.1', 'x'.repeat(200));
      said(await ask({ batch: 1, expires: nanos(1_000), max_bytes: 50 }, 1));
      await manager.consumers.delete('S', 'C');
    }));

  it('pauses, resumes, lists, is updated and deleted', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 3);
      await manager.consumers.add('S', { ...explicit, durable_name: 'A', filter_subject: 'a.1' });
      await manager.consumers.add('S', { ...explicit, durable_name: 'B' });
      const list = async (): Promise<unknown[]> => {
        const found: unknown[] = [];
        for await (const info of manager.consumers.list('S')) found.push(shownInfo(info));
        return found;
      };
      said(await list());
      const update = { ack_wait: nanos(5_000), description: 'slower', max_ack_pending: 7 };
      said(shownInfo(await manager.consumers.update('S', 'A', update)));
      said(await errorOf(manager.consumers.update('S', 'X', {})));
      const paused = await manager.consumers.pause('S', 'A', new Date(Date.now() + 60_000));
      said(paused.paused);
      said((await manager.consumers.info('S', 'A')).paused);
      said((await manager.consumers.resume('S', 'A')).paused);
      said(await manager.consumers.delete('S', 'A'));
      said(await errorOf(manager.consumers.info('S', 'A')));
      said(await errorOf(manager.consumers.delete('S', 'A')));
      said(await errorOf(manager.consumers.info('nowhere', 'A')));
    }));

  it.each<[string, Partial<ConsumerConfig>]>([
    ['replicas', { ...explicit, num_replicas: 3 }],
    ['a start without its policy', { ...explicit, opt_start_seq: 4 }],
    ['a policy without its start', { ...explicit, deliver_policy: DeliverPolicy.StartSequence }],
    ['two kinds of filters', { ...explicit, filter_subject: 'a.1', filter_subjects: ['a.2'] }],
    ['overlapping filters', { ...explicit, filter_subjects: ['a.*', 'a.1'] }],
    ['a deliver subject in the stream', { ...explicit, deliver_subject: 'a.back' }],
    ['a deliver subject with wildcards', { ...explicit, deliver_subject: 'b.*' }],
    ['flow control without heartbeats', { ...explicit, deliver_subject: 'b', flow_control: true }],
    ['heartbeats of a pull consumer', { ...explicit, idle_heartbeat: nanos(1_000) }],
    ['more backoffs than deliveries', { ...explicit, backoff: [1, 2, 3], max_deliver: 2 }],
    ['a rate of a pull consumer', { ...explicit, rate_limit_bps: 1_000 }],
    ['a sample that is no number', { ...explicit, sample_freq: 'often' }],
  ])('refuses %s in the same words', (_name, config) =>
    everywhere.same(async (client, said) => {
      await filled(client, 0);
      const body = JSON.stringify({ stream_name: 'S', config, action: 'create' });
      const answer = await client.request('$JS.API.CONSUMER.CREATE.S.C', body);
      said(answer.json<{ error: unknown }>().error);
    }),
  );

  it('shares a work queue', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 6, { retention: 'workqueue' });
      const add = (name: string, config: Partial<ConsumerConfig>): Promise<ConsumerInfo> =>
        manager.consumers.add('S', {
          ack_policy: AckPolicy.Explicit,
          ...config,
          durable_name: name,
        });
      await add('one', { filter_subject: 'a.1' });
      said(await errorOf(add('all', {})));
      said(await errorOf(add('overlap', { filter_subject: 'a.*' })));
      said(await errorOf(add('none', { filter_subject: 'a.2', ack_policy: AckPolicy.None })));
      await add('two', { filter_subject: 'a.2' });
      const consumer = await jetstream(client).consumers.get('S', 'one');
      for await (const message of await consumer.fetch({ max_messages: 2, expires: 1_000 })) {
        said(shown(message));
        message.ack();
      }
      await waitFor(
        'what was acknowledged is gone',
        async () => (await manager.streams.info('S')).state.messages === 4,
        { timeoutMs: 10_000, everyMs: 20 },
      );
      said((await manager.streams.info('S', { deleted_details: true })).state.deleted);
    }));

  it('keeps what somebody is interested in', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 0, { retention: 'interest' });
      const js = jetstream(client);
      await js.publish('a.1', 'nobody wants it');
      said((await manager.streams.info('S')).state.messages);
      for (const name of ['X', 'Y'])
        await manager.consumers.add('S', { ...explicit, durable_name: name });
      await js.publish('a.1', 'both want it');
      for (const [name, left] of [
        ['X', 1],
        ['Y', 0],
      ] as const) {
        const consumer = await js.consumers.get('S', name);
        const message = await consumer.next({ expires: 2_000 });
        said(message && shown(message));
        await message?.ackAck();
        await waitFor(
          'the stream has let go',
          async () => (await manager.streams.info('S')).state.messages === left,
          { timeoutMs: 10_000, everyMs: 20 },
        );
      }
    }));

  it('pushes to who listens, in order, with heartbeats', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 5);
      const inbox = createInbox();
      const seen: unknown[] = [];
      const subscription = client.subscribe(inbox, {
        callback: (_error, message) => {
          const code = message.headers?.code;
          if (!code) seen.push([message.subject, message.string()]);
          else if (!seen.includes(code)) seen.push(code);
        },
      });
      const config = {
        deliver_subject: inbox,
        ack_policy: AckPolicy.None,
        idle_heartbeat: nanos(500),
        flow_control: true,
      };
      const created = await client.request(
        '$JS.API.CONSUMER.CREATE.S',
        JSON.stringify({ stream_name: 'S', config }),
      );
      const { name } = created.json<ConsumerInfo>();
      await waitFor('a heartbeat', () => seen.includes(100), { timeoutMs: 10_000, everyMs: 5 });
      said(seen);
      said((await manager.consumers.info('S', name)).push_bound);
      subscription.unsubscribe();
    }));

  it('consumes thousands with many in flight', () =>
    everywhere.same(async (client, said) => {
      const manager = await filled(client, 0);
      const js = jetstream(client);
      const payload = 'x'.repeat(100);
      await Promise.all(Array.from({ length: 5_000 }, () => js.publish('a.1', payload)));
      await manager.consumers.add('S', { ...explicit, max_ack_pending: 500 });
      const consumer = await js.consumers.get('S', 'C');
      let count = 0;
      let inOrder = true;
      const messages = await consumer.consume({ max_messages: 300 });
      for await (const message of messages) {
        count += 1;
        inOrder &&= message.info.streamSequence === count;
        message.ack();
        if (count === 5_000) break;
      }
      said([count, inOrder]);
      await settled(manager, 'C', 0);
      said((await manager.consumers.info('S', 'C')).ack_floor.stream_seq);
    }));
});
