import { beforeEach, describe, expect, it } from '@jest/globals';
import { ReplyAliases } from '../src/edge/reply-aliases.js';
import { SubjectMapping } from '../src/edge/subject-space.js';

const seven = 's.c.1.2.3.4.5';
/** What both sides call the same, either way. */
const pairs = [
  ['x', 'space.p.x'],
  ['a.b.c', 'space.p.a.b.c'],
  ['$JS.API.INFO', 'space.p.js.api.INFO'],
  ['$JS.API.STREAM.CREATE.s', 'space.p.js.api.STREAM.CREATE.s'],
  ['$KV.bucket.key', 'space.p.$KV.bucket.key'],
  [`$JS.ACK.${seven}`, `$JS.ACK._.p.${seven}`],
  ['$JS.FC.s.c.x', '$JS.FC._.p.s.c.x'],
  ['_INBOX.a.b', '_INBOX.space.p.a.b'],
  // Nearly one of the above, and nothing else than a subject of the space.
  ['$JS.API', 'space.p.$JS.API'],
  ['$JSX.API.INFO', 'space.p.$JSX.API.INFO'],
  ['_INBOX', 'space.p._INBOX'],
  ['_x', 'space.p._x'],
  ['_R_x', 'space.p._R_x'],
] as const;

describe('the subject space of a rooted connection', () => {
  let aliases: ReplyAliases;
  let space: SubjectMapping;
  beforeEach(() => {
    aliases = new ReplyAliases(1000, 10);
    space = new SubjectMapping({ root: 'space', id: 'p' }, 'space.p', 2, aliases);
  });

  it.each(pairs)('calls %s what the broker calls %s', (client, broker) => {
    // Twice, and with others in between: what is remembered is the same.
    for (const subject of [client, client, 'other', 'another', 'more', client]) {
      const there = space.toBroker(subject);
      if (subject === client) expect(there).toBe(broker);
      else expect(there).toBe(`space.p.${subject}`);
    }
    expect(space.toClient(broker)).toBe(client);
    expect(space.replyToClient(broker, 0)).toBe(client);
  });

  it('remembers no more than it may, however much the client says', () => {
    const sizes = ['a', 'b', 'c', 'c', 'd', 'e'].map((subject) => {
      space.toBroker(subject);
      return space.size;
    });
    expect(sizes).toEqual([1, 2, 1, 1, 2, 1]);
  });

  it('takes acknowledgements and flow control in their long form, for this space alone', () => {
    const long = [`$JS.ACK._.p.${seven}`, `$JS.ACK._.p.${seven}.token`, '$JS.FC._.p.s.c.x'];
    for (const subject of long) expect(space.toBroker(subject)).toBe(subject);
    const others = [
      `$JS.ACK._.q.${seven}`,
      `$JS.ACK.hub.p.${seven}`,
      '$JS.FC._.q.s.c.x',
      // With too few tokens for either form, or with too many for the short one.
      '$JS.ACK.s.c.1.2.3.4',
      '$JS.ACK._.p.c.1.2.3.4.5',
      `$JS.ACK.${seven}.8`,
      '$JS.FC.s.c',
      '$JS.FC._.p.s.c',
      '$JS.FC.s.c.x.y',
    ];
    for (const subject of others) expect(space.toBroker(subject)).toBe(`space.p.${subject}`);
  });

  it('shows of an acknowledgement what the short form has', () => {
    expect(space.toClient(`$JS.ACK._.p.${seven}.token`)).toBe(`$JS.ACK.${seven}`);
    expect(space.toClient('$JS.ACK._.p.s.c.1')).toBe('$JS.ACK.s.c.1');
  });

  it('shows what lies elsewhere as it is, and as a reply by another name', () => {
    expect(space.toClient('space.q.x')).toBe('space.q.x');
    expect(space.replyToClient('', 0)).toBe('');
    const alias = space.replyToClient('_INBOX.hub.1', 0);
    expect(alias).toBe('_R_.1');
    expect(space.replyToClient('_INBOX.hub.1', 0)).toBe(alias);
    expect(space.toBroker(alias)).toBe('_INBOX.hub.1');
    // One that nobody was given leads to a place where no alias can be.
    expect(space.toBroker('_R_.2')).toBe('space.p._R_._.2');
  });

  it.each([
    ['a.b', ['space.p.a.b']],
    ['a.*', ['space.p.a.*']],
    ['$JS.API.>', ['space.p.js.api.>']],
    ['$JS.API.*', ['space.p.js.api.*']],
    ['$JS.API', ['space.p.$JS.API']],
    [`$JS.ACK.s.>`, ['$JS.ACK._.p.s.>']],
    ['$JS.FC.s.>', ['$JS.FC._.p.s.>']],
    ['_INBOX.a', ['_INBOX.space.p.a']],
    ['_INBOX.*', ['_INBOX.space.p.*']],
    ['_INBOX.*.*', ['_INBOX.space.p.*.*']],
    ['_INBOX', ['space.p._INBOX']],
    ['*', ['space.p.*']],
    ['*.x', ['space.p.*.x', '_INBOX.space.p.x']],
    ['>', ['space.p.>', '$JS.ACK._.p.>', '$JS.FC._.p.>', '_INBOX.space.p.>']],
    ['*.>', ['space.p.*.>', '$JS.ACK._.p.>', '$JS.FC._.p.>', '_INBOX.space.p.>']],
    ['$JS.>', ['space.p.$JS.>', 'space.p.js.api.>', '$JS.ACK._.p.>', '$JS.FC._.p.>']],
    ['$JS.*.a.>', ['space.p.$JS.*.a.>', 'space.p.js.api.a.>', '$JS.ACK._.p.a.>', '$JS.FC._.p.a.>']],
    ['*.API.a', ['space.p.*.API.a', 'space.p.js.api.a', '_INBOX.space.p.API.a']],
    ['*.ACK.a', ['space.p.*.ACK.a', '$JS.ACK._.p.a', '_INBOX.space.p.ACK.a']],
  ])('hears of %s through %j', (filter, heard) => {
    expect(space.filters(filter.split('.'))).toEqual(heard);
  });
});

describe('aliases of replies', () => {
  it('are kept while there is room, and then for those who asked last', () => {
    const aliases = new ReplyAliases(100, 3);
    const [a, b, c] = ['a', 'b', 'c'].map((reply) => aliases.aliasOf(reply, 1_000));
    // Late, but nothing had to go.
    expect(aliases.aliasOf('a', 2_000)).toBe(a);
    expect([a, b, c].map((alias) => aliases.resolve(alias!))).toEqual(['a', 'b', 'c']);
    const d = aliases.aliasOf('d', 1_050);
    expect([a, b, c, d].map((alias) => aliases.resolve(alias!))).toEqual(['a', null, 'c', 'd']);
    expect(aliases.size).toBe(3);
    // What nobody may answer any more goes with the first, up to one that somebody may.
    aliases.aliasOf('e', 1_101);
    expect([a, c, d].map((alias) => aliases.resolve(alias!))).toEqual(['a', null, 'd']);
  });
});
