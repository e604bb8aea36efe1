import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { createServiceClient, serve, type ServiceServer } from '@rookery/rpc';
import type { ConatClient } from '@rookery/conat';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { CodedError, waitFor } from '@rookery/core';
import { call, service, stream, type Handlers } from '@rookery/rpc/contract';
import { z } from 'zod';

const counting = service(
  'test.{name}.counting',
  { version: 3 },
  {
    count: stream(
      z.object({ to: z.int(), failAt: z.int().optional() }),
      z.object({ n: z.int(), text: z.string() }),
    ),
    slow: call(z.object({}), z.object({}), { timeoutMs: 10_000 }),
    nested: call(z.object({}), z.object({}), { timeoutMs: 2_000 }),
  },
);
const params = { name: 'one' };
const generous = { timeoutMs: 20_000, everyMs: 10 };

describe('streams of replies', () => {
  let broker: TestBroker;
  let client: ConatClient;
  let server: ServiceServer;
  let produced = 0;
  let returned = false;
  let aborted = false;

  const noMore = new CodedError({
    code: 'NO_MORE',
    message: 'no more',
    status: 410,
    retryable: false,
  });
  const handlers: Handlers<typeof counting> = {
    async *count({ to, failAt }, { signal }) {
      signal.addEventListener('abort', () => (aborted = true));
      try {
        for (let n = 1; n <= to; n += 1) {
          if (n === failAt) throw noMore;
          produced = n;
          yield { n, text: 'x'.repeat(100) };
        }
      } finally {
        returned = true;
      }
    },
    slow: (_input, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          aborted = true;
          resolve({});
        });
      }),
    nested: () => asks().slow({}),
  };
  const asks = () => createServiceClient(client, counting, params);
  const readAll = async (input: { to: number; failAt?: number }): Promise<number[]> => {
    const seen: number[] = [];
    for await (const { n } of asks().count(input)) seen.push(n);
    return seen;
  };

  beforeEach(async () => {
    produced = 0;
    returned = false;
    aborted = false;
    broker = await startTestBroker();
    server = await serve(await broker.connect(), counting, handlers, { params });
    client = await broker.connect({ identity: 'caller' });
  });
  afterEach(async () => {
    await server.close();
    await broker.close();
  });

  it('come one after the other, and end', async () => {
    expect(await readAll({ to: 1_000 })).toEqual(Array.from({ length: 1_000 }, (_, i) => i + 1));
    expect(returned).toBe(true);
  });

  it('come no faster than they are read', async () => {
    const items = asks().count({ to: 100_000 })[Symbol.asyncIterator]();
    await items.next();
    let last = -1;
    await waitFor(
      'the server stands still',
      () => {
        const still = produced === last;
        last = produced;
        return still;
      },
      { timeoutMs: 20_000, everyMs: 200 },
    );
    expect(produced).toBeLessThan(1_000);
    await items.return?.();
    await waitFor('the server is told', () => returned, generous);
  });

  it('give what came before a failure, then the failure', async () => {
    const seen: number[] = [];
    const read = async (): Promise<void> => {
      for await (const { n } of asks().count({ to: 9, failAt: 3 })) seen.push(n);
    };
    await expect(read()).rejects.toMatchObject({ code: 'NO_MORE', status: 410 });
    expect(seen).toEqual([1, 2]);
  });

  it('end on both sides when the reader is cancelled', async () => {
    const controller = new AbortController();
    const read = async (): Promise<void> => {
      for await (const { n } of asks().count({ to: 100_000 }, { signal: controller.signal })) {
        if (n === 5) controller.abort();
      }
    };
    await expect(read()).rejects.toMatchObject({ code: 'CANCELED' });
    await waitFor('the server is told', () => returned && aborted, generous);
  });

  it('end when the server closes', async () => {
    const items = asks().count({ to: 100_000 })[Symbol.asyncIterator]();
    await items.next();
    const closing = server.close();
    const drain = async (): Promise<void> => {
      for (;;) if ((await items.next()).done) return;
    };
    await expect(drain()).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
    await closing;
  });

  it('say when nobody serves them', async () => {
    const other = createServiceClient(client, counting, { name: 'nobody' });
    const items = other.count({ to: 1 })[Symbol.asyncIterator]();
    await expect(items.next()).rejects.toMatchObject({ code: 'SERVICE_UNAVAILABLE' });
  });

  it('can be asked for by any NATS client, with an empty message as the end mark', async () => {
    const replies = await client.nats.requestMany('test.one.counting.count', '{"to": 500}', {
      strategy: 'sentinel',
      maxWait: 20_000,
    });
    const seen: number[] = [];
    for await (const reply of replies) {
      if (reply.data.length > 0) seen.push(reply.json<{ n: number }>().n);
    }
    expect(seen).toHaveLength(500);
    expect(seen.at(-1)).toBe(500);
  });

  it('travel with a deadline: nobody works for a caller who has left', async () => {
    const late = { code: 'SERVICE_TIMEOUT' };
    await expect(asks().slow({}, { timeoutMs: 200 })).rejects.toMatchObject(late);
    await waitFor('the handler is told', () => aborted, generous);
    aborted = false;
    // What a handler calls ends with the handler's own caller, not after its usual ten seconds.
    await expect(asks().nested({}, { timeoutMs: 300 })).rejects.toMatchObject(late);
    await waitFor('the inner handler is told', () => aborted, { timeoutMs: 5_000 });
  });

  it('are found by tools for NATS micro services, with figures', async () => {
    await readAll({ to: 3 });
    await expect(readAll({ to: 3, failAt: 1 })).rejects.toMatchObject({ code: 'NO_MORE' });
    const ask = async (subject: string): Promise<Record<string, unknown>[]> => {
      const found: Record<string, unknown>[] = [];
      const options = { strategy: 'stall', maxWait: 2_000 } as const;
      for await (const answer of await client.nats.requestMany(subject, '', options)) {
        if (answer.data.length > 0) found.push(answer.json());
      }
      return found;
    };
    const [ping] = await ask('$SRV.PING');
    expect(ping).toMatchObject({
      type: 'io.nats.micro.v1.ping_response',
      name: 'test-counting',
      version: '3.0.0',
    });
    const [info] = await ask('$SRV.INFO.test-counting');
    expect(info?.endpoints).toContainEqual(
      expect.objectContaining({ name: 'count', subject: 'test.one.counting.count' }),
    );
    const [stats] = await ask(`$SRV.STATS.test-counting.${ping!.id as string}`);
    expect(stats?.endpoints).toContainEqual(
      expect.objectContaining({
        name: 'count',
        num_requests: 2,
        num_errors: 1,
        last_error: 'no more',
      }),
    );
    expect(await ask('$SRV.PING.another')).toEqual([]);
    await server.close();
    expect(await ask('$SRV.PING')).toEqual([]);
  });
});
