import { beforeEach, describe, expect, it } from '@jest/globals';
import { ConsumerRig } from './support/consumer-rig.js';

const second = 1_000_000_000;

describe('pull consumers', () => {
  let rig: ConsumerRig;
  beforeEach(() => {
    rig = new ConsumerRig();
    rig.stream();
  });
  const publish = (count: number): void => {
    for (let n = 1; n <= count; n += 1) rig.publish(`a.${n}`, `m${n}`);
  };

  it('delivers what is there, then what comes', () => {
    publish(2);
    rig.consumer({ durable_name: 'C' });
    rig.pull({ batch: 3, expires: 5 * second });
    expect(rig.lines()).toEqual(['box a.1 1/1/1/1 m1', 'box a.2 1/2/2/0 m2']);
    rig.publish('a.3', 'm3');
    expect(rig.lines()).toEqual(['box a.3 1/3/3/0 m3']);
    rig.publish('a.4', 'm4');
    expect(rig.lines()).toEqual([]);
    expect(rig.info()).toMatchObject({
      num_pending: 1,
      num_ack_pending: 3,
      num_waiting: 0,
      delivered: { consumer_seq: 3, stream_seq: 3 },
      ack_floor: { consumer_seq: 0, stream_seq: 0 },
    });
  });

  it('moves the floor over acknowledgements in any order', () => {
    publish(3);
    rig.consumer({ durable_name: 'C' });
    rig.pull('3');
    const [one, two, three] = rig.take();
    rig.ack(two!);
    expect(rig.info()).toMatchObject({ ack_floor: { stream_seq: 0 }, num_ack_pending: 2 });
    rig.ack(one!);
    expect(rig.info()).toMatchObject({ ack_floor: { stream_seq: 2, consumer_seq: 2 } });
    rig.ack(three!, '+ACK', 'confirm');
    expect(rig.lines()).toEqual(['confirm - - ']);
    expect(rig.info()).toMatchObject({ ack_floor: { stream_seq: 3 }, num_ack_pending: 0 });
  });

  it('delivers again what was not acknowledged in time, up to max_deliver', () => {
    publish(1);
    rig.consumer({ durable_name: 'C', ack_wait: second, max_deliver: 2 });
    rig.pull({ batch: 5, expires: 60 * second });
    expect(rig.lines()).toEqual(['box a.1 1/1/1/0 m1']);
    rig.pass(999);
    expect(rig.lines()).toEqual([]);
    rig.pass(2);
    expect(rig.lines()).toEqual(['box a.1 2/1/2/0 m1']);
    rig.pass(5_000);
    const advisory = rig.take();
    expect(advisory).toHaveLength(1);
    expect(advisory[0]!.to).toBe('space.p1.$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.C');
    expect(rig.info()).toMatchObject({ num_ack_pending: 0, num_redelivered: 1 });
  });

  it('takes refusals at once, after a delay and for ever', () => {
    publish(3);
    rig.consumer({ durable_name: 'C' });
    rig.pull({ batch: 9, expires: 60 * second });
    const [one, two, three] = rig.take();
    rig.ack(one!, '-NAK');
    rig.ack(two!, '-NAK {"delay": 2000000000}');
    rig.ack(three!, '+TERM broken');
    const said = rig.lines().filter((line) => !line.includes('ADVISORY'));
    expect(said).toEqual(['box a.1 2/1/4/0 m1']);
    rig.pass(1_990);
    expect(rig.lines()).toEqual([]);
    rig.pass(20);
    expect(rig.lines()).toEqual(['box a.2 2/2/5/0 m2']);
    expect(rig.info()).toMatchObject({ num_ack_pending: 2 });
  });

  it('waits longer each time with backoff, and for work in progress', () => {
    publish(1);
    rig.consumer({ durable_name: 'C', backoff: [second, 3 * second], max_deliver: 5 });
    rig.pull({ batch: 9, expires: 60 * second });
    const [first] = rig.take();
    rig.pass(900);
    rig.ack(first!, '+WPI');
    rig.pass(900);
    expect(rig.lines()).toEqual([]);
    rig.pass(101);
    expect(rig.lines()).toEqual(['box a.1 2/1/2/0 m1']);
    rig.pass(2_900);
    expect(rig.lines()).toEqual([]);
    rig.pass(101);
    expect(rig.lines()).toEqual(['box a.1 3/1/3/0 m1']);
  });

  it('says with a status why a request ends', () => {
    rig.consumer({ durable_name: 'C', max_waiting: 2, max_batch: 10 });
    rig.pull({ batch: 1, no_wait: true });
    expect(rig.lines()).toEqual(['box - - [404 No Messages]']);
    rig.pull({ batch: 11 });
    expect(rig.lines()).toEqual(['box - - [409 Exceeded MaxRequestBatch of 10]']);
    rig.pull({ batch: 2, expires: second });
    rig.pull({ batch: 2, expires: second }, 'other');
    rig.pull({ batch: 2, expires: second }, 'third');
    expect(rig.lines()).toEqual(['third - - [409 Exceeded MaxWaiting]']);
    rig.pass(1_001);
    expect(rig.lines()).toEqual([
      'box - - [408 Request Timeout]',
      'other - - [408 Request Timeout]',
    ]);
    rig.pull({ batch: 1, expires: second, max_bytes: 5 });
    rig.publish('a.1', 'm1');
    expect(rig.lines()).toEqual(['box - - [409 Message Size Exceeds MaxBytes]']);
    expect(rig.info()).toMatchObject({ num_pending: 1, delivered: { stream_seq: 0 } });
  });

  it('beats while a request waits, and ends it when its client goes', () => {
    rig.consumer({ durable_name: 'C' });
    rig.pull({ batch: 1, expires: 60 * second, idle_heartbeat: second });
    expect([...rig.outbox.watched]).toEqual(['box']);
    rig.pass(1_500);
    expect(rig.lines()).toEqual(['box - - [100 Idle Heartbeat]']);
    rig.interest('box', false);
    expect(rig.info()).toMatchObject({ num_waiting: 0 });
    expect([...rig.outbox.watched]).toEqual([]);
  });

  it('shares messages between those who wait', () => {
    rig.consumer({ durable_name: 'C' });
    rig.pull({ batch: 2, expires: 60 * second }, 'x');
    rig.pull({ batch: 2, expires: 60 * second }, 'y');
    publish(4);
    expect(rig.lines().map((line) => line.slice(0, 5))).toEqual([
      'x a.1',
      'y a.2',
      'x a.3',
      'y a.4',
    ]);
  });

  it('stops at max_ack_pending until something is acknowledged', () => {
    publish(3);
    rig.consumer({ durable_name: 'C', max_ack_pending: 2 });
    rig.pull({ batch: 3, expires: 60 * second });
    const two = rig.take();
    expect(two).toHaveLength(2);
    rig.ack(two[0]!);
    expect(rig.lines()).toEqual(['box a.3 1/3/3/0 m3']);
  });

  it('filters, also by several subjects', () => {
    publish(4);
    rig.consumer({ durable_name: 'C', filter_subjects: ['a.2', 'a.4'] });
    expect(rig.info()).toMatchObject({ num_pending: 2 });
    rig.pull('9');
    expect(rig.lines()).toEqual(['box a.2 1/2/1/1 m2', 'box a.4 1/4/2/0 m4']);
    rig.publish('a.4', 'again');
    expect(rig.lines()).toEqual(['box a.4 1/5/3/0 again']);
  });

  it('begins where its policy says', () => {
    const from = (config: object): string[] => {
      rig.consumer({ ack_policy: 'none', ...config });
      rig.pull({ batch: 9, no_wait: true });
      rig.api('CONSUMER.DELETE.S.C');
      return rig.lines().map((line) => line.split(' ').at(-1)!);
    };
    for (const [subject, text] of [
      ['a.1', 'one'],
      ['a.2', 'two'],
      ['a.1', 'three'],
    ] as const) {
      rig.publish(subject, text);
      rig.pass(1_000);
    }
    const end = 'Messages]';
    expect(from({})).toEqual(['one', 'two', 'three', end]);
    expect(from({ deliver_policy: 'last' })).toEqual(['three', end]);
    expect(from({ deliver_policy: 'new' })).toEqual([end]);
    expect(from({ deliver_policy: 'by_start_sequence', opt_start_seq: 2 })).toEqual([
      'two',
      'three',
      end,
    ]);
    const time = new Date(rig.clock.nowMs - 1_500).toISOString();
    expect(from({ deliver_policy: 'by_start_time', opt_start_time: time })).toEqual(['three', end]);
    expect(from({ deliver_policy: 'last_per_subject', filter_subject: 'a.>' })).toEqual([
      'two',
      'three',
      end,
    ]);
  });

  it('remembers where it was', () => {
    publish(3);
    rig.consumer({ durable_name: 'C' });
    rig.pull('2');
    const [one] = rig.take();
    rig.ack(one!);
    rig.restart();
    expect(rig.info()).toMatchObject({
      num_pending: 1,
      num_ack_pending: 1,
      delivered: { consumer_seq: 2, stream_seq: 2 },
      ack_floor: { consumer_seq: 1, stream_seq: 1 },
    });
    rig.pull({ batch: 5, expires: 60 * second });
    expect(rig.lines()).toEqual(['box a.3 1/3/3/0 m3']);
    rig.pass(30_001);
    expect(rig.lines()[0]).toBe('box a.2 2/2/4/0 m2');
  });

  it('goes when nobody uses it, but for a durable one', () => {
    rig.consumer({ inactive_threshold: second });
    rig.pass(2_100);
    expect(rig.info()).toMatchObject({ error: { err_code: 10014 } });
    rig.consumer({ durable_name: 'C' });
    rig.pass(60_000);
    expect(rig.info()).not.toHaveProperty('error');
  });

  it('rests while it is paused', () => {
    publish(1);
    rig.consumer({ durable_name: 'C' });
    const until = new Date(rig.clock.nowMs + 5_000).toISOString();
    expect(rig.api('CONSUMER.PAUSE.S.C', { pause_until: until })).toMatchObject({ paused: true });
    rig.pull({ batch: 1, expires: 60 * second });
    rig.pass(4_900);
    expect(rig.lines()).toEqual([]);
    rig.pass(200);
    expect(rig.lines()).toEqual(['box a.1 1/1/1/0 m1']);
  });

  it('tells those who wait that it is deleted', () => {
    rig.consumer({ durable_name: 'C' });
    rig.pull({ batch: 1, expires: 60 * second });
    expect(rig.api('CONSUMER.DELETE.S.C')).toMatchObject({ success: true });
    expect(rig.lines()).toEqual(['box - - [409 Consumer Deleted]']);
  });

  it('forgets what was purged', () => {
    publish(3);
    rig.consumer({ durable_name: 'C' });
    rig.pull('1');
    rig.take();
    expect(rig.api('STREAM.PURGE.S')).toMatchObject({ success: true, purged: 3 });
    expect(rig.info()).toMatchObject({ num_pending: 0, num_ack_pending: 0 });
    rig.publish('a.9', 'after');
    rig.pull('1');
    expect(rig.lines()).toEqual(['box a.9 1/4/2/0 after']);
  });
});

describe('push consumers', () => {
  let rig: ConsumerRig;
  beforeEach(() => {
    rig = new ConsumerRig();
    rig.stream();
  });

  it('sends while somebody listens, and beats', () => {
    rig.publish('a.1', 'm1');
    const created = rig.consumer({
      ack_policy: 'none',
      deliver_subject: '_INBOX.x',
      idle_heartbeat: second,
      flow_control: true,
    });
    expect(created).not.toHaveProperty('error');
    // A client of the project does not know its identity's part of the inbox.
    expect([...rig.outbox.watched]).toEqual(['_INBOX.me.x']);
    rig.settle();
    expect(rig.lines()).toEqual([]);
    rig.interest('_INBOX.me.x', true);
    expect(rig.lines()).toEqual(['_INBOX.me.x a.1 1/1/1/0 m1']);
    rig.pass(1_001);
    expect(rig.lines()).toEqual(['_INBOX.me.x - - [100 Idle Heartbeat]']);
    rig.interest('_INBOX.me.x', false);
    rig.pass(6_100);
    expect(rig.info()).toMatchObject({ error: { err_code: 10014 } });
  });

  it('waits for the answer to flow control', () => {
    rig.consumer({
      ack_policy: 'none',
      deliver_subject: '_INBOX.x',
      idle_heartbeat: 5 * second,
      flow_control: true,
    });
    rig.interest('_INBOX.me.x', true);
    const large = 'x'.repeat(1024 * 1024);
    for (let n = 1; n <= 4; n += 1) rig.publish('a.1', large);
    const sent = rig.take();
    const request = sent.find(({ reply }) => reply.startsWith('$JS.FC._.p1.S.C.'));
    expect(request?.headers?.toString()).toBe('NATS/1.0 100 FlowControl Request\r\n\r\n');
    expect(sent.filter(({ payload }) => payload.length > 0)).toHaveLength(2);
    rig.engine.handle({
      kind: 'flow-control',
      subject: request!.reply.slice(rig.account.flowControlPrefix.length),
    });
    rig.settle();
    expect(rig.take().filter(({ payload }) => payload.length > 0)).toHaveLength(2);
  });

  it('replaces the payload by its size when asked', () => {
    rig.publish('a.1', 'twelve bytes');
    rig.consumer({ ack_policy: 'none', deliver_subject: 'to.me', headers_only: true });
    rig.interest('space.p1.to.me', true);
    const [message] = rig.take();
    expect(message!.headers?.toString()).toBe('NATS/1.0\r\nNats-Msg-Size: 12\r\n\r\n');
    expect(message!.payload).toHaveLength(0);
  });
});

describe('a consumer that cannot be had', () => {
  let rig: ConsumerRig;
  beforeEach(() => {
    rig = new ConsumerRig();
    rig.stream();
  });

  it.each([
    [{ durable_name: 'X' }, 10017],
    [{ deliver_subject: 'a.b' }, 10081],
    [{ deliver_subject: 'x.*' }, 10079],
    [{ deliver_subject: 'x', flow_control: true }, 10108],
    [{ deliver_subject: 'x', idle_heartbeat: 5 }, 10083],
    [{ idle_heartbeat: second }, 10088],
    [{ deliver_policy: 'by_start_sequence' }, 10094],
    [{ deliver_policy: 'last_per_subject' }, 10094],
    [{ filter_subject: 'a.1', filter_subjects: ['a.2'] }, 10136],
    [{ filter_subjects: ['a.*', 'a.2'] }, 10138],
    [{ filter_subjects: [''] }, 10139],
    [{ num_replicas: 3 }, 10074],
    [{ backoff: [1, 2, 3], max_deliver: 2 }, 10116],
    [{ priority_policy: 'overflow', priority_groups: ['g'] }, 10094],
  ])('%j', (config, code) => {
    expect(rig.consumer(config)).toMatchObject({ error: { err_code: code } });
    expect(rig.info()).toMatchObject({ error: { err_code: 10014 } });
  });

  it('on a work queue, when another wants the same messages', () => {
    rig.api('STREAM.CREATE.W', { name: 'W', subjects: ['w.>'], retention: 'workqueue' });
    const ask = (name: string, config: object): unknown =>
      rig.api(`CONSUMER.CREATE.W.${name}`, {
        stream_name: 'W',
        config: { name, ack_policy: 'explicit', ...config },
      }).error;
    expect(ask('one', { filter_subject: 'w.1' })).toBeUndefined();
    expect(ask('two', { filter_subject: 'w.*' })).toMatchObject({ err_code: 10100 });
    expect(ask('all', {})).toMatchObject({ err_code: 10099 });
    expect(ask('new', { filter_subject: 'w.2', deliver_policy: 'new' })).toMatchObject({
      err_code: 10101,
    });
    expect(ask('three', { filter_subject: 'w.3' })).toBeUndefined();
  });
});
