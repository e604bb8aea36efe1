import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { HostView, OperationView, ProjectView } from '@rookery/client/contract';
import { waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';

/** `./rookery test e2e -- --long` also removes the host. */
const long = process.env.ROOKERY_TEST_LONG === '1';

interface Processes {
  readonly children: { readonly agent: { readonly pid: number } };
}

/** A host that is still there but answers nothing, as one whose kernel hangs. */
describe('a destination that is lost after the project was fenced', () => {
  let cluster: Cluster;
  let project: ProjectView;
  let agent: number;

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 2 });
    const args = ['--host', 'host-1', '--disk', '2G', '--start', '--json'];
    const { exit, stdout, stderr } = await cluster.cli(['project', 'create', 'lost', ...args]);
    if (exit !== 0) throw new Error(stderr);
    project = JSON.parse(stdout) as ProjectView;
    await cluster.run(
      project.id,
      'head -c 50M /dev/urandom > ~/large && sync && echo kept > ~/file',
    );
    const path = join(cluster.folder, 'hosts/host-2/processes.json');
    const { children } = JSON.parse(await readFile(path, 'utf8')) as Processes;
    agent = children.agent.pid;
  }, 400_000);

  afterAll(async () => {
    if (agent) process.kill(agent, 'SIGCONT');
    await cluster?.destroy();
  }, 240_000);

  const operation = (operationId: string): Promise<OperationView> =>
    cluster.client.getOperation({ operationId });
  const hostTwo = async (): Promise<HostView | undefined> =>
    (await cluster.client.listHosts({})).items.find(({ name }) => name === 'host-2');

  /** Begins a move, stops the destination in its cutover, and gives the move when it has ended. */
  async function lostMove(): Promise<OperationView> {
    const move = await cluster.client.moveProject({ projectId: project.id, host: 'host-2' });
    const { id } = move.operation;
    await waitFor('the project is fenced', async () => (await operation(id)).step === 'cutover', {
      timeoutMs: 60_000,
      everyMs: 5,
    });
    process.kill(agent, 'SIGSTOP');
    return waitFor(
      'the move has ended',
      async () => {
        const seen = await operation(id);
        return seen.endedAt === null ? undefined : seen;
      },
      { timeoutMs: 150_000, everyMs: 200 },
    );
  }

  async function runsAtSource(): Promise<void> {
    const view = await cluster.client.getProject({ projectId: project.id });
    expect(view).toMatchObject({ state: 'running', host: 'host-1' });
    expect(await cluster.run(project.id, 'cat ~/file')).toBe('kept\n');
  }

  test('gives the project back to its source, and is cleaned up when it comes back', async () => {
    const ended = await lostMove();
    expect(ended).toMatchObject({ state: 'failed' });
    await runsAtSource();
    expect((await hostTwo())?.owed).toBe(1);
    process.kill(agent, 'SIGCONT');
    await waitFor('what is owed is paid', async () => (await hostTwo())?.owed === 0, {
      timeoutMs: 60_000,
      everyMs: 200,
    });
    const again = await cluster.client.moveProject({ projectId: project.id, host: 'host-2' });
    expect(await cluster.client.waitForOperation(again.operation.id)).toMatchObject({
      state: 'succeeded',
    });
    const back = await cluster.client.moveProject({ projectId: project.id, host: 'host-1' });
    await cluster.client.waitForOperation(back.operation.id);
  }, 300_000);

  if (long) {
    test('may be removed without it', async () => {
      await lostMove();
      await runsAtSource();
      const online = await cluster.cli(['host', 'remove', 'host-1', '--lost', '--yes']);
      expect(online.exit).not.toBe(0);
      await waitFor('it is seen to be away', async () => (await hostTwo())?.status === 'offline', {
        timeoutMs: 60_000,
        everyMs: 200,
      });
      const removed = await cluster.cli(['host', 'remove', 'host-2', '--lost', '--yes']);
      expect({ exit: removed.exit, stderr: removed.stderr }).toMatchObject({ exit: 0 });
      expect(await hostTwo()).toBeUndefined();
      await runsAtSource();
    }, 300_000);
  }
});
