/** JetStream as clients use it: streams, publishing, consuming. */
import { quote, show } from './context.mjs';

const fail = (ctx, what) => (error) =>
  ctx.print(what, error.name, error.code ?? '', quote(error.message));

const managers = async (ctx) => {
  const nc = await ctx.connect();
  const options = ctx.target.apiPrefix ? { apiPrefix: ctx.target.apiPrefix } : {};
  const jsm = await ctx.jetstream.jetstreamManager(nc, options);
  return { nc, jsm, js: jsm.jetstream() };
};

const stateOf = ({ state: s }) =>
  `${s.messages} messages ${s.first_seq}..${s.last_seq} deleted ${s.num_deleted ?? 0} ` +
  `subjects ${s.num_subjects ?? 0} consumers ${s.consumer_count}`;

async function jsStreams(ctx) {
  const { jsm, js } = await managers(ctx);
  const base = { name: 'S1', subjects: ['st.s1.>'] };
  const added = await jsm.streams.add(base);
  const { retention, discard, storage, num_replicas, max_msgs, max_age, allow_direct } =
    added.config;
  ctx.print('added', retention, discard, storage, num_replicas, max_msgs, max_age, allow_direct);
  await jsm.streams.add(base);
  await jsm.streams.add({ ...base, max_msgs: 5 }).catch(fail(ctx, 'again otherwise'));
  await jsm.streams.add({ name: 'S2', subjects: ['st.s1.*'] }).catch(fail(ctx, 'overlapping'));
  await jsm.streams.add({ name: 'S2', subjects: ['st.s2'], max_msgs: 3, storage: 'memory' });
  for (let i = 0; i < 6; i += 1) {
    await js.publish(ctx.s(`st.s1.k${i % 2}`), `m${i}`);
    await js.publish(ctx.s('st.s2'), `m${i}`);
  }
  for (const name of ['S1', 'S2']) ctx.print(name, stateOf(await jsm.streams.info(name)));
  const withSubjects = await jsm.streams.info('S1', { subjects_filter: '>' });
  ctx.print('subjects', JSON.stringify(withSubjects.state.subjects));
  const names = [];
  for await (const name of jsm.streams.names()) names.push(name);
  ctx.print('names', names.sort().join(' '));
  const filtered = [];
  for await (const info of jsm.streams.list('st.s2')) filtered.push(info.config.name);
  ctx.print('list', filtered.join(' '));
  ctx.print('found', await jsm.streams.find('st.s1.x'));
  const message = await jsm.streams.getMessage('S1', { seq: 3 });
  ctx.print('get', message.seq, message.subject, message.string());
  const last = await jsm.streams.getMessage('S1', { last_by_subj: 'st.s1.k1' });
  ctx.print('last', last.seq, last.string());
  await jsm.streams.getMessage('S1', { seq: 99 }).catch(fail(ctx, 'get 99'));
  const updated = await jsm.streams.update('S1', { max_msgs: 4, allow_direct: true });
  ctx.print('updated', updated.config.max_msgs, stateOf(await jsm.streams.info('S1')));
  const direct = await jsm.direct.getMessage('S1', { seq: 4 });
  ctx.print('direct', direct.seq, direct.subject, direct.string());
  ctx.print('deleted', await jsm.streams.deleteMessage('S1', 4));
  ctx.print('purged', JSON.stringify(await jsm.streams.purge('S1', { filter: 'st.s1.k0' })));
  ctx.print(stateOf(await jsm.streams.info('S1')));
  ctx.print('purged', JSON.stringify(await jsm.streams.purge('S1', { keep: 1 })));
  ctx.print('purged', JSON.stringify(await jsm.streams.purge('S2', { seq: 6 })));
  for (const name of ['S1', 'S2']) ctx.print(await jsm.streams.delete(name));
  await jsm.streams.info('S1').catch(fail(ctx, 'info'));
  await jsm.streams.add({ name: 'bad name', subjects: ['x'] }).catch(fail(ctx, 'bad name'));
  await jsm.streams.add({ name: 'bad', subjects: ['a..b'] }).catch(fail(ctx, 'bad subject'));
}

async function jsPublish(ctx) {
  const { nc, jsm, js } = await managers(ctx);
  await jsm.streams.add({
    name: 'P',
    subjects: ['st.pub.>'],
    max_msgs_per_subject: 3,
    max_msg_size: 1000,
    allow_rollup_hdrs: true,
  });
  const publish = async (subject, data, options) => {
    try {
      const ack = await js.publish(ctx.s(subject), data, options);
      ctx.print(subject, ack.stream, ack.seq, 'duplicate', ack.duplicate);
    } catch (error) {
      fail(ctx, subject)(error);
    }
  };
  await publish('st.pub.a', 'one');
  await publish('st.pub.a', 'two', { msgID: 'id-1' });
  await publish('st.pub.a', 'two again', { msgID: 'id-1' });
  await publish('st.pub.a', 'three', { expect: { lastSequence: 2 } });
  await publish('st.pub.a', 'x', { expect: { lastSequence: 1 } });
  await publish('st.pub.b', 'four', { expect: { lastSubjectSequence: 0 } });
  await publish('st.pub.b', 'x', { expect: { lastSubjectSequence: 0 } });
  await publish('st.pub.b', 'x', { expect: { lastMsgID: 'id-1' } });
  await publish('st.pub.b', 'x', { expect: { streamName: 'Q' } });
  await publish('st.pub.c', 'x'.repeat(1001));
  await publish('st.none', 'x', { retries: 1 });
  const headers = ctx.core.headers();
  headers.set('Nats-Rollup', 'sub');
  headers.set('Own', 'kept');
  await publish('st.pub.a', 'rolled', { headers });
  for (let i = 0; i < 5; i += 1) await publish('st.pub.d', String(i));
  const acks = await Promise.all(
    Array.from({ length: 100 }, (_, i) => js.publish(ctx.s(`st.pub.e${i}`), String(i))),
  );
  ctx.print(
    'in flight',
    acks.every((ack, i) => ack.seq === acks[0].seq + i),
  );
  nc.publish(ctx.s('st.pub.plain'), 'no ack wanted');
  await nc.flush();
  const rolled = await jsm.streams.getMessage('P', { last_by_subj: 'st.pub.a' });
  ctx.print(
    rolled.seq,
    rolled.string(),
    rolled.header.get('Own'),
    rolled.header.get('Nats-Rollup'),
  );
  ctx.print(stateOf(await jsm.streams.info('P')));
  await jsm.streams.update('P', { max_msgs: 110, discard: 'new', max_msgs_per_subject: -1 });
  for (let i = 0; i < 6; i += 1) await publish('st.pub.full', String(i));
  await jsm.streams.delete('P');
}

const infoLine = (info) =>
  `delivered ${info.delivered.consumer_seq}/${info.delivered.stream_seq} ` +
  `floor ${info.ack_floor.consumer_seq}/${info.ack_floor.stream_seq} ` +
  `pending ${info.num_pending} acks ${info.num_ack_pending} again ${info.num_redelivered}`;

const line = (m) =>
  `${m.string()} seq ${m.seq} delivery ${m.info.deliverySequence} count ${m.info.deliveryCount} ` +
  `pending ${m.info.pending}`;

async function take(consumer, options) {
  const messages = [];
  for await (const m of await consumer.fetch({ expires: 1000, ...options })) messages.push(m);
  return messages;
}

async function jsConsume(ctx) {
  const { jsm, js } = await managers(ctx);
  await jsm.streams.add({ name: 'C', subjects: ['st.c.>'] });
  for (let i = 1; i <= 10; i += 1)
    await js.publish(ctx.s(`st.c.${i % 2 ? 'odd' : 'even'}`), `m${i}`);
  const config = { durable_name: 'd', ack_policy: 'explicit', ack_wait: 30e9, max_deliver: 3 };
  const created = await jsm.consumers.add('C', config);
  ctx.print('created', created.name, created.config.deliver_policy, created.config.max_ack_pending);
  const consumer = await js.consumers.get('C', 'd');
  const first = await take(consumer, { max_messages: 4 });
  first.forEach((m) => ctx.print(line(m)));
  first[0].ack();
  ctx.print('acked', await first[1].ackAck());
  first[2].working();
  first[2].ack();
  first[3].term('no use');
  // A server obeys acknowledgements in its own time.
  await ctx.until(async () => (await consumer.info()).num_ack_pending === 0);
  ctx.print(infoLine(await consumer.info()));
  first[2].ack();
  ctx.print('next', line(await consumer.next({ expires: 1000 })));
  const rest = await take(consumer, { max_messages: 10 });
  rest.forEach((m) => m.ack());
  ctx.print('rest', rest.map((m) => m.string()).join(' '));
  ctx.print('none', (await take(consumer, { max_messages: 1 })).length);
  await jsm.consumers.add('C', { ...config, max_deliver: 9 }).catch(fail(ctx, 'again otherwise'));
  const updated = await jsm.consumers.update('C', 'd', { max_deliver: 4, description: 'changed' });
  ctx.print('updated', updated.config.max_deliver, updated.config.description);
  await jsm.consumers
    .update('C', 'd', { deliver_policy: 'new' })
    .catch(fail(ctx, 'not to be changed'));
  const names = [];
  for await (const info of jsm.consumers.list('C')) names.push(info.name);
  ctx.print('list', names.join(' '));
  const paused = await jsm.consumers.pause('C', 'd', new Date(Date.now() + 3_600_000));
  ctx.print('paused', paused.paused, 'nothing', (await take(consumer, { max_messages: 1 })).length);
  ctx.print('resumed', (await jsm.consumers.resume('C', 'd')).paused);
  ctx.print('deleted', await jsm.consumers.delete('C', 'd'));
  await jsm.consumers.info('C', 'd').catch(fail(ctx, 'info'));
  await js.consumers.get('C', 'never').catch(fail(ctx, 'get'));
  await jsm.streams.delete('C');
}

async function jsRedelivery(ctx) {
  const { jsm, js } = await managers(ctx);
  await jsm.streams.add({ name: 'N', subjects: ['st.n'] });
  const config = { durable_name: 'n', ack_policy: 'explicit', ack_wait: 1e9, max_deliver: 4 };
  await jsm.consumers.add('N', config);
  const consumer = await js.consumers.get('N', 'n');
  await js.publish(ctx.s('st.n'), 'm');
  const next = async () => {
    const m = await consumer.next({ expires: 20_000 });
    ctx.print(line(m), m.redelivered);
    return m;
  };
  (await next()).nak();
  const asked = Date.now();
  (await next()).nak(500);
  await next();
  ctx.print('after the delay', Date.now() - asked >= 500);
  // Not acknowledged: it comes again by itself, for the last time.
  const last = await next();
  ctx.print('after the wait', Date.now() - asked >= 1500);
  last.nak();
  ctx.print('no more', await consumer.next({ expires: 1500 }));
  ctx.print((await consumer.info()).num_redelivered, stateOf(await jsm.streams.info('N')));
  await jsm.streams.delete('N');
}

async function jsPolicies(ctx) {
  const { jsm, js } = await managers(ctx);
  await jsm.streams.add({ name: 'D', subjects: ['st.d.>'] });
  for (let i = 1; i <= 9; i += 1) await js.publish(ctx.s(`st.d.${i % 3}`), `m${i}`);
  const policies = {
    all: {},
    last: { deliver_policy: 'last' },
    new: { deliver_policy: 'new' },
    'last by subject': { deliver_policy: 'last_per_subject' },
    'by sequence': { deliver_policy: 'by_start_sequence', opt_start_seq: 6 },
    filter: { filter_subject: 'st.d.1' },
    filters: { filter_subjects: ['st.d.0', 'st.d.2'] },
    'headers only': { headers_only: true, filter_subject: 'st.d.1' },
  };
  for (const [name, policy] of Object.entries(policies)) {
    const durable = `p-${name.replaceAll(' ', '-')}`;
    await jsm.consumers.add('D', {
      durable_name: durable,
      ack_policy: 'none',
      filter_subject: policy.filter_subjects ? undefined : 'st.d.>',
      ...policy,
    });
    const consumer = await js.consumers.get('D', durable);
    const pending = (await consumer.info()).num_pending;
    const got = pending > 0 ? await take(consumer, { max_messages: pending }) : [];
    const sizes = got.map((m) => m.headers?.get('Nats-Msg-Size') ?? '').join('');
    ctx.print(name, pending, ':', got.map((m) => m.string() || m.seq).join(' '), sizes);
  }
  const ordered = await js.consumers.get('D');
  const messages = await ordered.consume();
  const seen = [];
  for await (const m of messages) {
    seen.push(`${m.string()}/${m.info.deliverySequence}`);
    if (m.info.pending === 0) break;
  }
  ctx.print('ordered', seen.join(' '));
  await js.publish(ctx.s('st.d.0'), 'more');
  const from = await js.consumers.get('D', {
    opt_start_seq: 8,
    deliver_policy: 'by_start_sequence',
  });
  ctx.print('ordered from', (await take(from, { max_messages: 3 })).map((m) => show(m)).join(' '));
  await jsm.streams.delete('D');
}

async function jsWorkQueue(ctx) {
  const { jsm, js } = await managers(ctx);
  await jsm.streams.add({ name: 'W', subjects: ['st.w.>'], retention: 'workqueue' });
  const config = { durable_name: 'w', ack_policy: 'explicit', filter_subject: 'st.w.>' };
  await jsm.consumers.add('W', config);
  await jsm.consumers
    .add('W', { ...config, durable_name: 'other' })
    .catch(fail(ctx, 'second worker'));
  for (let i = 0; i < 20; i += 1) await js.publish(ctx.s('st.w.x'), String(i));
  const workers = [await js.consumers.get('W', 'w'), await js.consumers.get('W', 'w')];
  const done = [];
  for (let i = 0; i < 4; i += 1) {
    for (const m of await take(workers[i % 2], { max_messages: 5 })) {
      await m.ackAck();
      done.push(m.string());
    }
  }
  ctx.print('done', done.join(' '));
  ctx.print(stateOf(await jsm.streams.info('W')));
  await jsm.streams.delete('W');
}

async function jsReconnect(ctx) {
  const options = { reconnectTimeWait: 50, maxReconnectAttempts: -1 };
  const nc = await ctx.connect(options);
  const api = ctx.target.apiPrefix ? { apiPrefix: ctx.target.apiPrefix } : {};
  const jsm = await ctx.jetstream.jetstreamManager(nc, api);
  const js = jsm.jetstream();
  await jsm.streams.add({ name: 'R', subjects: ['st.r'] });
  await jsm.consumers.add('R', { durable_name: 'r', ack_policy: 'explicit' });
  const consumer = await js.consumers.get('R', 'r');
  for (let i = 0; i < 5; i += 1) await js.publish(ctx.s('st.r'), `before ${i}`, { msgID: `${i}` });
  for (const m of await take(consumer, { max_messages: 2 })) await m.ackAck();
  const back = ctx.event(nc, 'reconnect');
  await ctx.ask('restart');
  await back;
  await nc.flush();
  const again = await js.publish(ctx.s('st.r'), 'again', { msgID: '4' });
  ctx.print('after', again.seq, again.duplicate, stateOf(await jsm.streams.info('R')));
  const rest = await take(consumer, { max_messages: 3 });
  ctx.print(rest.map((m) => line(m)).join(', '));
  await jsm.streams.delete('R');
}

export const jetstream = {
  'js-streams': jsStreams,
  'js-publish': jsPublish,
  'js-consume': jsConsume,
  'js-redelivery': jsRedelivery,
  'js-policies': jsPolicies,
  'js-work-queue': jsWorkQueue,
  'js-reconnect': jsReconnect,
};
