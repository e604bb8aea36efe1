import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FakeHost } from './support/fake-host.js';
import { startPostgres, type TestPostgres } from './support/postgres.js';
import { TestHub } from './support/test-hub.js';

let postgres: TestPostgres;
let hub: TestHub;
let host: FakeHost;

beforeAll(async () => {
  postgres = await startPostgres();
  hub = await TestHub.start(postgres.url);
  host = await FakeHost.join({ name: 'h1', hubUrl: hub.url, joinToken: await hub.joinToken() });
});

afterAll(async () => {
  await host?.disconnect();
  await hub?.close();
  await postgres?.close();
});

describe('a project', () => {
  it('is placed, created and started', async () => {
    const project = await hub.createProject({ start: true });
    expect(project).toMatchObject({
      ...{ state: 'running', hostId: host.hostId, host: 'h1', role: 'owner' },
      ...{ placementGeneration: 1, desiredState: 'running', move: null, error: null },
      image: 'localhost/rookery/debian:13',
    });
    expect(project.url).toBe(`${hub.url}/${project.id}/port/`);
    expect(project.imageDigest).toMatch(/^sha256:/);
  });
});
