import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { ProjectView } from '@rookery/api';
import { waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';

/** What a machine's bad day looks like: everything killed, one process killed, the hub away. */
describe('recovery', () => {
  let cluster: Cluster;
  let project: ProjectView;

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 2 });
    const { items } = await cluster.client.listProjects({ name: 'hello' });
    project = items[0] as ProjectView;
  }, 300_000);

  afterAll(async () => {
    await cluster?.destroy();
  }, 240_000);

  const page = async (): Promise<Response> =>
    fetch(`${project.url}8080/`, { headers: { authorization: `Bearer ${await cluster.token()}` } });

  const pageAnswers = async (): Promise<void> => {
    await waitFor('the page answers', async () => (await page().catch(() => undefined))?.ok, {
      timeoutMs: 60_000,
    });
  };

  test('everything is killed with SIGKILL: up brings it back with its files', async () => {
    await cluster.run(project.id, 'echo kept > ~/kept && sync');
    for (const pid of await cluster.processes()) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // Its parent took it along.
      }
    }
    await expect(page()).rejects.toThrow();
    await cluster.up();
    await pageAnswers();
    expect(await cluster.run(project.id, 'cat ~/kept')).toBe('kept\n');
  });

  test('up on a running cluster and status say so', async () => {
    const again = await cluster.cli(['up', '--detach', '--port', String(cluster.port)]);
    expect(again.exit).toBeLessThanOrEqual(1);
    const status = await cluster.cli(['status', '--json']);
    expect(status.exit).toBe(0);
    expect(() => JSON.parse(status.stdout) as unknown).not.toThrow();
  });

  test('down stops everything, up starts it again', async () => {
    expect((await cluster.cli(['down'])).exit).toBe(0);
    await waitFor('no process is left', async () => (await cluster.processes()).length === 0, {
      timeoutMs: 30_000,
    });
    await cluster.up();
    await pageAnswers();
  });
});
