import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { CodedError, CoreErrors, newId, waitFor } from '@rookery/core';
import { call, duplex, Fence, job, service, type Handlers } from '@rookery/core/contract';
import { ConatClient, createServiceClient, serve, type ServiceServer } from '@rookery/conat';
import { faultyClient, loopback, startTestBroker, type TestBroker } from '@rookery/conat/testing';
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
    { params, limits: quick },
  );
  servers.push(server);
  return { broker, server, client, serving };
}

const code = (name: string): unknown => expect.objectContaining({ code: name });

describe('call', () => {
  it('answers with what the handler gives, defaults applied on the server', async () => {
    const { client } = await setUp({});
    const work = createServiceClient(client, contract, params);
    expect(await work.add({ a: 2 })).toEqual({ sum: 3 });
  });
});

describe('job', () => {
  it('tells progress and gives the result', async () => {
    const { client } = await setUp({
      build: async (_input, { progress }) => {
        progress({ step: 'pull', done: 1, unit: 'steps' });
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
});
