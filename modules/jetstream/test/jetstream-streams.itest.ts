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
      { subjects: ['$JS.API.>'] },
      { subjects: ['$JS.>'] },
      { subjects: ['*.API.>'] },
      { subjects: ['$SYS.>'] },
      { subjects: ['c.é.à'] },
      { name: 'd' },
      { name: '' },
      { max_msgs: 'ten' },
      { nope: true },
      { max_msgs: null, metadata: null },
      { subjects: 'c' },
      { persist_mode: '' },
    ];
    for (const [at, config] of configs.entries()) {
      // A name of its own: the server deletes a stream's files a little later.
      const name = `c${at}`;
      await pair.api(`STREAM.CREATE.${name}`, { ...base, name, ...config });
      await pair.api(`STREAM.INFO.${name}`);
      await pair.api(`STREAM.DELETE.${name}`);
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
    await pair.withStream(config, async () => {
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

  test('to requests about consumers that go wrong', async () => {
    const group = { group: 'a' };
    const requests: [string, unknown][] = [
      ['NAMES.none', ''],
      ['LIST.none', ''],
      ['INFO.none.c', ''],
      ['INFO.crowd.c', ''],
      ['DELETE.crowd.c', ''],
      ['PAUSE.crowd.c', '{}'],
      ['NAMES.crowd', 'x'],
      ['NAMES.crowd', '{"x":1}'],
      ['LEADER.STEPDOWN.crowd.c', ''],
      ['PEER.REMOVE.crowd.c', { peer: 'a' }],
      ['PEER.EVACUATE.crowd.c', { peer: 'a' }],
      ['UNPIN.crowd.c', ''],
      ['UNPIN.crowd.c', group],
      ['UNPIN.none.c', group],
      ['CREATE.crowd', ''],
      ['CREATE.crowd', 'x'],
      ['CREATE.crowd', { stream_name: 'crowd', config: { nope: 1 } }],
      ['CREATE.none', { stream_name: 'none' }],
    ];
    await pair.withStream({ name: 'crowd' }, async () => {
      for (const [subject, body] of requests) await pair.api(`CONSUMER.${subject}`, body);
      await pair.api('CONSUMER.INFO.crowd.c', '', { 'Nats-Required-Api-Level': '100' });
      // Both have counted the same.
      await pair.api('INFO');
    });
    const [answer] = pair.ours.request('$JS.API.CONSUMER.MSG.NEXT.crowd.c', '');
    expect(answer!.headers?.toString()).toBe('NATS/1.0 503\r\n\r\n');
    const next = pair.request('$JS.API.CONSUMER.MSG.NEXT.crowd.c');
    await expect(next).rejects.toThrow('no responders');
  });
});
