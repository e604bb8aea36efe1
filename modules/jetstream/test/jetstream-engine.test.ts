import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { subjectsCollide, SubjectSet } from '../src/engine/subject-match.js';
import { EngineRig } from './support/engine-rig.js';
import { Random } from '@rookery/core/testing';

const second = 1_000_000_000;
const minuteMs = 60_000;

let rig: EngineRig;
beforeEach(() => {
  rig = new EngineRig();
});
afterEach(() => rig.close());

interface State {
  readonly messages: number;
  readonly first_seq: number;
  readonly last_seq: number;
  readonly subjects?: Record<string, number>;
}

function create(config: Record<string, unknown>): void {
  const answer = rig.api(`STREAM.CREATE.${String(config.name)}`, config);
  expect(answer.error).toBeUndefined();
}

const stateOf = (name: string): State =>
  rig.api<{ state: State }>(`STREAM.INFO.${name}`, { subjects_filter: '>' }).state;

/** Header block of the newest message on a subject. */
function newest(stream: string, subject: string): string {
  const answer = rig.api<{ message?: { hdrs?: string } }>(`STREAM.MSG.GET.${stream}`, {
    last_by_subj: subject,
  });
  return Buffer.from(answer.message?.hdrs ?? '', 'base64').toString();
}

describe('time', () => {
  it('takes away what is older than max_age, and says when', () => {
    create({ name: 'aged', max_age: 60 * second });
    expect(rig.engine.nextWakeMs()).toBeNull();
    rig.publish('aged', 'first');
    const due = rig.engine.nextWakeMs();
    expect(due! - rig.clock.now()).toBeGreaterThan(59_000);
    rig.pass(30_000);
    rig.publish('aged', 'second');
    rig.pass(30_100);
    expect(stateOf('aged')).toMatchObject({ messages: 1, first_seq: 2 });
    rig.pass(minuteMs);
    expect(stateOf('aged')).toMatchObject({ messages: 0, first_seq: 3, last_seq: 2 });
    expect(rig.engine.nextWakeMs()).toBeNull();
  });

  it('leaves messages that never expire, and finds the others behind them', () => {
    create({ name: 'never', max_age: 60 * second, allow_msg_ttl: true });
    rig.publish('never', 'stays', { 'Nats-TTL': 'never' });
    rig.publish('never', 'goes');
    rig.pass(2 * minuteMs);
    expect(stateOf('never')).toMatchObject({ messages: 1, first_seq: 1 });
    rig.publish('never', 'goes, too');
    expect(rig.engine.nextWakeMs()).not.toBeNull();
    rig.pass(2 * minuteMs);
    expect(stateOf('never')).toMatchObject({ messages: 1, first_seq: 1, last_seq: 3 });
    expect(rig.engine.nextWakeMs()).toBeNull();
  });

  it('takes away messages with a TTL of their own', () => {
    create({ name: 'ttl', allow_msg_ttl: true });
    rig.publish('ttl', 'short', { 'Nats-TTL': '1' });
    rig.publish('ttl', 'long', { 'Nats-TTL': '1h30m' });
    rig.pass(1_500);
    expect(stateOf('ttl')).toMatchObject({ messages: 1, first_seq: 2 });
    rig.pass(5_400_000);
    expect(stateOf('ttl')).toMatchObject({ messages: 0 });
  });

  it('refuses TTLs where they are off, and what is none', () => {
    create({ name: 'off' });
    create({ name: 'on', allow_msg_ttl: true });
    const errorOf = (subject: string, ttl: string): unknown =>
      rig.publish(subject, '', { 'Nats-TTL': ttl }).error;
    expect(errorOf('off', '5s')).toMatchObject({ err_code: 10166 });
    for (const ttl of ['500ms', '-5', 'soon', '1.5', '0']) {
      expect(errorOf('on', ttl)).toMatchObject({ err_code: 10165 });
    }
    for (const ttl of ['1s', '2', '1m1s', 'NEVER']) expect(errorOf('on', ttl)).toBeUndefined();
  });

  it('leaves a marker for the last message of a subject that expires, which expires, too', () => {
    create({ name: 'marked', subjects: ['m.*'], subject_delete_marker_ttl: 90 * second });
    rig.publish('m.a', 'x', { 'Nats-TTL': '100s' });
    rig.publish('m.b', 'x', { 'Nats-TTL': '100s' });
    rig.publish('m.b', 'stays');
    rig.pass(101_000);
    expect(stateOf('marked')).toMatchObject({ messages: 2, subjects: { 'm.a': 1, 'm.b': 1 } });
    const marker = newest('marked', 'm.a');
    expect(marker).toContain('Nats-Marker-Reason: MaxAge\r\n');
    expect(marker).toContain('Nats-TTL: 1m30s\r\n');
    rig.pass(91_000);
    expect(stateOf('marked')).toMatchObject({ messages: 1, subjects: { 'm.b': 1 } });
  });

  it('lets a message with a TTL live as long as the marker of its subject', () => {
    create({ name: 'least', subject_delete_marker_ttl: 10 * second });
    rig.publish('least', 'x', { 'Nats-TTL': '2' });
    expect(newest('least', 'least')).toContain('Nats-TTL: 10\r\n');
    rig.pass(5_000);
    expect(stateOf('least').messages).toBe(1);
  });
});

describe('times of a consumer', () => {
  it('are kept to the nanosecond, also in the file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'engine-'));
    rig.close();
    rig = new EngineRig(join(folder, 'store.sqlite'));
    try {
      create({ name: 's' });
      rig.publish('s', 'x');
      let nowNs = 2_000_000_000_123_456_700n;
      rig.clock.nowNs = () => (nowNs += 1n);
      const config = { durable_name: 'c', ack_policy: 'explicit' };
      rig.api('CONSUMER.CREATE.s.c', { stream_name: 's', config });
      const [message] = rig.request('$JS.API.CONSUMER.MSG.NEXT.s.c', '1');
      rig.say(message!.reply, '+ACK');
      const until = '2033-05-18T04:33:20.123456999Z';
      const pause = rig.api('CONSUMER.PAUSE.s.c', { pause_until: until });
      expect(pause).toMatchObject({ paused: true, pause_until: until });
      expect(pause.pause_remaining).toBeGreaterThan(3_600 * second);
      expect(Number(pause.pause_remaining) % 1_000).not.toBe(0);
      const at = expect.stringMatching(/^2033-05-18T03:33:20\.1234567\d\dZ$/) as unknown as string;
      const info = rig.api('CONSUMER.INFO.s.c');
      expect(info).toMatchObject({
        created: at,
        delivered: { last_active: at },
        ack_floor: { last_active: at },
        config: { pause_until: until },
        ts: at,
      });
      rig.reopen();
      const { created, delivered, ack_floor, config: kept } = rig.api('CONSUMER.INFO.s.c');
      expect({ created, delivered, ack_floor, config: kept }).toEqual({
        created: info.created,
        delivered: info.delivered,
        ack_floor: info.ack_floor,
        config: info.config,
      });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('duplicates', () => {
  it('are found within the window only', () => {
    create({ name: 'dup', duplicate_window: 10 * second });
    const id = { 'Nats-Msg-Id': 'one' };
    expect(rig.publish('dup', 'x', id)).toEqual({ stream: 'dup', seq: 1 });
    expect(rig.publish('dup', 'x', id)).toEqual({ stream: 'dup', seq: 1, duplicate: true });
    rig.pass(11_000);
    expect(rig.publish('dup', 'x', id)).toEqual({ stream: 'dup', seq: 2 });
  });

  it('are found after a restart, and so is the last id', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'engine-'));
    rig.close();
    rig = new EngineRig(join(folder, 'store.sqlite'));
    try {
      create({ name: 'dup', subjects: ['dup.*'] });
      rig.publish('dup.1', 'x', { 'Nats-Msg-Id': 'one' });
      rig.publish('dup.2', 'y', { 'Nats-Msg-Id': 'two' });
      rig.reopen();
      expect(rig.outbox.listened.get('dup')).toEqual(['dup.*']);
      expect(rig.publish('dup.3', 'x', { 'Nats-Msg-Id': 'one' })).toMatchObject({
        seq: 1,
        duplicate: true,
      });
      const refused = rig.publish('dup.3', 'x', { 'Nats-Expected-Last-Msg-Id': 'one' });
      expect(refused.error).toMatchObject({
        err_code: 10070,
        description: 'wrong last msg ID: two',
      });
      expect(rig.publish('dup.3', 'x', { 'Nats-Expected-Last-Msg-Id': 'two' }).seq).toBe(3);
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('keep the engine from being put away as long as their ids would be lost', () => {
    create({ name: 'queue', retention: 'workqueue', duplicate_window: 10 * second });
    expect(rig.engine.idle).toBe(true);
    rig.publish('queue', 'x', { 'Nats-Msg-Id': 'one' });
    expect(rig.engine.idle).toBe(false);
    rig.pass(11_000);
    expect(rig.engine.idle).toBe(true);
  });
});

describe('a transaction that failed', () => {
  it('leaves nothing behind', () => {
    create({ name: 'kept' });
    rig.publish('kept', 'one', { 'Nats-Msg-Id': 'one' });
    const input = { reply: '', headers: null, payload: Buffer.from('two') };
    rig.engine.handle({ kind: 'publish', stream: 'kept', subject: 'kept', ...input });
    const payload = Buffer.from(JSON.stringify({ name: 'lost' }));
    rig.engine.handle({ kind: 'api', subject: 'STREAM.CREATE.lost', ...input, payload });
    expect(rig.outbox.listened.has('lost')).toBe(true);
    rig.store.rollback();
    rig.engine.reload();
    expect([...rig.outbox.listened.keys()]).toEqual(['kept']);
    expect(stateOf('kept')).toMatchObject({ messages: 1, last_seq: 1 });
    expect(rig.api('STREAM.INFO.lost').error).toMatchObject({ err_code: 10059 });
    expect(rig.publish('kept', 'two', { 'Nats-Msg-Id': 'one' }).duplicate).toBe(true);
    expect(rig.publish('kept', 'two').seq).toBe(2);
  });

  it('is not tried again at once when it was about what expired', () => {
    create({ name: 'aged', max_age: second, duplicate_window: second });
    rig.publish('aged', 'x');
    rig.clock.aheadMs += 2_000;
    rig.engine.wake(rig.clock.now());
    rig.store.rollback();
    rig.engine.reload();
    expect(stateOf('aged').messages).toBe(1);
    expect(rig.engine.nextWakeMs()! - rig.clock.now()).toBeGreaterThan(500);
    rig.pass(2_000);
    expect(stateOf('aged').messages).toBe(0);
  });

  it('is told to those who wait', () => {
    create({ name: 'full' });
    const full = Object.assign(new Error('database or disk is full'), { code: 'SQLITE_FULL' });
    const input = { reply: 'me', headers: null, payload: Buffer.alloc(0) };
    const answer = (): Record<string, unknown> =>
      JSON.parse(rig.take('me')[0]!.payload.toString()) as Record<string, unknown>;
    rig.engine.refuse({ kind: 'publish', stream: 'full', subject: 'full', ...input }, full);
    expect(answer()).toMatchObject({ error: { code: 503, err_code: 10023 }, stream: 'full' });
    rig.engine.refuse({ kind: 'api', subject: 'STREAM.CREATE.x', ...input }, full);
    expect(answer()).toMatchObject({
      type: 'io.nats.jetstream.api.v1.stream_create_response',
      error: { err_code: 10023 },
    });
    rig.engine.refuse({ kind: 'publish', stream: 'full', subject: 'x', ...input }, new Error('io'));
    expect(answer()).toMatchObject({ error: { code: 503, err_code: 10077 } });
    rig.engine.refuse({ kind: 'api', subject: 'DIRECT.GET.full', ...input }, full);
    expect(rig.take('me')[0]!.headers?.toString()).toMatch(/^NATS\/1\.0 500 /);
    rig.engine.refuse({ kind: 'api', subject: 'CONSUMER.MSG.NEXT.full.c', ...input }, full);
    expect(rig.take('me')[0]!.headers?.toString()).toMatch(/^NATS\/1\.0 409 Leadership Change/);
  });
});

describe('what is not supported', () => {
  const refused: [string, Record<string, unknown>][] = [
    ['stream mirrors', { mirror: { name: 'other' }, subjects: [] }],
    ['stream sources', { sources: [{ name: 'other' }] }],
    ['republish', { republish: { src: '>', dest: 'x.>' } }],
    ['subject transforms', { subject_transform: { src: '>', dest: 'x.>' } }],
    ['message counters', { allow_msg_counter: true }],
    ['atomic batch publishing', { allow_atomic: true }],
    ['fast batch publishing', { allow_batched: true }],
    ['message schedules', { allow_msg_schedules: true }],
    ['async persist mode', { persist_mode: 'async' }],
  ];
  it.each(refused)('%s: refused by name', (what, config) => {
    expect(rig.api('STREAM.CREATE.no', { name: 'no', ...config }).error).toEqual({
      code: 500,
      err_code: 10052,
      description: `${what} not supported`,
    });
    expect(rig.outbox.listened.size).toBe(0);
  });

  it('answers what nobody knows, and what has no responders', () => {
    expect(rig.api('STREAM.NOPE.x').error).toMatchObject({ err_code: 10003 });
    expect(rig.api('NOPE').error).toMatchObject({ err_code: 10003 });
    expect(rig.api('STREAM.INFO.a.b').error).toMatchObject({ err_code: 10003 });
    create({ name: 'closed' });
    for (const name of ['closed', 'none', 'closed.closed']) {
      const [answer] = rig.request(`$JS.API.DIRECT.GET.${name}`, { seq: 1 });
      expect(answer!.headers?.toString()).toBe('NATS/1.0 503\r\n\r\n');
    }
  });

  it('answers a publisher whose stream is gone as if nobody listened', () => {
    const input = { reply: 'me', headers: null, payload: Buffer.alloc(0) };
    rig.engine.handle({ kind: 'publish', stream: 'gone', subject: 'gone', ...input });
    expect(rig.take('me')[0]!.headers?.toString()).toBe('NATS/1.0 503\r\n\r\n');
  });
});

describe('publishing', () => {
  it('is not acknowledged where the stream says so, nor without a reply', () => {
    create({ name: 'quiet', no_ack: true });
    expect(rig.request('quiet', 'x')).toEqual([]);
    rig.say('quiet', 'x');
    expect(stateOf('quiet').messages).toBe(2);
  });

  it('keeps bytes of subjects and headers', () => {
    create({ name: 'bytes', subjects: ['größe.>'] });
    expect(rig.outbox.listened.get('bytes')).toEqual([Buffer.from('größe.>').toString('latin1')]);
    const subject = Buffer.from('größe.à').toString('latin1');
    rig.publish(subject, 'x', { text: 'ü' });
    expect(stateOf('bytes').subjects).toEqual({ 'größe.à': 1 });
    expect(newest('bytes', 'größe.à')).toContain('text: ü\r\n');
  });

  it('drops the status of what is stored, as a server does', () => {
    create({ name: 'status' });
    const headers = Buffer.from('NATS/1.0 503 Gone\r\na: b\r\n\r\n');
    const input = { reply: '', headers, payload: Buffer.alloc(0) };
    rig.engine.handle({ kind: 'publish', stream: 'status', subject: 'status', ...input });
    expect(newest('status', 'status')).toBe('NATS/1.0\r\na: b\r\n\r\n');
  });

  it('keeps times in order when the clock goes back', () => {
    create({ name: 'clock' });
    rig.publish('clock', 'one');
    rig.clock.aheadMs = -minuteMs;
    rig.publish('clock', 'two');
    const timeOf = (seq: number): string =>
      rig.api<{ message: { time: string } }>('STREAM.MSG.GET.clock', { seq }).message.time;
    expect(timeOf(2) >= timeOf(1)).toBe(true);
  });
});

describe('reserved subjects', () => {
  it('may be listened to without acknowledging, or where servers tell of themselves', () => {
    for (const [at, config] of [
      { subjects: ['>'], no_ack: true },
      { subjects: ['$JS.EVENT.>'] },
      { subjects: ['$SYS.ACCOUNT.>'] },
    ].entries()) {
      const name = `reserved${at}`;
      expect(rig.api(`STREAM.CREATE.${name}`, { name, ...config }).error).toBeUndefined();
      rig.api(`STREAM.DELETE.${name}`);
    }
  });
});

describe('limits', () => {
  const errorOf = (config: Record<string, unknown>): unknown =>
    rig.api(`STREAM.CREATE.${String(config.name)}`, config).error;

  it('of subjects: how many, and how deep', () => {
    const many = Array.from({ length: 1_001 }, (_, at) => `many.${at}`);
    expect(errorOf({ name: 'many', subjects: many })).toMatchObject({ err_code: 10052 });
    expect(errorOf({ name: 'many', subjects: many.slice(1) })).toBeUndefined();
    expect(errorOf({ name: 'other', subjects: ['many.1000'] })).toMatchObject({ err_code: 10065 });
    const deep = (tokens: number): string[] => [Array(tokens).fill('deep').join('.')];
    expect(errorOf({ name: 'deep', subjects: deep(241) })).toMatchObject({ err_code: 10052 });
    expect(errorOf({ name: 'deep', subjects: deep(240) })).toBeUndefined();
  });

  it('of numbers: sequences stay exact, times stay times', () => {
    expect(errorOf({ name: 'far', first_seq: 2 ** 53 })).toMatchObject({ err_code: 10052 });
    expect(errorOf({ name: 'far', max_age: 1e300 })).toMatchObject({ err_code: 10025 });
    create({ name: 'far', allow_msg_ttl: true, max_age: 9e18 });
    expect(rig.api('STREAM.PURGE.far', { seq: 1e17 }).error).toMatchObject({ err_code: 10003 });
    expect(rig.publish('far', '', { 'Nats-TTL': '9'.repeat(400) })).toMatchObject({ seq: 1 });
    expect(rig.publish('far', '', { 'Nats-TTL': '1'.repeat(60_000) })).toMatchObject({ seq: 2 });
    rig.pass(10 * 365 * 24 * 60 * minuteMs);
    expect(stateOf('far').messages).toBe(2);
    for (const seq of [1e300, 2 ** 60]) {
      expect(rig.api('STREAM.MSG.GET.far', { seq }).error).toMatchObject({ err_code: 10037 });
    }
  });

  it('of what JSON may be: nested without end is refused', () => {
    const deep = '['.repeat(400_000);
    expect(rig.api('STREAM.CREATE.x', deep).error).toMatchObject({ err_code: 10025 });
    const closed = `{"name":"x","mirror":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`;
    expect(rig.api('STREAM.CREATE.x', closed).error).toBeDefined();
  });

  it('of the ids that are remembered: the oldest go', () => {
    create({ name: 'ids', max_msgs: 1 });
    const long = 'x'.repeat(60_000);
    const publish = (at: number): unknown =>
      rig.publish('ids', '', { 'Nats-Msg-Id': `${at}${long}` }).duplicate;
    for (let at = 0; at < 600; at += 1) expect(publish(at)).toBeUndefined();
    expect(publish(599)).toBe(true);
    expect(publish(300)).toBe(true);
    expect(publish(0)).toBeUndefined();
  });
});

describe('a set of subjects', () => {
  it('finds collisions as comparing each with each does', () => {
    const random = Random.seeded();
    const token = (): string => random.pick(['a', 'b', '*']);
    const subject = (): string => {
      const tokens = Array.from({ length: 1 + random.below(3) }, token);
      return random.below(3) === 0 ? [...tokens, '>'].join('.') : tokens.join('.');
    };
    for (let i = 0; i < 2_000; i += 1) {
      const subjects = Array.from({ length: 1 + random.below(4) }, subject);
      const asked = random.below(20) === 0 ? '>' : subject();
      const found = subjects.some((one) => subjectsCollide(one, asked));
      const seed = random.seed;
      expect({ seed, subjects, asked, found: new SubjectSet(subjects).collides(asked) }).toEqual({
        seed,
        subjects,
        asked,
        found,
      });
    }
  });
});
