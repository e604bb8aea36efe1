import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { createInbox } from '@nats-io/nats-core';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createServiceClient, serve, type ServiceServer } from '@rookery/rpc';
import type { ConatClient } from '@rookery/conat';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { duplex, job, service, stream, type Handlers } from '@rookery/rpc/contract';
import { z } from 'zod';
import { typed, wireHeaders } from '../src/wire.js';

const contract = service(
  'test.work',
  { version: 1 },
  {
    build: job(z.object({}), z.object({ n: z.int() }), { silenceMs: 600 }),
    count: stream(z.object({ to: z.int() }), z.object({ n: z.int() })),
    run: duplex(z.object({}), z.object({}), z.object({})),
  },
);
const limits = { heartbeatMs: 50, peerSilentMs: 600 };

/** A promise and the means to settle it. */
function gate<T = void>(): { opened: Promise<T>; open: (value: T) => void } {
  let open!: (value: T) => void;
  const opened = new Promise<T>((resolve) => (open = resolve));
  return { opened, open };
}

/** What came of a stream, and how it ended: `end` or the code of its error. */
async function readOut(from: Readable): Promise<{ bytes: string; end: string }> {
  let bytes = '';
  try {
    for await (const chunk of from) bytes += String(chunk);
    return { bytes, end: 'end' };
  } catch (error) {
    return { bytes, end: (error as { code: string }).code };
  }
}

let broker: TestBroker;
let serving: ConatClient;
let client: ConatClient;
let server: ServiceServer | null = null;

beforeEach(async () => {
  broker = await startTestBroker();
  serving = await broker.connect();
  client = await broker.connect({ identity: 'caller' });
});
afterEach(async () => {
  await server?.close(0);
  server = null;
  await broker.close();
});

async function serveWith(handlers: Partial<Handlers<typeof contract>>): Promise<void> {
  const all: Handlers<typeof contract> = {
    build: async () => ({ n: 1 }),
    async *count({ to }) {
      for (let n = 1; n <= to; n += 1) yield { n };
    },
    run: async () => ({}),
    ...handlers,
  };
  server = await serve(serving, contract, all, { limits });
}
const asks = () => createServiceClient(client, contract, {}, limits);
const readAll = async (to: number): Promise<number[]> => {
  const seen: number[] = [];
  for await (const { n } of asks().count({ to })) seen.push(n);
  return seen;
};

describe('a duplex call that is cut', () => {
  it('ends both ways with a coded error behind the bytes that came', async () => {
    const [heard, stdin] = [gate(), gate<{ bytes: string; end: string }>()];
    await serveWith({
      run: async (_input, context) => {
        context.stdout.write('so far');
        context.stdin.once('data', () => heard.open());
        stdin.open(await readOut(context.stdin));
        return {};
      },
    });
    const call = await asks().run({});
    await once(call.stdout, 'readable');
    call.stdin.write('half');
    await heard.opened;
    await serving.nats.close();
    expect(await readOut(call.stdout)).toEqual({ bytes: 'so far', end: 'SERVICE_INTERRUPTED' });
    expect(await readOut(call.stderr)).toEqual({ bytes: '', end: 'SERVICE_INTERRUPTED' });
    expect(call.stdin.errored).toMatchObject({ code: 'SERVICE_INTERRUPTED' });
    await expect(call.result).rejects.toMatchObject({ code: 'SERVICE_INTERRUPTED' });
    expect(await stdin.opened).toMatchObject({ end: 'SERVICE_INTERRUPTED' });
  });

  it('fails for readers who wait when it happens, and ends for what was whole before', async () => {
    await serveWith({
      run: async (_input, { stdout, signal }) => {
        stdout.end('whole');
        await once(signal, 'abort');
        return {};
      },
    });
    const call = await asks().run({});
    const stderr = readOut(call.stderr);
    await once(call.stdout, 'readable');
    await client.nats.flush();
    call.cancel();
    expect(await readOut(call.stdout)).toEqual({ bytes: 'whole', end: 'end' });
    expect(await stderr).toEqual({ bytes: '', end: 'CANCELED' });
  });

  it('is noticed though its handler gave a result', async () => {
    await serveWith({
      run: async (_input, { stdout }) => {
        stdout.write('so far');
        stdout.destroy();
        return {};
      },
    });
    const call = await asks().run({});
    expect(await readOut(call.stdout)).toEqual({ bytes: 'so far', end: 'SERVICE_INTERRUPTED' });
    expect(await readOut(call.stderr)).toEqual({ bytes: '', end: 'end' });
    expect(await call.result).toEqual({});
  });
});

describe('a stream of replies', () => {
  it('that came whole stays so for a reader who takes long over it', async () => {
    const asked = gate();
    await serveWith({
      async *count({ to }) {
        for (let n = 1; n <= to; n += 1) yield { n };
        asked.open();
      },
    });
    const seen: number[] = [];
    for await (const { n } of asks().count({ to: 3 })) {
      seen.push(n);
      await asked.opened;
      // Long enough for a server that is done to count as silent, or as gone.
      if (n === 1) await new Promise((resolve) => setTimeout(resolve, 2 * limits.peerSilentMs));
    }
    expect(seen).toEqual([1, 2, 3]);
  });

  it('names its last reply at its end', async () => {
    await serveWith({});
    const inbox = createInbox('_INBOX.caller');
    const replies = client.nats.subscribe(inbox);
    client.nats.publish('test.work.count', '{"to":3}', { reply: inbox });
    for await (const { headers } of replies) {
      if (headers?.get(wireHeaders.type) !== 'end') continue;
      expect(headers.get(wireHeaders.sequence)).toBe('3');
      break;
    }
  });

  it.each([
    ['2', 'SERVICE_INTERRUPTED'],
    ['1', 'end'],
    // A server of an older release does not say it.
    ['', 'end'],
  ])('whose end names reply %p after one came: %s', async (last, outcome) => {
    serving.nats.subscribe('test.work.count', {
      callback: (_error, asked) => {
        const [item, end] = [typed('item'), typed('end')];
        item.set(wireHeaders.sequence, '1');
        if (last !== '') end.set(wireHeaders.sequence, last);
        asked.respond('{"n":1}', { headers: item });
        asked.respond('', { headers: end });
      },
    });
    await serving.nats.flush();
    const end = await readAll(2).then(
      () => 'end',
      (error: { code: string }) => error.code,
    );
    expect(end).toBe(outcome);
  });
});

it('a job whose server listens and says nothing is silent', async () => {
  serving.nats.subscribe('test.run', { callback: () => undefined });
  serving.nats.subscribe('test.work.build', {
    callback: (_error, asked) => {
      if (asked.headers?.has(wireHeaders.attach) === true) return;
      asked.respond('', { headers: typed('accepted'), reply: 'test.run' });
    },
  });
  await serving.nats.flush();
  await expect(asks().build({})).rejects.toMatchObject({ code: 'SERVICE_SILENT', retryable: true });
});

it('a process that stood still does not take the other side for silent', async () => {
  const { opened, open } = gate();
  await serveWith({
    build: () => opened.then(() => ({ n: 7 })),
    async *count() {
      yield { n: 1 };
      await opened;
      yield { n: 2 };
    },
    run: async (_input, { stdout }) => {
      stdout.write('so far, ');
      await opened;
      stdout.end('whole');
      return {};
    },
  });
  const call = await asks().run({});
  const ends = Promise.all([asks().build({}), readAll(2), readOut(call.stdout), call.result]);
  await client.nats.flush();
  await serving.nats.flush();
  // Timers that are late run before anything that came meanwhile is read.
  setTimeout(() => {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3 * limits.peerSilentMs);
    setTimeout(open, 2 * limits.heartbeatMs);
  });
  expect(await ends).toEqual([{ n: 7 }, [1, 2], { bytes: 'so far, whole', end: 'end' }, {}]);
});
