import { describe, expect, it } from '@jest/globals';
import type { ConatPermissions } from '@rookery/conat';
import { PermissionCheck, ReplyGrants } from '../src/broker/permission-check.js';

const everything = { allow: ['>'] };
const check = (permissions: Partial<ConatPermissions>, cacheMax = 8): PermissionCheck =>
  new PermissionCheck(
    'me',
    { publish: everything, subscribe: everything, ...permissions },
    cacheMax,
  );
const verdict = (permissions: Partial<ConatPermissions>, subject: string, queue = ''): string =>
  check(permissions).subscribeVerdict(subject, subject.split('.'), queue);

describe('subscriptions', () => {
  it('as a member of a queue are refused where messages are others’ to take', () => {
    const rules = { subscribe: { allow: ['p.>', 'q.>'], noQueue: ['p.>'] } };
    expect(verdict(rules, 'p.a')).toBe('all');
    expect(verdict(rules, 'p.a', 'q')).toBe('none');
    expect(verdict(rules, 'q.a', 'q')).toBe('all');
    expect(verdict({ subscribe: { allow: ['>'], noQueue: ['p.a'] } }, '*.a', 'q')).toBe('none');
    expect(verdict({}, 'p.a', 'q')).toBe('all');
  });

  it('that reach into inboxes are filtered, unless all are one’s own', () => {
    for (const subject of ['>', '*.>', '*.you.1']) {
      expect(verdict({}, subject)).toBe('filtered');
      expect(verdict({ inboxes: 'all' }, subject)).toBe('all');
    }
    expect(verdict({}, 'a.>')).toBe('all');
    expect(verdict({ subscribe: { allow: ['>'], deny: ['a.x'] } }, 'a.*')).toBe('filtered');
    expect(verdict({ subscribe: { allow: ['>'], deny: ['a.x'] } }, 'b.*')).toBe('all');
  });
});

describe('messages', () => {
  const denied = { allow: ['>'], deny: ['a.*', 'b.>', 'c'] };

  it.each([
    ['a', true],
    ['a.x', false],
    ['a.x.y', true],
    ['b', true],
    ['b.x.y', false],
    ['c', false],
    ['c.x', true],
    // Nobody who may not say what these reach may say them.
    ['a.*', false],
    ['a.>', false],
    ['*.x', false],
    ['>', false],
    ['d.*', true],
  ])('on %s: %p', (subject, may) => {
    const permissions = check({ publish: denied, subscribe: denied });
    expect(permissions.mayPublish(subject)).toBe(may);
    // It is remembered.
    expect(permissions.mayPublish(subject)).toBe(may);
    expect(permissions.mayHear(subject)).toBe(may);
  });

  it('in inboxes are heard by their owner, and said by nobody else but the trusted', () => {
    const [own, all] = [check({}), check({ inboxes: 'all' })];
    for (const ask of ['mayHear', 'mayPublish', 'mayAskReplyTo'] as const) {
      expect([own[ask]('_INBOX.me.1'), own[ask]('_INBOX.you.1')]).toEqual([true, false]);
      expect([all[ask]('_INBOX.me.1'), all[ask]('_INBOX.you.1')]).toEqual([true, true]);
    }
  });

  it('may ask for answers where one could speak oneself, and in one’s own inbox', () => {
    const permissions = check({ publish: { allow: ['a'] } });
    const asked = ['a', 'b', '_INBOX.me.1', '_INBOX.you.1'];
    expect(asked.map((reply) => permissions.mayAskReplyTo(reply))).toEqual([
      true,
      false,
      true,
      false,
    ]);
    const trusted = check({ publish: { allow: ['a'] }, inboxes: 'all' });
    expect(trusted.mayAskReplyTo('b')).toBe(true);
  });

  it('are remembered in a bounded number, acknowledgements not at all', () => {
    const permissions = check({ publish: denied }, 3);
    for (let n = 1; n <= 3; n += 1) {
      permissions.mayPublish(`x.${n}`);
      expect(permissions.remembered).toBe(n);
    }
    permissions.mayPublish('x.1');
    expect(permissions.remembered).toBe(3);
    permissions.mayPublish('x.4');
    expect(permissions.remembered).toBe(1);
    expect(permissions.mayPublish('$JS.ACK.s.c.1.2.3.4.5')).toBe(true);
    expect(permissions.remembered).toBe(1);
  });

  it('are answered but on subjects that are excepted', () => {
    const responses = { countMax: 1, ttlMs: 1_000, except: ['p.*'] };
    const permissions = check({ responses });
    expect(permissions.mayAnswer('p.a')).toBe(false);
    expect(permissions.mayAnswer('p.a.b')).toBe(true);
    expect(permissions.mayAnswer('q')).toBe(true);
    expect(check({}).mayAnswer('p.a')).toBe(true);
    expect(check({}).responses).toBeUndefined();
  });
});

describe('grants to answer', () => {
  it('end by number and by time, and are renewed', () => {
    const grants = new ReplyGrants(2, 100, 10);
    grants.add('r', 1_000);
    expect([grants.has('r', 1_100), grants.has('r', 1_101)]).toEqual([true, false]);
    expect([grants.take('r', 1_000), grants.take('r', 1_100), grants.take('r', 1_100)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(grants.size).toBe(0);
    grants.add('r', 1_000);
    grants.add('r', 1_090);
    expect(grants.take('r', 1_190)).toBe(true);
    expect(grants.take('r', 1_191)).toBe(false);
    expect(grants.size).toBe(0);
    expect([grants.take('other', 0), grants.has('other', 1)]).toEqual([false, false]);
  });

  it('are kept for those who asked last', () => {
    const grants = new ReplyGrants(1, 1_000, 3);
    for (const reply of ['a', 'b', 'c', 'a', 'd']) grants.add(reply, 1);
    expect(grants.size).toBe(3);
    expect(['a', 'b', 'c', 'd'].map((reply) => grants.has(reply, 1))).toEqual([
      true,
      false,
      true,
      true,
    ]);
    // What has ended goes first, all of it.
    grants.add('e', 5_000);
    expect(grants.size).toBe(1);
  });
});
