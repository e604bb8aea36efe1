import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { jetstreamManager } from '@nats-io/jetstream';
import { headers, type MsgHdrs, type NatsConnection, wsconnect } from '@nats-io/nats-core';
import { natsServerMissing } from '@rookery/conat/testing';
import { waitFor } from '@rookery/core';
import { Everywhere } from './support/everywhere.js';

const patience = { timeoutMs: 3_000, everyMs: 5 };
const missing = await natsServerMissing();
let everywhere: Everywhere;
beforeAll(async () => {
  if (missing === undefined) everywhere = await Everywhere.start();
});
afterAll(() => everywhere?.close());

interface TraceEvent {
  readonly server: Readonly<Record<string, unknown>>;
  readonly request: unknown;
  readonly events: readonly Readonly<Record<string, unknown>>[];
}

/** What is the same everywhere: no ids and times, and listeners in any order. */
function comparable({ server, request, events }: TraceEvent): unknown {
  const known = events.map((event) =>
    Object.entries(event)
      .filter(([key]) => !['ts', 'cid', 'acc'].includes(key))
      .map(([key, value]) => `${key}=${String(value)}`)
      .sort()
      .join(' '),
  );
  return {
    server: Object.keys(server)
      .filter((key) => key !== 'feature_flags')
      .sort(),
    request,
    first: known[0],
    all: known.sort(),
  };
}

const traced = (more: Readonly<Record<string, string>> = {}): MsgHdrs => {
  const block = headers();
  for (const [key, value] of Object.entries({ 'Nats-Trace-Dest': 'traces', ...more })) {
    block.append(key, value);
  }
  return block;
};

const only = { 'Nats-Trace-Only': 'true' };

/** Hears the traces and what else comes on `t.>`; says both when something was published. */
async function watched(
  client: NatsConnection,
  said: (what: unknown) => void,
  run: (
    publish: (subject: string, more?: Record<string, string>) => Promise<void>,
  ) => Promise<void>,
): Promise<void> {
  const events: TraceEvent[] = [];
  const heard: string[] = [];
  client.subscribe('traces', { callback: (_, message) => void events.push(message.json()) });
  client.subscribe('t.>', { callback: (_, message) => void heard.push(message.subject) });
  await run(async (subject, more) => {
    client.publish(subject, 'body', { headers: traced(more) });
    await waitFor('the trace', () => events.length > 0, patience);
    await client.flush();
    said({ subject, more, heard: [...heard], events: events.map(comparable) });
    events.length = heard.length = 0;
  });
}

const describeWithOracle = missing === undefined ? describe : describe.skip;

describeWithOracle(`messages that are traced, as nats-server does${missing ?? ''}`, () => {
  test('who hears them, and why not', async () => {
    await everywhere.same(async (client, said) => {
      const url = `ws://${client.getServer()}/conat`;
      await using others = new AsyncDisposableStack();
      const other = await wsconnect({ servers: url, name: 'other', noEcho: true });
      others.defer(() => other.close());
      other.subscribe('t.*');
      for (let i = 0; i < 3; i += 1) other.subscribe('t.a', { queue: 'q' });
      await other.flush();
      await watched(client, said, async (publish) => {
        await publish('t.a');
        await publish('t.a', only);
        await publish('t.b', { 'Nats-Trace-Only': '1', 'X-Unicode': 'ä' });
        await publish('t.c', { 'Nats-Trace-Only': 'no', a: 'b' });
        await publish('nobody', only);
      });
      const events: TraceEvent[] = [];
      client.subscribe('own', { callback: (_, message) => void events.push(message.json()) });
      await client.flush();
      other.publish('t.a', 'x', { headers: traced({ 'Nats-Trace-Dest': 'own' }) });
      await waitFor('the trace of who does not hear itself', () => events.length > 0, patience);
      said(events.map(comparable));
    });
  });

  test('what a stream does with them', async () => {
    await everywhere.same(async (client, said) => {
      const manager = await jetstreamManager(client);
      await manager.streams.add({ name: 'T', subjects: ['t.>'], max_msg_size: 300 });
      await manager.streams.add({ name: 'I', subjects: ['i.>'], retention: 'interest' });
      await watched(client, said, async (publish) => {
        await publish('t.a', { 'Nats-Msg-Id': '1' });
        await publish('t.a', only);
        await publish('t.a', { 'Nats-Msg-Id': '1', ...only });
        await publish('t.a', { 'Nats-Msg-Id': '1' });
        await publish('t.a', { 'Nats-Expected-Last-Sequence': '9', ...only });
        await publish('t.a', { 'Nats-Expected-Stream': 'X' });
        await publish('t.a', { long: 'x'.repeat(300), ...only });
        await publish('i.a', only);
      });
      said((await manager.streams.info('T')).state.messages);
      const stored = await manager.streams.getMessage('T', { seq: 1 });
      said([stored?.header.keys().sort(), stored?.header.get('Nats-Trace-Dest')]);
      for (const name of ['T', 'I']) await manager.streams.delete(name);
    });
  });

  test('a destination that is none', async () => {
    await everywhere.same(async (client, said) => {
      const heard: string[] = [];
      client.subscribe('t.>', { callback: (_, message) => void heard.push(message.subject) });
      await client.flush();
      for (const more of [{}, only]) {
        for (const destination of ['trace disabled', 'a.*', '']) {
          const block = traced({ ...more, 'Nats-Trace-Dest': destination });
          client.publish(`t.${heard.length}`, 'x', { headers: block });
          await client.flush();
          said([more, destination, [...heard]]);
        }
      }
    });
  });
});
