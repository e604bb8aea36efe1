import { EnginePair } from './jetstream/engine-pair.js';

let pair: EnginePair;
beforeAll(async () => {
  pair = await EnginePair.start();
});
afterAll(() => pair?.close());

beforeEach(() => (pair.differences = []));
afterEach(async () => {
  expect(pair.differences).toEqual([]);
});

/** Makes a stream that lives for one test. */
async function withStream(config: { name: string }, run: () => Promise<void>): Promise<void> {
  await pair.api(`STREAM.CREATE.${config.name}`, config);
  try {
    await run();
    await pair.api(`STREAM.INFO.${config.name}`, { deleted_details: true, subjects_filter: '>' });
  } finally {
    await pair.api(`STREAM.DELETE.${config.name}`);
  }
}

describe('the API of streams answers like nats-server', () => {
  test('to create, show, list and delete', async () => {
    await pair.api('INFO');
    await pair.api('STREAM.NAMES');
    await pair.api('STREAM.LIST');
    await pair.api('STREAM.INFO.nope');
    await pair.api('STREAM.CREATE.orders', { name: 'orders', subjects: ['orders.>'] });
    await pair.api('STREAM.CREATE.orders', { name: 'orders', subjects: ['orders.>'] });
    await pair.api('STREAM.CREATE.orders', { name: 'orders', subjects: ['orders.*'] });
    await pair.api('STREAM.CREATE.other', { name: 'other', subjects: ['orders.1'] });
    await pair.api('STREAM.CREATE.other', { name: 'other', subjects: ['*.1'] });
    await pair.api('STREAM.CREATE.other', { name: 'other', subjects: ['*.*', 'x'] });
    await pair.api('STREAM.CREATE.alone', { name: 'alone', storage: 'memory', max_bytes: 4096 });
    await pair.api('STREAM.INFO.orders');
    await pair.api('STREAM.NAMES');
    await pair.api('STREAM.NAMES', { offset: 1 });
    await pair.api('STREAM.NAMES', { offset: 10 });
    await pair.api('STREAM.NAMES', { offset: -10 });
    await pair.api('STREAM.NAMES', { subject: 'orders.1.2' });
    await pair.api('STREAM.NAMES', { subject: 'nope' });
    await pair.api('STREAM.LIST');
    await pair.api('STREAM.LIST', { subject: '*' });
    await pair.api('STREAM.LIST', { subject: 'nope' });
    await pair.api('STREAM.LIST', { offset: 1 });
    await pair.api('INFO');
    await pair.same('orders.1', 'one');
    await pair.api('INFO');
    await pair.api('STREAM.INFO.orders');
    await pair.api('STREAM.MSG.GET.orders', { seq: 1 });
    await pair.api('STREAM.DELETE.orders', { force: true });
    await pair.api('STREAM.DELETE.orders', '{}');
    await pair.api('STREAM.DELETE.orders');
    await pair.api('STREAM.DELETE.alone');
  });

  test('to configurations of all kinds', async () => {
    const second = 1_000_000_000;
    const base = { name: 'c', subjects: ['c.>'] };
    const configs: Record<string, unknown>[] = [
      {},
      { max_msgs: 10, max_bytes: 1000, max_age: second, max_msg_size: 100, max_consumers: 3 },
      { max_msgs: -5, max_bytes: -5, max_msg_size: -7, max_consumers: 0 },
      { max_msgs: -5, pedantic: true },
      { max_age: -1 },
      { max_age: 5 },
      { max_age: 150 * 24 * 3600 * second },
      { duplicate_window: -1 },
      { duplicate_window: 5 },
      { duplicate_window: 2 * second, max_age: second },
      { duplicate_window: second },
      { max_age: second, pedantic: true },
      { discard: 'new', max_msgs: 3 },
      { discard: 'new', discard_new_per_subject: true },
      { discard_new_per_subject: true, max_msgs_per_subject: 1 },
      { discard: 'new', discard_new_per_subject: true, max_msgs_per_subject: 1 },
      { retention: 'interest' },
      { retention: 'workqueue' },
      { retention: 'nope' },
      { storage: 'nope' },
      { discard: 'nope' },
      { compression: 's2' },
      { compression: 'gzip' },
      { num_replicas: 0 },
      { num_replicas: 3 },
      { num_replicas: 7 },
      { num_replicas: -1 },
      { no_ack: true },
      { sealed: true },
      { deny_delete: true, deny_purge: true },
      { deny_purge: true, allow_rollup_hdrs: true },
      { allow_rollup_hdrs: true, allow_direct: true },
      { mirror_direct: true },
      { allow_msg_ttl: true },
      { subject_delete_marker_ttl: 5 },
      { subject_delete_marker_ttl: -5 },
      { subject_delete_marker_ttl: second },
      { subject_delete_marker_ttl: second, pedantic: true },
      { subject_delete_marker_ttl: second, allow_msg_ttl: true, pedantic: true },
      { subject_delete_marker_ttl: second, deny_purge: true },
      { first_seq: 1000 },
      { first_seq: 1 },
      { metadata: { a: 'b', '_nats.ver': 'x' } },
      { consumer_limits: { max_ack_pending: 5, inactive_threshold: second } },
      { description: 'a stream' },
      { description: 'x'.repeat(5000) },
      { metadata: { a: 'x'.repeat(140_000) } },
      { placement: {} },
      { placement: { preferred: 'x' } },
      { placement: { cluster: 'x', tags: ['a'] } },
      { subjects: [] },
      { subjects: ['a b'] },
      { subjects: ['a..b'] },
      { subjects: ['a.>.b'] },
      { subjects: ['c.1', 'c.1'] },
      { subjects: ['c.1', 'c.*'] },
      { subjects: ['>'] },
      { subjects: ['>'], no_ack: true },
      { subjects: ['$JS.API.>'] },
      { subjects: ['$JS.EVENT.>'] },
      { subjects: ['$JS.>'] },
      { subjects: ['*.API.>'] },
      { subjects: ['$SYS.>'] },
      { subjects: ['$SYS.ACCOUNT.>'] },
      { subjects: ['c.é.à'] },
      { name: 'd' },
      { name: '' },
      { max_msgs: 'ten' },
      { nope: true },
      { max_msgs: null, metadata: null },
      { subjects: 'c' },
      { persist_mode: '' },
    ];
    for (const config of configs) {
      await pair.api('STREAM.CREATE.c', { ...base, ...config });
      // These hear what servers tell of themselves.
      if (!/EVENT|">"/.test(JSON.stringify(config))) await pair.api('STREAM.INFO.c');
      await pair.api('STREAM.DELETE.c');
    }
    for (const name of ['a*', 'a>', 'a/b', 'a\\b', 'x'.repeat(255), 'x'.repeat(256)]) {
      await pair.api(`STREAM.CREATE.${name}`, { name, subjects: ['names'] });
      await pair.api(`STREAM.DELETE.${name}`);
    }
    await pair.api('STREAM.CREATE.c', '');
    await pair.api('STREAM.CREATE.c', '{');
    await pair.api('STREAM.CREATE.c', '[]');
    await pair.api('STREAM.CREATE.c', 'nope');
  });

  test('to updates', async () => {
    const second = 1_000_000_000;
    const base = { name: 'u', subjects: ['u.>'], max_msgs: 10 };
    const updates: [Record<string, unknown>, Record<string, unknown>][] = [
      [{}, { max_msgs: 5 }],
      [{}, { subjects: ['u.1', 'u.2'] }],
      [{}, { storage: 'memory' }],
      [{}, { num_replicas: 3 }],
      [{}, { name: 'v' }],
      [{}, { retention: 'interest' }],
      [{}, { retention: 'workqueue' }],
      [{ retention: 'workqueue' }, { retention: 'limits' }],
      [{ retention: 'interest' }, { retention: 'limits' }],
      [{}, { sealed: true }],
      [{ deny_delete: true }, { deny_delete: false }],
      [{ deny_purge: true }, { deny_purge: false }],
      [{ allow_msg_ttl: true }, { allow_msg_ttl: false }],
      [{}, { allow_msg_ttl: true, subject_delete_marker_ttl: second }],
      [{}, { max_age: second, duplicate_window: second }],
      [{}, { max_age: 5 }],
      [{}, { discard: 'new' }],
      [{}, { allow_rollup_hdrs: true, allow_direct: true }],
      [{}, { first_seq: 100 }],
      [{}, { max_consumers: 5 }],
      [{}, { metadata: { b: 'c' } }],
      [{ metadata: { a: 'b' } }, {}],
      [{ description: 'x' }, { description: '' }],
    ];
    for (const [at, [before, after]] of updates.entries()) {
      // A name of its own: the server deletes a stream's files a little later.
      const name = `u${at}`;
      await pair.api(`STREAM.CREATE.${name}`, { ...base, name, ...before });
      for (let i = 0; i < 8; i += 1) await pair.same(`u.${i % 3}`, `message ${i}`);
      await pair.api(`STREAM.UPDATE.${name}`, { ...base, name, ...before, ...after });
      await pair.api(`STREAM.INFO.${name}`, { subjects_filter: 'u.*', deleted_details: true });
      await pair.api(`STREAM.DELETE.${name}`);
    }
    await pair.api('STREAM.UPDATE.u', base);
    await pair.api('STREAM.UPDATE.u', '');
    await pair.api('STREAM.UPDATE.u', '{"nope":1}');
  });

  test('to a sealed stream', async () => {
    const config = { name: 'sealed', subjects: ['sealed'] };
    await withStream(config, async () => {
      await pair.same('sealed', 'one');
      await pair.api('STREAM.UPDATE.sealed', { ...config, sealed: true });
      await pair.same('sealed', 'two');
      await pair.api('STREAM.MSG.DELETE.sealed', { seq: 1 });
      await pair.api('STREAM.PURGE.sealed');
      await pair.api('STREAM.MSG.GET.sealed', { seq: 1 });
      await pair.api('STREAM.UPDATE.sealed', config);
    });
  });

  test('to what only a cluster or nobody knows', async () => {
    await pair.api('STREAM.LEADER.STEPDOWN.x');
    await pair.api('STREAM.PEER.REMOVE.x', { peer: 'a' });
    await pair.api('STREAM.PEER.EVACUATE.x', { peer: 'a' });
    await pair.api('STREAM.CANCEL_MOVE.x');
    await pair.api('STREAM.SNAPSHOT.x');
    await pair.api('STREAM.SNAPSHOT.x', { deliver_subject: 'x' });
    await pair.api('STREAM.RESTORE.x');
    await pair.api('STREAM.RESTORE.x', { config: { name: 'y' }, state: {} });
    await pair.api('INFO', '', { 'Nats-Required-Api-Level': '99' });
    await pair.api('STREAM.INFO.x', '', { 'Nats-Required-Api-Level': 'x' });
  });
});

describe('messages are stored like by nats-server', () => {
  test('with conditions', async () => {
    await withStream({ name: 'when', subjects: ['when.>'] } as { name: string }, async () => {
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
      await withStream({ name, subjects, ...limit } as { name: string }, async () => {
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
    await withStream(config, async () => {
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
      await withStream({ name, subjects: ['purge.*'] } as { name: string }, async () => {
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
    await withStream(denied, async () => {
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
    await withStream(config, async () => {
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
    await withStream({ ...config, name: 'reads' }, async () => {
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
