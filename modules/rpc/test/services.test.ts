import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { finished, pipeline } from 'node:stream/promises';
import { headers } from '@nats-io/nats-core';
import { afterEach, describe, expect, it } from '@jest/globals';
import { CodedError, CoreErrors, createLogger, newId, waitFor } from '@rookery/core';
import { call, duplex, job, service, type Handlers } from '@rookery/rpc/contract';
import { Fence } from '@rookery/core/contract';
import { ConatClient } from '@rookery/conat';
import {
  createServiceClient,
  relayDuplex,
  serve,
  serviceLimits,
  type ServiceServer,
} from '@rookery/rpc';
import { faultyClient, loopback } from '@rookery/rpc/testing';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import { z } from 'zod';

const contract = service(
  'host.{hostId}.work',
  { version: 1 },
  {
    add: call(
      z.object({ a: z.number(), b: z.number().default(1) }),
      z.object({ sum: z.number() }),
      {
        timeoutMs: 2_000,
      },
    ),
    build: job(
      z.object({ fence: Fence, fail: z.boolean().default(false) }),
      z.object({ n: z.int() }),
      {
        silenceMs: 1_500,
      },
    ),
    run: duplex(
      z.object({ mode: z.string() }),
      z.object({ exit: z.int() }),
      z.object({ rows: z.int() }),
    ),
  },
);
type Work = typeof contract;
const params = { hostId: 'h1' };
const quick = { heartbeatMs: 200, peerSilentMs: 1_000 };
const fence = () => ({ projectId: newId(), generation: 1, operationId: newId(), attempt: 1 });

let brokers: TestBroker[] = [];
let servers: ServiceServer[] = [];

afterEach(async () => {
  await Promise.all(servers.map((server) => server.close(0)));
  await Promise.all(brokers.map((broker) => broker.close()));
  brokers = [];
  servers = [];
});

async function setUp(
  handlers: Partial<Handlers<Work>>,
  limits = quick,
): Promise<{
  broker: TestBroker;
  server: ServiceServer;
  client: ConatClient;
  serving: ConatClient;
}> {
  const broker = await startTestBroker();
  brokers.push(broker);
  const serving = await broker.connect({ identity: 'host-h1' });
  const client = await broker.connect();
  const server = await serve(
    serving,
    contract,
    {
      add: async ({ a, b }) => ({ sum: a + b }),
      build: async () => ({ n: 1 }),
      run: async () => ({ exit: 0 }),
      ...handlers,
    },
    { params, limits, logger: createLogger('test', 'silent') },
  );
  servers.push(server);
  return { broker, server, client, serving };
}

const code = (name: string): unknown => expect.objectContaining({ code: name });

/** A promise and the means to settle it. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

describe('serve', () => {
  it('refuses to start without a handler for each method, or with one too many', async () => {
    const { serving } = await setUp({});
    const handlers = { add: async () => ({ sum: 1 }), other: async () => ({}) };
    await expect(
      serve(serving, contract, handlers as unknown as Handlers<Work>, { params: { hostId: 'h2' } }),
    ).rejects.toMatchObject({
      code: 'SERVICE_INCOMPLETE',
      message: expect.stringMatching(/build has no handler.*other is not in the contract/),
    });
  });

  it('refuses a second server of the same subjects, until the first one is closed', async () => {
    const { serving, server } = await setUp({});
    const handlers: Handlers<Work> = {
      add: async () => ({ sum: 42 }),
      build: async () => ({ n: 1 }),
      run: async () => ({ exit: 0 }),
    };
    await expect(serve(serving, contract, handlers, { params })).rejects.toEqual(
      code('SERVICE_INCOMPLETE'),
    );
    await server.close();
    servers.push(await serve(serving, contract, handlers, { params }));
  });

  it('refuses a parameter that is missing or not one token', async () => {
    const { serving } = await setUp({});
    for (const hostId of ['a.b', '*', '']) {
      await expect(
        serve(serving, contract, {} as Handlers<Work>, { params: { hostId } }),
      ).rejects.toEqual(code('SERVICE_INCOMPLETE'));
    }
  });

  it('serves every value of a wildcard parameter and tells the handler which', async () => {
    const broker = await startTestBroker();
    brokers.push(broker);
    const hub = await broker.connect();
    const seen: unknown[] = [];
    servers.push(
      await serve(
        hub,
        contract,
        {
          add: async (_input, context) => {
            seen.push([context.params, context.caller]);
            return { sum: 0 };
          },
          build: async () => ({ n: 1 }),
          run: async () => ({ exit: 0 }),
        },
        { wildcardParams: ['hostId'] },
      ),
    );
    const client = await broker.connect({ identity: 'account-a1' });
    await createServiceClient(client, contract, { hostId: 'x' }).add({ a: 1 });
    await createServiceClient(client, contract, { hostId: 'y' }).add({ a: 1 });
    expect(seen).toEqual([
      [{ hostId: 'x' }, 'account-a1'],
      [{ hostId: 'y' }, 'account-a1'],
    ]);
  });
});

describe('call', () => {
  it('answers with what the handler gives, defaults applied on the server', async () => {
    const { client } = await setUp({});
    const work = createServiceClient(client, contract, params);
    expect(await work.add({ a: 2 })).toEqual({ sum: 3 });
  });

  it('fails at the caller when its input is wrong', async () => {
    const { client } = await setUp({});
    const work = createServiceClient(client, contract, params);
    await expect(work.add({ a: 'x' } as never)).rejects.toEqual(code('INVALID_INPUT'));
  });

  it('answers wrong payloads, unknown methods and versions with their codes', async () => {
    const { client } = await setUp({});
    const ask = async (subject: string, body: string, version = '1'): Promise<unknown> => {
      const hdrs = headers();
      hdrs.set('Rookery-Version', version);
      const reply = await client.nats.request(subject, body, { timeout: 2_000, headers: hdrs });
      expect(reply.headers?.get('Nats-Service-Error')).toBe(reply.json<{ code: string }>().code);
      return reply.json<{ code: string }>().code;
    };
    expect(await ask('host.h1.work.add', '{"a":"no number"}')).toBe('INVALID_INPUT');
    expect(await ask('host.h1.work.add', 'no json')).toBe('INVALID_INPUT');
    expect(await ask('host.h1.work.add', '')).toBe('INVALID_INPUT');
    expect(await ask('host.h1.work.drop', '{}')).toBe('SERVICE_UNKNOWN_METHOD');
    expect(await ask('host.h1.work.toString', '{}')).toBe('SERVICE_UNKNOWN_METHOD');
    expect(await ask('host.h1.work.add', '{"a":1}', '2')).toBe('SERVICE_VERSION_MISMATCH');
  });

  it('carries coded errors over, and gives uncoded ones a code', async () => {
    const { client } = await setUp({
      add: async ({ a }) => {
        if (a === 1) throw CoreErrors.NOT_FOUND({ what: 'project', id: 'p' });
        throw new Error('boom');
      },
    });
    const work = createServiceClient(client, contract, params);
    const error = await work.add({ a: 1 }).catch((thrown: unknown) => thrown);
    expect(CodedError.is(error, 'NOT_FOUND')).toBe(true);
    expect(error).toMatchObject({ status: 404, message: 'There is no project p.' });
    await expect(work.add({ a: 2 })).rejects.toEqual(code('INTERNAL'));
  });

  it('refuses an answer that the contract does not allow', async () => {
    const { client } = await setUp({ add: async () => ({ sum: 'much' }) as never });
    const work = createServiceClient(client, contract, params);
    await expect(work.add({ a: 1 })).rejects.toEqual(code('SERVICE_REPLY_INVALID'));
  });

  it('says at once when nobody serves, and after the time when nobody answers', async () => {
    const { client } = await setUp({ add: () => new Promise(() => undefined) });
    const nobody = createServiceClient(client, contract, { hostId: 'h9' });
    const before = Date.now();
    await expect(nobody.add({ a: 1 })).rejects.toMatchObject({
      code: 'SERVICE_UNAVAILABLE',
      retryable: true,
    });
    expect(Date.now() - before).toBeLessThan(1_000);
    const work = createServiceClient(client, contract, params);
    await expect(work.add({ a: 1 }, { timeoutMs: 100 })).rejects.toMatchObject({
      code: 'SERVICE_TIMEOUT',
      retryable: true,
    });
  });

  it('ends when its caller gives up', async () => {
    const { client } = await setUp({ add: () => new Promise(() => undefined) });
    const controller = new AbortController();
    const call = createServiceClient(client, contract, params).add(
      { a: 1 },
      { signal: controller.signal },
    );
    controller.abort();
    await expect(call).rejects.toEqual(code('CANCELED'));
  });

  it('refuses messages that the broker would not carry, both ways', async () => {
    const { client } = await setUp({});
    const big = service(
      'big',
      { version: 1 },
      {
        echo: call(
          z.object({ n: z.int(), text: z.string().optional() }),
          z.object({ text: z.string() }),
        ),
      },
    );
    servers.push(await serve(client, big, { echo: async ({ n }) => ({ text: 'x'.repeat(n) }) }));
    const echo = createServiceClient(client, big, {});
    await expect(echo.echo({ n: 1, text: 'x'.repeat(2 ** 20) })).rejects.toEqual(
      code('SERVICE_MESSAGE_TOO_LARGE'),
    );
    await expect(echo.echo({ n: 2 ** 20 })).rejects.toEqual(code('SERVICE_MESSAGE_TOO_LARGE'));
    expect((await echo.echo({ n: 500_000 })).text).toHaveLength(500_000);
  });
});

describe('job', () => {
  it('tells progress and gives the result', async () => {
    const { client } = await setUp({
      build: async (_input, context) => {
        context.progress({ step: 'pull', done: 1, unit: 'steps' });
        return { n: 7 };
      },
    });
    const work = createServiceClient(client, contract, params, quick);
    const seen: string[] = [];
    const result = await work.build(
      { fence: fence() },
      { onProgress: (progress) => seen.push(progress.step) },
    );
    expect(result).toEqual({ n: 7 });
    expect(seen).toEqual(['pull']);
  });

  it('runs longer than its silence allows, because heartbeats come', async () => {
    const { opened, open } = gate();
    const { client } = await setUp({
      build: async () => {
        await opened;
        return { n: 1 };
      },
    });
    setTimeout(open, 2_500);
    const work = createServiceClient(client, contract, params, quick);
    expect(await work.build({ fence: fence() })).toEqual({ n: 1 });
  });

  it('joins callers with the same fence and input to one run, and keeps its result', async () => {
    const { opened, open } = gate();
    let runs = 0;
    const { client, broker } = await setUp({
      build: async () => {
        runs += 1;
        const n = runs;
        await opened;
        return { n };
      },
    });
    const other = await broker.connect();
    const input = { fence: fence() };
    const calls = [client, other, client].map((from) =>
      createServiceClient(from, contract, params, quick).build(input),
    );
    await waitFor('the run began', () => runs === 1, { timeoutMs: 2_000, everyMs: 10 });
    open();
    expect(await Promise.all(calls)).toEqual([{ n: 1 }, { n: 1 }, { n: 1 }]);
    expect(await createServiceClient(other, contract, params).build(input)).toEqual({ n: 1 });
    const next = { fence: { ...input.fence, attempt: 2 } };
    expect(await createServiceClient(other, contract, params).build(next)).toEqual({ n: 2 });
  });

  it('runs a failed job anew when it is asked again', async () => {
    let runs = 0;
    const { client } = await setUp({
      build: async () => {
        runs += 1;
        if (runs === 1) throw CoreErrors.NOT_FOUND({ what: 'image', id: 'x' });
        return { n: runs };
      },
    });
    const work = createServiceClient(client, contract, params, quick);
    const input = { fence: fence() };
    await expect(work.build(input)).rejects.toEqual(code('NOT_FOUND'));
    expect(await work.build(input)).toEqual({ n: 2 });
  });

  it('aborts on cancel only when nobody else waits', async () => {
    let aborted = false;
    const { opened, open } = gate();
    const { client, broker } = await setUp({
      build: async (_input, { signal }) => {
        signal.addEventListener('abort', () => (aborted = true));
        await Promise.race([
          opened,
          new Promise((_, reject) =>
            signal.addEventListener('abort', () => reject(CoreErrors.CANCELED())),
          ),
        ]);
        return { n: 1 };
      },
    });
    const input = { fence: fence() };
    const other = await broker.connect();
    const stays = createServiceClient(other, contract, params, quick).build(input);
    const controller = new AbortController();
    const progressed = createServiceClient(client, contract, params, quick).build(input, {
      signal: controller.signal,
    });
    await client.nats.flush();
    await client.nats.flush();
    controller.abort();
    await expect(progressed).rejects.toEqual(code('CANCELED'));
    await client.nats.flush();
    expect(aborted).toBe(false);
    open();
    expect(await stays).toEqual({ n: 1 });

    const alone = new AbortController();
    const lonely = createServiceClient(client, contract, params, quick).build(
      { fence: fence() },
      { signal: alone.signal },
    );
    expect(aborted).toBe(false);
    void lonely.catch(() => undefined);
    await client.nats.flush();
    alone.abort();
    await expect(lonely).rejects.toEqual(code('CANCELED'));
  });

  it('gives the result although the connection was lost when it was said', async () => {
    const { opened, open } = gate();
    let runs = 0;
    const { client, broker } = await setUp({
      build: async () => {
        runs += 1;
        await opened;
        return { n: runs };
      },
    });
    const work = createServiceClient(client, contract, params, quick);
    const result = work.build({ fence: fence() });
    await waitFor('the run began', () => runs === 1, { timeoutMs: 2_000, everyMs: 10 });
    broker.broker.disconnect('hub');
    open();
    expect(await result).toEqual({ n: 1 });
    expect(runs).toBe(1);
  });

  it('says so when the server is gone, sooner than that it is silent', async () => {
    const { client, serving } = await setUp({ build: () => new Promise(() => undefined) });
    const work = createServiceClient(client, contract, params, quick);
    const result = work.build({ fence: fence() });
    void result.catch(() => undefined);
    await client.nats.flush();
    await client.nats.flush();
    await serving.nats.close();
    await expect(result).rejects.toMatchObject({ code: 'SERVICE_INTERRUPTED', retryable: true });
  });

  it('fails at once when nobody serves', async () => {
    const { client } = await setUp({});
    const nobody = createServiceClient(client, contract, { hostId: 'h9' }, quick);
    await expect(nobody.build({ fence: fence() })).rejects.toEqual(code('SERVICE_UNAVAILABLE'));
    await expect(nobody.run({ mode: 'x' })).rejects.toEqual(code('SERVICE_UNAVAILABLE'));
  });

  it('is interrupted, not canceled, when the server closes, whatever its handler says', async () => {
    const { client, server } = await setUp({
      build: (_input, { signal }) =>
        new Promise((_, reject) =>
          signal.addEventListener('abort', () => reject(CoreErrors.CANCELED())),
        ),
    });
    const result = createServiceClient(client, contract, params, quick).build({ fence: fence() });
    void result.catch(() => undefined);
    await client.nats.flush();
    await server.close();
    await expect(result).rejects.toMatchObject({ code: 'INTERRUPTED', retryable: true });
  });

  it('goes on when its caller stops, and ends when its caller cancels', async () => {
    const ended: unknown[] = [];
    const { client } = await setUp({
      build: (_input, call) =>
        new Promise((_, reject) => {
          call.signal.addEventListener('abort', () => {
            ended.push(call.signal.reason);
            reject(call.signal.reason as Error);
          });
          call.progress({ step: 'begun', done: 0, unit: 'steps' });
        }),
    });
    const api = createServiceClient(client, contract, params, quick);
    const ask = async (reason?: Error): Promise<void> => {
      const caller = new AbortController();
      const started = Promise.withResolvers<void>();
      const options = { signal: caller.signal, onProgress: () => started.resolve() };
      const result = api.build({ fence: fence() }, options);
      await started.promise;
      caller.abort(reason);
      await expect(result).rejects.toMatchObject({ code: reason ? 'INTERRUPTED' : 'CANCELED' });
      await client.nats.flush();
    };
    await ask(CoreErrors.INTERRUPTED({ reason: 'the worker stops' }));
    await ask();
    await waitFor('the canceled one has ended', () => ended.length > 0, { timeoutMs: 5_000 });
    expect(ended).toHaveLength(1);
  });
});

describe('duplex', () => {
  it('carries bytes both ways, with half-close, stderr and a result', async () => {
    const { client } = await setUp({
      run: async (_input, { stdin, stdout, stderr }) => {
        stderr.write('warning');
        await pipeline(stdin, stdout);
        return { exit: 3 };
      },
    });
    const work = createServiceClient(client, contract, params, quick);
    const session = await work.run({ mode: 'cat' });
    const bytes = randomBytes(3_000_000).toString('hex');
    const [out, err] = [text(session.stdout), text(session.stderr)];
    session.stdin.end(bytes);
    expect(await out).toBe(bytes);
    expect(await err).toBe('warning');
    expect(await session.result).toEqual({ exit: 3 });
  });

  it('passes control messages and checks them', async () => {
    const rows: number[] = [];
    const { opened, open } = gate();
    const { client } = await setUp({
      run: async (_input, context) => {
        context.onControl((message) => {
          rows.push(message.rows);
          open();
        });
        await opened;
        return { exit: 0 };
      },
    });
    const session = await createServiceClient(client, contract, params, quick).run({ mode: 't' });
    expect(() => session.control({ rows: 'many' } as never)).toThrow();
    session.control({ rows: 50 });
    expect(await session.result).toEqual({ exit: 0 });
    expect(rows).toEqual([50]);
  });

  it('carries the handler’s error behind the bytes that it wrote', async () => {
    const { client } = await setUp({
      run: async (_input, { stdout }) => {
        stdout.write('so far');
        throw CoreErrors.NOT_FOUND({ what: 'command', id: 'x' });
      },
    });
    const session = await createServiceClient(client, contract, params, quick).run({ mode: 't' });
    let read = '';
    session.stdout.on('data', (chunk: Buffer) => (read += chunk.toString()));
    await expect(finished(session.stdout)).rejects.toEqual(code('NOT_FOUND'));
    expect(read).toBe('so far');
    await expect(session.result).rejects.toEqual(code('NOT_FOUND'));
  });

  it('stops a fast writer when its reader stalls, and goes on when it reads again', async () => {
    const total = 200 * 1024 * 1024;
    let written = 0;
    // 200 MB may starve a busy machine's timers: only the defaults tell a slow peer from a dead one.
    const patient = { ...quick, peerSilentMs: 20_000 };
    const { client } = await setUp(
      {
        run: async (_input, { stdout }) => {
          const chunk = Buffer.alloc(256 * 1024, 'x');
          while (written < total) {
            if (!stdout.write(chunk)) await once(stdout, 'drain');
            written += chunk.length;
          }
          return { exit: 0 };
        },
      },
      patient,
    );
    const session = await createServiceClient(client, contract, params, patient).run({ mode: 'y' });
    const bound = serviceLimits.windowBytes + 1024 * 1024;
    let last = -1;
    await waitFor(
      'the writer stands still',
      () => {
        const still = written > 0 && written === last;
        last = written;
        return still;
      },
      { timeoutMs: 10_000, everyMs: 300 },
    );
    expect(written).toBeLessThan(bound);
    let read = 0;
    let aheadMax = 0;
    for await (const chunk of session.stdout) {
      read += (chunk as Buffer).length;
      aheadMax = Math.max(aheadMax, written - read);
    }
    expect(read).toBe(total);
    expect(aheadMax).toBeLessThan(bound);
    expect(await session.result).toEqual({ exit: 0 });
  });

  it('stops a fast caller when the server does not read its stdin', async () => {
    const { opened, open } = gate();
    let read = 0;
    const { client } = await setUp({
      run: async (_input, { stdin }) => {
        await opened;
        for await (const chunk of stdin) read += (chunk as Buffer).length;
        return { exit: 0 };
      },
    });
    const session = await createServiceClient(client, contract, params, quick).run({ mode: 'y' });
    const chunk = Buffer.alloc(64 * 1024, 'x');
    let written = 0;
    while (session.stdin.write(chunk) || session.stdin.writableLength < 2 * chunk.length) {
      written += chunk.length;
      expect(written).toBeLessThan(serviceLimits.windowBytes + 1024 * 1024);
      await client.nats.flush();
    }
    open();
    session.stdin.end();
    expect(await session.result).toEqual({ exit: 0 });
    expect(read).toBeGreaterThanOrEqual(serviceLimits.windowBytes);
  });

  it('does not hang on a stdin or a stderr that nobody reads', async () => {
    const { client } = await setUp({
      run: async (_input, { stdin }) => {
        stdin.destroy();
        return { exit: 0 };
      },
    });
    const session = await createServiceClient(client, contract, params, quick).run({ mode: 'y' });
    session.stdin.end(Buffer.alloc(2_000_000));
    expect(await session.result).toEqual({ exit: 0 });
  });

  it('aborts the server’s side on cancel', async () => {
    const { opened, open } = gate();
    const { client } = await setUp({
      run: async (_input, { signal }) => {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        open();
        throw CoreErrors.CANCELED();
      },
    });
    const session = await createServiceClient(client, contract, params, quick).run({ mode: 'y' });
    session.cancel();
    await expect(session.result).rejects.toEqual(code('CANCELED'));
    await opened;
  });

  it('notices on both sides that the other one died', async () => {
    const { opened, open } = gate();
    const { client, broker, serving } = await setUp({
      run: async (_input, { signal }) => {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        open();
        throw CoreErrors.CANCELED();
      },
    });
    const caller = await broker.connect({ identity: 'account-a' });
    const session = await createServiceClient(caller, contract, params, quick).run({ mode: 'y' });
    await caller.nats.close();
    await opened;
    session.cancel();

    const again = await createServiceClient(client, contract, params, quick).run({ mode: 'y' });
    await serving.nats.close();
    await expect(again.result).rejects.toMatchObject({ retryable: true });
  });

  it('is joined to another one by a relay, with control, cancel and errors', async () => {
    const { client, broker } = await setUp({
      run: async ({ mode }, context) => {
        if (mode === 'fail') throw CoreErrors.NOT_FOUND({ what: 'command', id: mode });
        let rows = 0;
        context.onControl((message) => (rows = message.rows));
        await pipeline(context.stdin, context.stdout);
        return { exit: rows };
      },
    });
    const outer = service(
      'project.{projectId}.streams',
      { version: 1 },
      {
        run: contract.methods.run,
      },
    );
    const host = createServiceClient(client, contract, params, quick);
    servers.push(
      await serve(
        client,
        outer,
        { run: async (input, context) => relayDuplex(context, await host.run(input)) },
        { wildcardParams: ['projectId'], limits: quick },
      ),
    );
    const user = await broker.connect({ identity: 'account-a' });
    const streams = createServiceClient(user, outer, { projectId: 'p1' }, quick);
    const session = await streams.run({ mode: 'cat' });
    session.control({ rows: 9 });
    const out = text(session.stdout);
    session.stdin.end('through two hops');
    expect(await out).toBe('through two hops');
    expect(await session.result).toEqual({ exit: 9 });
    const failing = await streams.run({ mode: 'fail' });
    await expect(failing.result).rejects.toEqual(code('NOT_FOUND'));
  });
});

describe('testing kit', () => {
  const handlers: Handlers<Work> = {
    add: async ({ a, b }) => ({ sum: a + b }),
    build: async (_input, context) => {
      context.progress({ step: 's', done: 1, unit: 'steps' });
      return { n: 1 };
    },
    run: async (_input, { stdin, stdout }) => {
      await pipeline(stdin, stdout, { end: false });
      return { exit: 0 };
    },
  };

  it('loops calls back with the same parsing', async () => {
    const work = loopback(contract, handlers, { params });
    expect(await work.add({ a: 1 })).toEqual({ sum: 2 });
    await expect(work.add({} as never)).rejects.toEqual(code('INVALID_INPUT'));
    const session = await work.run({ mode: 'x' });
    session.stdin.end('abc');
    expect(await text(session.stdout)).toBe('abc');
    expect(await session.result).toEqual({ exit: 0 });
  });

  it('fails before or after the effect of the call that it is told', async () => {
    let done = 0;
    const { client, calls, inject } = faultyClient(
      loopback(contract, {
        ...handlers,
        add: async () => {
          done += 1;
          return { sum: done };
        },
      }),
    );
    inject({ method: 'add', when: 'before' });
    inject({ method: 'add', nth: 2, when: 'after' });
    await expect(client.add({ a: 1 })).rejects.toEqual(code('SERVICE_UNAVAILABLE'));
    expect(done).toBe(0);
    await expect(client.add({ a: 1 })).rejects.toEqual(code('SERVICE_TIMEOUT'));
    expect(done).toBe(1);
    expect(await client.add({ a: 1 })).toEqual({ sum: 2 });
    expect(calls).toEqual({ add: 3 });
  });
});
