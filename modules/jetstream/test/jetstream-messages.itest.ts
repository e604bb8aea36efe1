import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { EnginePair } from './support/engine-pair.js';

let pair: EnginePair;
beforeAll(async () => {
  pair = await EnginePair.start();
});
afterAll(() => pair?.close());

beforeEach(() => {
  pair.differences = [];
});
afterEach(async () => {
  expect(pair.differences).toEqual([]);
});

describe('messages are stored like by nats-server', () => {
  test('with conditions', async () => {
    await pair.withStream({ name: 'when', subjects: ['when.>'] }, async () => {
      await pair.same('when.a', 'one', { 'Nats-Msg-Id': 'a1' });
      await pair.same('when.a', 'one', { 'Nats-Msg-Id': 'a1' });
      await pair.same('when.b', 'two', { 'Nats-Expected-Stream': 'when' });
      await pair.same('when.b', 'two', { 'Nats-Expected-Stream': 'other' });
      await pair.same('when.b', 'x', { 'Nats-Expected-Last-Sequence': '1' });
      await pair.same('when.b', 'x', { 'Nats-Expected-Last-Sequence': 'x' });
      await pair.same('when.b', 'x', { 'Nats-Expected-Last-Sequence': '2' });
      await pair.same('when.a', 'x', { 'Nats-Expected-Last-Subject-Sequence': '2' });
      await pair.same('when.a', 'x', { 'Nats-Expected-Last-Subject-Sequence': '1' });
      await pair.same('when.new', 'x', { 'Nats-Expected-Last-Subject-Sequence': '1' });
      await pair.same('when.new', 'x', { 'Nats-Expected-Last-Subject-Sequence': '0' });
      await pair.same('when.new', 'x', { 'Nats-Expected-Last-Subject-Sequence': '0' });
      for (const [subject, seq] of [
        ['when.a', '4'],
        ['when.a', '3'],
        ['when.*', '5'],
        ['when.>', '5'],
        ['when.none', '0'],
      ]) {
        await pair.same('when.c', 'x', {
          'Nats-Expected-Last-Subject-Sequence': seq!,
          'Nats-Expected-Last-Subject-Sequence-Subject': subject!,
        });
      }
      await pair.same('when.c', 'x', { 'Nats-Expected-Last-Subject-Sequence-Subject': 'when.a' });
      await pair.same('when.c', 'x', { 'Nats-Msg-Id': 'c1' });
      await pair.same('when.c', 'x', { 'Nats-Expected-Last-Msg-Id': 'c2' });
      await pair.same('when.c', 'x', { 'Nats-Expected-Last-Msg-Id': 'c1' });
      await pair.same('when.c', 'x', { 'Nats-Expected-Last-Msg-Id': 'c1' });
      await pair.same('when.c', 'x', { 'Nats-Rollup': 'sub' });
      await pair.same('when.c', 'x', { 'Nats-TTL': '1s' });
      await pair.same('when.c', 'x', { 'Nats-TTL': 'nope' });
      await pair.same('when.c', 'x', { 'Nats-TTL': '0' });
      await pair.same('when.c', 'x', { 'Nats-Incr': '1' });
      await pair.same('when.c', '', { 'Nats-Incr': 'x' });
      await pair.same('when.c', 'x', { 'Nats-Batch-Id': 'b', 'Nats-Batch-Sequence': '1' });
      await pair.same('when.c', 'x', { 'Nats-Schedule': '@every 1s' });
      await pair.same('when.c', 'x', { 'Nats-Schedule': 'nope' });
      await pair.same('when.c', 'x', { 'Nats-Scheduler': 'when.s' });
      await pair.same('when.c', 'x', { 'Nats-Schedule-Next': 'purge' });
      await pair.same('when.c', 'x', {
        'Nats-Schedule-Next': 'purge',
        'Nats-Scheduler': 'when.s',
      });
      await pair.same('when.c', 'x', { 'Nats-Stream-Source': 'x 1' });
      await pair.same('when.c', 'x', { 'Nats-Something': 'else', other: 'x' });
      await pair.same('when.c', 'x', { big: 'x'.repeat(70_000) });
    });
  });

  test('up to limits', async () => {
    const limits: Record<string, unknown>[] = [
      { max_msgs: 3 },
      { max_bytes: 130 },
      { max_msgs_per_subject: 2 },
      { max_msgs_per_subject: 1, max_msgs: 2 },
      { max_msg_size: 8 },
      { max_msgs: 3, discard: 'new' },
      { max_bytes: 130, discard: 'new' },
      { max_msgs_per_subject: 1, discard: 'new', max_msgs: 2 },
      { max_msgs_per_subject: 1, discard: 'new', max_bytes: 120 },
      { max_msgs_per_subject: 1, discard: 'new', discard_new_per_subject: true },
      { retention: 'interest' },
      { no_ack: false, first_seq: 50 },
    ];
    for (const [at, limit] of limits.entries()) {
      const name = `limits${at}`;
      const subjects = [`limits${at}.>`];
      await pair.withStream({ name, subjects, ...limit }, async () => {
        for (let i = 0; i < 12; i += 1) {
          const payload = 'x'.repeat(i % 4 === 3 ? 12 : 3);
          await pair.same(`${name}.${(i * i) % 5}`, payload, i % 3 === 0 ? { a: 'b' } : undefined);
        }
        await pair.api(`STREAM.INFO.${name}`, { deleted_details: true, subjects_filter: '>' });
      });
    }
  });

  test('that roll others up', async () => {
    const config = { name: 'roll', subjects: ['roll.>'], allow_rollup_hdrs: true };
    await pair.withStream(config, async () => {
      for (let i = 0; i < 9; i += 1) await pair.same(`roll.${i % 3}`, `${i}`);
      await pair.same('roll.1', 'sum', { 'Nats-Rollup': 'sub' });
      await pair.api('STREAM.INFO.roll', { deleted_details: true, subjects_filter: '>' });
      await pair.same('roll.1', 'sum', { 'Nats-Rollup': 'nope' });
      await pair.same('roll.1', 'sum', { 'Nats-Rollup': 'ALL' });
      await pair.api('STREAM.INFO.roll', { deleted_details: true, subjects_filter: '>' });
      await pair.same('roll.1', 'next');
    });
  });

  test('and purged and deleted', async () => {
    const purges: unknown[] = [
      '',
      {},
      { filter: 'purge.1' },
      { filter: 'purge.*' },
      { filter: '>' },
      { filter: 'none' },
      { seq: 1 },
      { seq: 5 },
      { seq: 100 },
      { keep: 2 },
      { keep: 100 },
      { seq: 5, filter: 'purge.1' },
      { keep: 1, filter: 'purge.1' },
      { keep: 1, filter: '>' },
      { seq: 5, keep: 2 },
      { seq: -1 },
      'nope',
      '{"nope":1}',
    ];
    await pair.api('STREAM.PURGE.nope');
    for (const [at, purge] of purges.entries()) {
      const name = `purge${at}`;
      await pair.withStream({ name, subjects: ['purge.*'] }, async () => {
        await pair.api(`STREAM.PURGE.${name}`);
        for (let i = 0; i < 9; i += 1) await pair.same(`purge.${i % 3}`, `${i}`);
        await pair.api(`STREAM.MSG.DELETE.${name}`, { seq: 1, no_erase: true });
        await pair.api(`STREAM.MSG.DELETE.${name}`, { seq: 9 });
        await pair.api(`STREAM.MSG.DELETE.${name}`, { seq: 7 });
        await pair.api(`STREAM.MSG.DELETE.${name}`, { seq: 7 });
        await pair.api(`STREAM.INFO.${name}`, { deleted_details: true });
        await pair.api(`STREAM.PURGE.${name}`, purge);
        await pair.api(`STREAM.INFO.${name}`, { deleted_details: true, subjects_filter: '>' });
        await pair.same('purge.new', 'after');
      });
    }
    const denied = { name: 'denied', deny_delete: true, deny_purge: true };
    await pair.withStream(denied, async () => {
      await pair.same('denied', 'x');
      await pair.api('STREAM.PURGE.denied');
      await pair.api('STREAM.MSG.DELETE.denied', { seq: 1 });
      await pair.api('STREAM.MSG.DELETE.denied');
      await pair.api('STREAM.MSG.DELETE.denied', 'x');
    });
    await pair.api('STREAM.MSG.DELETE.nope', { seq: 1 });
  });
});

describe('messages are read like from nats-server', () => {
  const config = { name: 'read', subjects: ['read.>'], allow_direct: true };
  const gets: unknown[] = [
    '',
    '{}',
    'x',
    '{"nope":1}',
    { seq: 1 },
    { seq: 4 },
    { seq: 100 },
    { seq: -1 },
    { last_by_subj: 'read.1' },
    { last_by_subj: 'read.*' },
    { last_by_subj: 'none' },
    { next_by_subj: 'read.1' },
    { next_by_subj: 'read.>', seq: 4 },
    { next_by_subj: 'read.1', seq: 9 },
    { seq: 1, last_by_subj: 'read.1' },
    { last_by_subj: 'read.1', next_by_subj: 'read.1' },
    { start_time: '2000-01-01T00:00:00Z' },
    { start_time: '2100-01-01T00:00:00Z' },
    { start_time: 'nope' },
    { start_time: '2000-01-01T00:00:00.123456789+02:00', next_by_subj: 'read.2' },
    { seq: 2, start_time: '2000-01-01T00:00:00Z' },
    { seq: 2, no_hdr: true },
    { up_to_seq: 5 },
  ];

  async function fill(): Promise<void> {
    for (let i = 0; i < 10; i += 1) {
      const header = i % 2 === 0 ? { number: String(i), text: 'ü' } : undefined;
      await pair.same(`read.${i % 3}`, i === 5 ? '' : `message ${i}`, header);
    }
    await pair.api('STREAM.MSG.DELETE.read', { seq: 4 });
  }

  test('one by one', async () => {
    await pair.withStream(config, async () => {
      await fill();
      for (const get of [...gets, { batch: 2, seq: 1 }, { max_bytes: 2, seq: 1 }]) {
        await pair.api('STREAM.MSG.GET.read', get);
      }
      for (const get of gets) await pair.api('DIRECT.GET.read', get);
      for (const key of ['read.1', 'read.*', 'none', 'read.>']) {
        await pair.api(`DIRECT.GET.read.${key}`);
        await pair.api(`DIRECT.GET.read.${key}`, { no_hdr: true });
      }
      await pair.api('DIRECT.GET.read.read.1', { seq: 1 });
      await pair.api('DIRECT.GET.read.read.1', 'x');
      await pair.api('DIRECT.GET.read', { seq: 1 }, { 'Nats-Required-Api-Level': '99' });
    });
    await pair.api('STREAM.MSG.GET.nope', { seq: 1 });
  });

  test('in batches', async () => {
    await pair.withStream({ ...config, name: 'reads' }, async () => {
      for (let i = 0; i < 20; i += 1) {
        await pair.same(`read.${i % 4}`, `message ${i}`, i % 5 === 0 ? { a: 'b' } : undefined);
      }
      await pair.api('STREAM.MSG.DELETE.reads', { seq: 3 });
      const batches: unknown[] = [
        { seq: 1, batch: 5 },
        { seq: 18, batch: 5 },
        { seq: 100, batch: 5 },
        { next_by_subj: 'read.1', batch: 3 },
        { next_by_subj: 'read.1', batch: 300 },
        { next_by_subj: 'read.*', seq: 7, batch: 3 },
        { next_by_subj: 'none', batch: 3 },
        { seq: 1, batch: 10, max_bytes: 40 },
        { start_time: '2000-01-01T00:00:00Z', batch: 3 },
        { batch: 3 },
        { last_by_subj: 'read.1', batch: 3 },
        { multi_last: ['read.1', 'read.2'] },
        { multi_last: ['read.>'] },
        { multi_last: ['read.>'], batch: 2 },
        { multi_last: ['read.>'], up_to_seq: 9 },
        { multi_last: ['read.>', 'read.1'], up_to_seq: 2 },
        { multi_last: ['read.>'], max_bytes: 10 },
        { multi_last: ['none'] },
        { multi_last: ['read.>'], up_to_time: '2000-01-01T00:00:00Z' },
        { multi_last: ['read.>'], up_to_time: '2100-01-01T00:00:00Z' },
        { multi_last: ['read.>'], up_to_time: '2100-01-01T00:00:00Z', up_to_seq: 3 },
        { multi_last: ['read.>'], seq: 18 },
        { multi_last: ['read.1'], next_by_subj: 'read.1' },
      ];
      for (const batch of batches) await pair.sameMany('$JS.API.DIRECT.GET.reads', batch);
    });
  });
});

describe('retention works like in nats-server', () => {
  const consumer = (stream: string, name: string, filter?: string): Promise<unknown> =>
    pair.api(`CONSUMER.CREATE.${stream}.${name}${filter ? `.${filter}` : ''}`, {
      stream_name: stream,
      config: { durable_name: name, name, ack_policy: 'explicit', filter_subject: filter },
    });

  test('of a work queue', async () => {
    const config = { name: 'work', subjects: ['work.>'], retention: 'workqueue' };
    await pair.withStream(config, async () => {
      for (let i = 0; i < 6; i += 1) await pair.same(`work.${i % 2}`, `job ${i}`);
      await consumer('work', 'even', 'work.0');
      await pair.pull('work', 'even', 2);
      await pair.settled('work');
      await pair.api('STREAM.INFO.work', { deleted_details: true, subjects_filter: '>' });
      await pair.pull('work', 'even', 10);
      await pair.settled('work');
      await consumer('work', 'odd', 'work.1');
      await pair.pull('work', 'odd', 10);
      await pair.settled('work');
      await pair.api('STREAM.UPDATE.work', { ...config, consumer_limits: { max_ack_pending: 5 } });
    });
  });

  test('of interest', async () => {
    const config = { name: 'wish', subjects: ['wish.>'], retention: 'interest' };
    await pair.withStream(config, async () => {
      await pair.same('wish.0', 'nobody wants it', { 'Nats-Msg-Id': 'a' });
      await pair.same('wish.0', 'nobody wants it', { 'Nats-Msg-Id': 'a' });
      await pair.same('wish.0', 'x', { 'Nats-Expected-Last-Msg-Id': 'a' });
      await consumer('wish', 'all');
      await consumer('wish', 'one', 'wish.1');
      for (let i = 0; i < 6; i += 1) await pair.same(`wish.${i % 3}`, `message ${i}`);
      await pair.api('STREAM.INFO.wish', { subjects_filter: '>' });
      await pair.pull('wish', 'all', 4);
      await pair.settled('wish');
      await pair.pull('wish', 'one', 1);
      await pair.settled('wish');
      await pair.api('STREAM.INFO.wish', { deleted_details: true, subjects_filter: '>' });
      await pair.api('CONSUMER.DELETE.wish.one');
      await pair.settled('wish');
      await pair.pull('wish', 'all', 10);
      await pair.settled('wish');
      await pair.same('wish.1', 'more');
      await pair.api('STREAM.INFO.wish', { subjects_filter: '>' });
    });
  });
});

describe('time works like in nats-server', () => {
  test('for messages with a TTL, and their markers', async () => {
    const second = 1_000_000_000;
    const config = { name: 'ttl', subjects: ['ttl.>'], allow_msg_ttl: true };
    await pair.withStream(config, async () => {
      await pair.same('ttl.a', 'x', { 'Nats-TTL': '1' });
      await pair.same('ttl.a', 'x', { 'Nats-TTL': 'never' });
      for (const ttl of ['0', '1ms', '-1', 'x', '1h', '1.5s', '2h45m']) {
        await pair.same('ttl.b', 'x', { 'Nats-TTL': ttl });
      }
      await pair.expired('ttl', { messages: 3, last_seq: 5 });
      await pair.api('STREAM.INFO.ttl', { deleted_details: true, subjects_filter: '>' });
    });
    const marked = { ...config, name: 'mark', subject_delete_marker_ttl: 60 * second };
    await pair.withStream(
      { ...marked, max_age: 2 * second, duplicate_window: second },
      async () => {
        for (const subject of ['ttl.a', 'ttl.a', 'ttl.b']) await pair.same(subject, 'x');
        await pair.same('ttl.c', 'x', { 'Nats-TTL': 'never' });
        await pair.same('ttl.d', '', { 'KV-Operation': 'PURGE' });
        await pair.expired('mark', { messages: 3, last_seq: 7 });
        await pair.api('STREAM.INFO.mark', { deleted_details: true, subjects_filter: '>' });
        await pair.api('STREAM.MSG.GET.mark', { last_by_subj: 'ttl.a' });
      },
    );
  });
});
