import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Authenticator, Broker, type ConatIdentity, type ConnectRequest } from '@rookery/conat';
import { waitFor } from '@rookery/core';
import { asksForTrace } from '../src/broker/message-trace.js';
import { RawClient, spaceIdentity } from '@rookery/conat/testing';

const space = { root: 'space', id: 'p1' };

/** By its user name: somebody bounded, a program of a space, or one with every right. */
class ByName extends Authenticator {
  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity> {
    if (options.user === 'program') return spaceIdentity(space);
    const all = { allow: ['>'] };
    const some = { allow: ['open.>', 'traces'] };
    const publish = options.user === 'bounded' ? some : all;
    return { name: options.user ?? 'x', permissions: { publish, subscribe: all, inboxes: 'all' } };
  }
}

interface Heard {
  readonly events: readonly Readonly<Record<string, unknown>>[];
}

let broker: Broker;
let master: RawClient;

const as = (user: string): Promise<RawClient> =>
  RawClient.ready(broker, { user, name: `${user}!` });

function hpub(subject: string, headers: Readonly<Record<string, string>>): string {
  const lines = Object.entries(headers).map(([key, value]) => `${key}: ${value}\r\n`);
  const block = `NATS/1.0\r\n${lines.join('')}\r\n`;
  return `HPUB ${subject} ${block.length} ${block.length + 1}\r\n${block}x\r\n`;
}

/** The event that came to a client on `traces`. */
async function traceOf(client: RawClient): Promise<Heard> {
  const found = await waitFor(
    'the trace',
    () => /MSG \S*traces \S+ \d+\r\n(\{.*\})\r\n/.exec(client.text) ?? undefined,
    {
      timeoutMs: 3_000,
      everyMs: 2,
    },
  );
  return JSON.parse(found[1]!) as Heard;
}

beforeEach(async () => {
  broker = new Broker({ authenticator: new ByName() });
  master = await as('master');
});
afterEach(() => broker.drain(0));

describe('tracing', () => {
  it('needs the right to publish to the destination', async () => {
    master.say('SUB > 1\r\n');
    const bounded = await as('bounded');
    bounded.say(hpub('open.x', { 'Nats-Trace-Dest': 'secret' }));
    expect(await bounded.answers()).toBe(
      `-ERR 'Permissions Violation for Publish to "secret"'\r\n`,
    );
    expect(await master.answers()).toBe('');
  });

  it('says that a subject was refused', async () => {
    master.say('SUB traces 1\r\n');
    const bounded = await as('bounded');
    bounded.say(hpub('closed', { 'Nats-Trace-Dest': 'traces' }));
    const { events } = await traceOf(master);
    expect(events).toEqual([
      expect.objectContaining({
        type: 'in',
        name: 'bounded!',
        error: 'Permissions Violation for Publish to "closed"',
      }),
    ]);
  });

  it('tells a space’s program nothing of who listens outside of its space', async () => {
    master.say('SUB space.*.x 1\r\nPING\r\n');
    await master.heard('PONG');
    const program = await as('program');
    const other = await as('program');
    other.say('SUB x 1\r\n');
    await other.answers();
    program.say('SUB traces 1\r\n');
    program.say(hpub('x', { 'Nats-Trace-Dest': 'traces', 'Nats-Trace-Only': 'true' }));
    const { events } = await traceOf(program);
    const heard = events
      .filter(({ type }) => type === 'eg')
      .map(({ ts: _, cid, ...rest }) => ({ ...rest, isShown: cid !== 0 }));
    expect(heard).toHaveLength(2);
    expect(heard).toContainEqual({ type: 'eg', kind: 0, isShown: false });
    expect(heard).toContainEqual({
      type: 'eg',
      kind: 0,
      isShown: true,
      name: 'program!',
      sub: 'x',
    });
    expect(events[0]).toMatchObject({ acc: space.id, subj: 'x' });
    expect(await other.answers()).toBe('');
  });

  it('goes by what a message asks for, not by what it says', async () => {
    master.say('SUB a 1\r\n');
    const client = await as('client');
    const headers = { 'X-Note': 'Nats-Trace-Dest: traces', 'Nats-Trace-Only': 'true' };
    client.say(hpub('a', headers));
    expect(await client.answers()).toBe('');
    expect(await master.heard('HMSG a 1')).toContain('X-Note');
  });
});

describe('the look for a destination', () => {
  const header = (text: string, before = ''): boolean => {
    const block = `NATS/1.0\r\n${text}\r\n\r\n`;
    const buffer = Buffer.from(`${before}${block}\r\nNats-Trace-Dest:payload`, 'latin1');
    return asksForTrace({ headerBytes: block.length, bodyStart: before.length, buffer });
  };

  it('finds it wherever it stands among the headers', () => {
    for (let fill = 0; fill < 900; fill += fill < 60 ? 1 : 97) {
      const other = `A:${'x'.repeat(fill)}`;
      expect(header(`${other}\r\nNats-Trace-Dest: d`, 'p'.repeat(fill))).toBe(true);
      expect(header(`Nats-Trace-Dest:d\r\n${other}`)).toBe(true);
    }
  });

  it('finds nothing else, and looks nowhere else', () => {
    for (let fill = 0; fill < 900; fill += fill < 60 ? 1 : 97) {
      const text = `A: ${'t'.repeat(fill)}Nats-Trace-Dest:d\r\nNats-Trace-Des:d`;
      expect(header(text, `\r\nNats-Trace-Dest:${'p'.repeat(fill)}`)).toBe(false);
      expect(header(`${'Nats-Trace-Dest'.slice(1 + (fill % 14))}:${'\r\n'.repeat(9)}`)).toBe(false);
    }
  });
});
