import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { CodedError, SystemClock, waitFor } from '@rookery/core';
import { api, type OperationView } from '@rookery/api';
import { RookeryClient } from '@rookery/client';
import { ContractServer } from '@rookery/client/testing';
import { HubInMemory } from '../src/testing/hub-in-memory.js';
import { operationView } from '../src/testing/views.js';

const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'no error',
    (error: unknown) => (error instanceof CodedError ? error.code : String(error)),
  );

describe('RookeryClient', () => {
  let hub: HubInMemory;
  let client: RookeryClient;

  beforeEach(async () => {
    hub = await HubInMemory.start();
    client = new RookeryClient({ url: `${hub.server.url}/`, token: 'rk_secret' });
  });
  afterEach(() => hub.server.close());

  it('has one method for every operation of the API', () => {
    for (const name of Object.keys(api)) {
      expect(typeof client[name as keyof RookeryClient]).toBe('function');
    }
  });

  it('puts parameters, query and body where the route wants them', async () => {
    const { id } = hub.add('one');
    await client.updateProject({ projectId: id, name: 'two', quota: { cpus: 1 } });
    expect(hub.server.requests.at(-1)).toMatchObject({
      method: 'PATCH',
      path: `/projects/${id}`,
      token: 'rk_secret',
      input: { name: 'two', quota: { cpus: 1 } },
    });
    await client.listProjects({ name: 'a b&c' });
    expect(hub.server.requests.at(-1)?.input).toMatchObject({ name: 'a b&c', limit: '100' });
  });

  it('turns a problem into the hub’s coded error with its details', async () => {
    const { id } = hub.add('busy', { state: 'running' });
    await expect(client.deleteProject({ projectId: id })).rejects.toMatchObject({
      code: 'PROJECT_RUNNING',
      status: 409,
      retryable: false,
      details: { id },
    });
    expect(await codeOf(new RookeryClient({ url: hub.server.url }).listHosts())).toBe(
      'UNAUTHENTICATED',
    );
  });

  it('refuses wrong and unknown fields before anything is sent', async () => {
    expect(await codeOf(client.getProject({ projectId: 'x' }))).toBe('INVALID_INPUT');
    const misspelt = { name: 'x', imgae: 'y' } as { name: string };
    expect(await codeOf(client.createProject(misspelt))).toBe('INVALID_INPUT');
    expect(hub.server.requests).toHaveLength(0);
  });

  it('repeats a POST whose answer was lost under the same idempotency key', async () => {
    hub.server.fail({ drop: 'after' }, { status: 502 }, { status: 503 });
    await client.createProject({ name: 'once' });
    const keys = hub.server.requests.map((request) => request.idempotencyKey);
    expect(keys).toHaveLength(2);
    expect(new Set(keys).size).toBe(1);
    await client.createProject({ name: 'twice' });
    expect(hub.server.requests.at(-1)?.idempotencyKey).not.toBe(keys[0]);
  });

  it('gives up after its attempts, and does not repeat what was refused', async () => {
    const impatient = new RookeryClient({ url: hub.server.url, token: 'rk_secret', attempts: 2 });
    hub.server.fail({ status: 503 }, { status: 503 });
    expect(await codeOf(impatient.listHosts())).toBe('HUB_UNREACHABLE');
    await impatient.listHosts();
    const before = hub.server.requests.length;
    expect(
      await codeOf(client.getProject({ projectId: '00000000-0000-4000-8000-00000000000f' })),
    ).toBe('PROJECT_UNKNOWN');
    expect(hub.server.requests.length).toBe(before + 1);
  });

  it('says that nobody answers, and where', async () => {
    const { url } = hub.server;
    await hub.server.close();
    const lonely = new RookeryClient({ url, attempts: 1 });
    await expect(lonely.getHealth()).rejects.toMatchObject({
      code: 'HUB_UNREACHABLE',
      details: { url, reason: 'ECONNREFUSED' },
    });
    hub = await HubInMemory.start();
  });

  it('stops waiting between attempts when it is aborted', async () => {
    const aborter = new AbortController();
    hub.server.fail(...Array.from({ length: 5 }, () => ({ status: 503 })));
    const asked = client.listHosts({}, { signal: aborter.signal });
    setTimeout(() => aborter.abort(), 50);
    await expect(asked).rejects.toMatchObject({});
    expect(hub.server.requests).toHaveLength(0);
  });

  it('walks through all pages', async () => {
    for (let n = 0; n < 7; n += 1) hub.add(`p${n}`);
    const names: string[] = [];
    for await (const project of client.each('listProjects', { limit: 3 })) names.push(project.name);
    expect(names).toEqual(['p0', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6']);
  });

  it('follows an operation to its end and tells of its progress', async () => {
    const { id } = hub.add('one');
    const { operation } = await client.startProject({ projectId: id });
    const seen: string[] = [];
    const ended = await client.waitForOperation(operation.id, {
      onProgress: (view) => seen.push(view.progress?.step ?? view.state),
    });
    expect(seen).toEqual(['running', 'send', 'succeeded']);
    expect(ended.state).toBe('succeeded');
  });

  it('throws the coded error of an operation that failed, was canceled or is stuck', async () => {
    const { id } = hub.add('one');
    const end = async (change: Partial<OperationView>): Promise<string> => {
      hub.nextEnd = change;
      const { operation } = await client.startProject({ projectId: id });
      return codeOf(client.waitForOperation(operation.id));
    };
    const error = { code: 'IMAGE_DENIED', message: 'No.', status: 403, retryable: false };
    expect(await end({ state: 'failed', error })).toBe('IMAGE_DENIED');
    expect(await end({ state: 'failed' })).toBe('OPERATION_FAILED');
    expect(await end({ state: 'canceled' })).toBe('OPERATION_CANCELED');
    expect(await end({ state: 'stuck', error })).toBe('OPERATION_STUCK');
  });

  it('refuses an answer that is not the contract’s', async () => {
    const other = createServer((_, response) => response.end('{"status":"fine"}'));
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    expect(await codeOf(new RookeryClient({ url: `http://127.0.0.1:${port}` }).getHealth())).toBe(
      'HUB_ANSWER_INVALID',
    );
    other.close();
  });
});

describe('watchOperation', () => {
  const servers: { close: () => Promise<void> | void }[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close();
  });

  it('reconnects when the stream breaks, and ends with the final view', async () => {
    let streams = 0;
    const steps: (string | null)[] = [];
    const operation = operationView('project.move', null, { state: 'running' });
    const server = await ContractServer.start({
      async *watchOperation() {
        streams += 1;
        const step = `stream ${streams}`;
        yield { ...operation, step };
        await waitFor('it was read', () => steps.includes(step), { timeoutMs: 5000, everyMs: 5 });
        if (streams === 2) throw new Error('the hub is restarted');
        if (streams === 3) yield { ...operation, state: 'succeeded' as const };
      },
    });
    servers.push(server);
    server.fail({ status: 502 });
    const client = new RookeryClient({ url: server.url });
    for await (const view of client.watchOperation(operation.id)) {
      steps.push(view.state === 'running' ? view.step : view.state);
    }
    expect(steps).toEqual(['stream 1', 'stream 2', 'stream 3', 'succeeded']);
  });

  it('opens a stream again that has fallen silent', async () => {
    const operation = operationView('project.move', null, { state: 'succeeded' });
    let streams = 0;
    const server: Server = createServer((_, response) => {
      streams += 1;
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': here\n\n');
      if (streams > 1) response.end(`data: ${JSON.stringify(operation)}\n\n`);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push({ close: () => (server.closeAllConnections(), void server.close()) });
    const { port } = server.address() as AddressInfo;
    const client = new RookeryClient({ url: `http://127.0.0.1:${port}` });
    const ended = await client.waitForOperation(operation.id, { silenceMs: 100 });
    expect(ended.state).toBe('succeeded');
    expect(streams).toBe(2);
  });

  it('ends with CANCELED when aborted, and lets go of the stream', async () => {
    let closed = false;
    const server: Server = createServer((request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(': here\n\n');
      request.on('close', () => (closed = true));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push({ close: () => (server.closeAllConnections(), void server.close()) });
    const { port } = server.address() as AddressInfo;
    const client = new RookeryClient({ url: `http://127.0.0.1:${port}` });
    const aborter = new AbortController();
    const waiting = client.waitForOperation('00000000-0000-4000-8000-00000000000f', {
      signal: aborter.signal,
    });
    setTimeout(() => aborter.abort(), 50);
    expect(await codeOf(waiting)).toBe('CANCELED');
    await waitFor('the stream is closed', () => closed, { timeoutMs: 5000 });
  });

  it('gives up when the hub stays away', async () => {
    const server = await ContractServer.start({});
    const { url } = server;
    await server.close();
    const started = new SystemClock().now();
    const client = new RookeryClient({ url });
    const waiting = client.waitForOperation('00000000-0000-4000-8000-00000000000f', {
      awayMs: 200,
    });
    expect(await codeOf(waiting)).toBe('HUB_UNREACHABLE');
    expect(new SystemClock().now() - started).toBeLessThan(10_000);
  });
});
