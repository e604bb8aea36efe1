import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { newId, waitFor } from '@rookery/core';
import { openDatabase } from '../src/database/database.js';
import { HostRecord } from '../src/hub/host-record.js';
import { loadIdentity } from '../src/identity/identity.js';
import { FakeHub } from './fake-hub.js';
import { HostProcess } from './host-process.js';

const hub = new FakeHub();
let host: HostProcess;

beforeAll(async () => {
  await hub.start();
  host = await HostProcess.create(hub, '10.231.9.0/24', 'aptu');
});
afterAll(async () => {
  await host?.destroy();
  await hub.stop();
});

it('tells its hub what keeps it from serving', async () => {
  // A host that has joined, and whose volume is gone.
  const database = await openDatabase(join(host.data, 'books', 'host.sqlite'));
  const { identityKey } = await loadIdentity(join(host.data, 'keys'), database);
  const hostId = newId();
  const record = new HostRecord(database, () => undefined);
  await record.save({
    hostId,
    hubUrl: hub.url,
    verificationKeys: [],
    heartbeatEveryMs: 1000,
  });
  await database.close();
  hub.hosts.push({ hostId, identityKey } as (typeof hub.hosts)[number]);

  host.start();
  await waitFor('the hub hears of it', () => hub.troubles.length > 0, { timeoutMs: 30_000 });
  expect(hub.troubles[0]).toMatchObject({ code: 'VOLUME_ABSENT', status: expect.any(Number) });
  expect(hub.troubles[0]?.message).toContain('volume');
  expect(hub.heartbeats).toEqual([]);
});
