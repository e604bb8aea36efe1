import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Broker } from '@rookery/conat';
import { natsServerMissing, NatsServerOracle } from '@rookery/conat/testing';
import { waitFor } from '@rookery/core';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub, type Operation, type Project } from './support/test-hub.js';

const missing = await natsServerMissing();
const tests = missing === undefined ? describe : describe.skip;

tests(`hub processes with brokers of their own${missing ? ` — ${missing}` : ''}`, () => {
  let postgres: TestPostgres;
  let node: NatsServerOracle;
  let one: TestHub;
  let two: TestHub;
  let host: FakeHost;

  beforeAll(async () => {
    postgres = await startPostgres();
    node = await NatsServerOracle.start();
    // No common secret, no URL of each other.
    const env = { ROOKERY_CONAT_FABRIC: node.tcpUrl };
    one = await TestHub.start(postgres.url, env);
    two = await TestHub.start(postgres.url, env);
    host = await FakeHost.join({ name: 'h1', hubUrl: one.url, joinToken: await one.joinToken() });
  }, 120_000);

  afterAll(async () => {
    await host?.disconnect();
    await two?.close();
    await one?.close();
    await node?.close();
    await postgres?.close();
  });

  const create = (hub: TestHub, name: string) =>
    hub.ok<{ operation: Operation; project: Project }>('POST', '/projects', {
      token: one.admin.token,
      body: { name, start: true },
    });

  it('reach a host that is connected to one of them, whichever is asked', async () => {
    const started = await Promise.all(
      Array.from({ length: 12 }, (_, n) => create(n % 2 ? one : two, `p${n}`)),
    );
    for (const each of started) expect(await one.succeeded(each)).toMatchObject({ attempt: 1 });
    expect(host.calls.filter((call) => call === 'projects.create')).toHaveLength(12);
    expect(host.calls.filter((call) => call === 'projects.start')).toHaveLength(12);
    expect(one.app.get(Broker).identityNames()).toContain(`host-${host.hostId}`);
    expect(two.app.get(Broker).identityNames()).not.toContain(`host-${host.hostId}`);
  });

  it('go on when the cluster was away', async () => {
    const fabric = two.app.get(Broker).fabric;
    await node.restart();
    await waitFor('it is back', () => fabric.status!.reconnects > 0 && fabric.status!.connected, {
      timeoutMs: 30_000,
    });
    expect(await one.succeeded(await create(two, 'later'))).toBeDefined();
  });

  it('need a broker of their own for it', async () => {
    const env = { ROOKERY_CONAT_FABRIC: node.tcpUrl, ROOKERY_CONAT_URL: 'ws://127.0.0.1:1/conat' };
    await expect(TestHub.start(postgres.url, env)).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
    });
    await expect(
      TestHub.start(postgres.url, { ROOKERY_CONAT_FABRIC: 'http://x' }),
    ).rejects.toMatchObject({ code: 'INVALID_CONFIG' });
  });
});
