import { beforeEach, describe, expect, it } from '@jest/globals';
import { ReplyAliases } from '../src/edge/reply-aliases.js';
import { RootedSpace } from '../src/edge/subject-space.js';

const seven = 's.c.1.2.3.4.5';
/** What both sides call the same, either way. */
const pairs = [
  ['x', 'project.p.x'],
  ['a.b.c', 'project.p.a.b.c'],
  ['$JS.API.INFO', 'project.p.js.api.INFO'],
  ['$JS.API.STREAM.CREATE.s', 'project.p.js.api.STREAM.CREATE.s'],
  ['$KV.bucket.key', 'project.p.$KV.bucket.key'],
  [`$JS.ACK.${seven}`, `$JS.ACK._.p.${seven}`],
  ['$JS.FC.s.c.x', '$JS.FC._.p.s.c.x'],
  ['_INBOX.a.b', '_INBOX.project.p.a.b'],
  // Nearly one of the above, and nothing else than a subject of the project.
  ['$JS.API', 'project.p.$JS.API'],
  ['$JSX.API.INFO', 'project.p.$JSX.API.INFO'],
  ['_INBOX', 'project.p._INBOX'],
  ['_x', 'project.p._x'],
  ['_R_x', 'project.p._R_x'],
] as const;

describe('the subject space of a project', () => {
  let aliases: ReplyAliases;
  let space: RootedSpace;
  beforeEach(() => {
    aliases = new ReplyAliases(1000, 10);
    space = new RootedSpace('p', 'project.p', 2, aliases);
  });

  it.each(pairs)('calls %s what the broker calls %s', (client, broker) => {
    // Twice, and with others in between: what is remembered is the same.
    for (const subject of [client, client, 'other', 'another', 'more', client]) {
      const there = space.toBroker(subject);
      if (subject === client) expect(there).toBe(broker);
      else expect(there).toBe(`project.p.${subject}`);
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

  it('takes acknowledgements and flow control in their long form, for this project alone', () => {
    const long = [`$JS.ACK._.p.${seven}`, `$JS.ACK._.p.${seven}.token`, '$JS.FC._.p.s.c.x'];
    for (const subject of long) expect(space.toBroker(subject)).toBe(subject);
    const others = [
      ...[`$JS.ACK._.q.${seven}`, `$JS.ACK.hub.p.${seven}`, '$JS.FC._.q.s.c.x'],
      // With too few tokens for either form, or with too many for the short one.
      ...['$JS.ACK.s.c.1.2.3.4', '$JS.ACK._.p.c.1.2.3.4.5', `$JS.ACK.${seven}.8`],
      ...['$JS.FC.s.c', '$JS.FC._.p.s.c', '$JS.FC.s.c.x.y'],
    ];
    for (const subject of others) expect(space.toBroker(subject)).toBe(`project.p.${subject}`);
  });

  it('shows of an acknowledgement what the short form has', () => {
    expect(space.toClient(`$JS.ACK._.p.${seven}.token`)).toBe(`$JS.ACK.${seven}`);
    expect(space.toClient('$JS.ACK._.p.s.c.1')).toBe('$JS.ACK.s.c.1');
  });

  it('shows what lies elsewhere as it is, and as a reply by another name', () => {
    expect(space.toClient('project.q.x')).toBe('project.q.x');
    expect(space.replyToClient('', 0)).toBe('');
    const alias = space.replyToClient('_INBOX.hub.1', 0);
    expect(alias).toBe('_R_.1');
    expect(space.replyToClient('_INBOX.hub.1', 0)).toBe(alias);
    expect(space.toBroker(alias)).toBe('_INBOX.hub.1');
    // One that nobody was given leads to a place where no alias can be.
    expect(space.toBroker('_R_.2')).toBe('project.p._R_._.2');
  });

  it.each([
    ['a.b', ['project.p.a.b']],
    ['a.*', ['project.p.a.*']],
    ['$JS.API.>', ['project.p.js.api.>']],
    ['$JS.API.*', ['project.p.js.api.*']],
    ['$JS.API', ['project.p.$JS.API']],
    [`$JS.ACK.s.>`, ['$JS.ACK._.p.s.>']],
    ['$JS.FC.s.>', ['$JS.FC._.p.s.>']],
    ['_INBOX.a', ['_INBOX.project.p.a']],
    ['_INBOX.*', ['_INBOX.project.p.*']],
    ['_INBOX.*.*', ['_INBOX.project.p.*.*']],
    ['_INBOX', ['project.p._INBOX']],
    ['*', ['project.p.*']],
    ['*.x', ['project.p.*.x', '_INBOX.project.p.x']],
    ['>', ['project.p.>', '$JS.ACK._.p.>', '$JS.FC._.p.>', '_INBOX.project.p.>']],
    ['*.>', ['project.p.*.>', '$JS.ACK._.p.>', '$JS.FC._.p.>', '_INBOX.project.p.>']],
    ['$JS.>', ['project.p.$JS.>', 'project.p.js.api.>', '$JS.ACK._.p.>', '$JS.FC._.p.>']],
    [
      '$JS.*.a.>',
      [
        ...['project.p.$JS.*.a.>', 'project.p.js.api.a.>'],
        ...['$JS.ACK._.p.a.>', '$JS.FC._.p.a.>'],
      ],
    ],
    ['*.API.a', ['project.p.*.API.a', 'project.p.js.api.a', '_INBOX.project.p.API.a']],
    ['*.ACK.a', ['project.p.*.ACK.a', '$JS.ACK._.p.a', '_INBOX.project.p.ACK.a']],
  ])('hears of %s through %j', (filter, heard) => {
    expect(space.filters(filter.split('.'))).toEqual(heard);
  });
});
