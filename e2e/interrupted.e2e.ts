import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OperationView, ProjectView } from '@rookery/client/contract';
import { waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';

interface Supervisor {
  readonly supervisor: { readonly pid: number };
}
interface Processes {
  readonly children: { readonly agent: { readonly pid: number } };
}

/** What is under way when somebody restarts a part goes on by itself: nobody has canceled it. */
describe('work that a restart interrupts', () => {
  let cluster: Cluster;
  let moving: ProjectView;
  let kept: ProjectView;
  let restored: ProjectView;

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 2 });
    [moving, kept, restored] = await Promise.all([
      create('moving'),
      create('kept'),
      create('restored'),
    ]);
    // Enough that all are still under way when the signal comes.
    const fill = 'head -c 200M /dev/urandom > ~/large && sync';
    await Promise.all([moving, kept, restored].map(({ id }) => cluster.run(id, fill)));
    const backup = await cluster.client.runBackup({ projectId: restored.id });
    await succeeds(backup.operation.id);
  }, 400_000);

  afterAll(async () => {
    await cluster?.destroy();
  }, 240_000);

  const create = async (name: string): Promise<ProjectView> => {
    const args = ['--host', 'host-1', '--disk', '2G', '--start', '--json'];
    const { exit, stdout, stderr } = await cluster.cli(['project', 'create', name, ...args]);
    if (exit !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as ProjectView;
  };
  const operation = (id: string): Promise<OperationView> =>
    cluster.client.getOperation({ operationId: id });
  const pidsOf = async (what: 'agent' | 'supervisor'): Promise<number[]> => {
    const read = async (path: string): Promise<unknown> =>
      JSON.parse(await readFile(join(cluster.folder, path), 'utf8'));
    if (what === 'supervisor') {
      return [((await read('supervisor.json')) as Supervisor).supervisor.pid];
    }
    const agents = ['host-1', 'host-2'].map(async (host) => {
      const { children } = (await read(`hosts/${host}/processes.json`)) as Processes;
      return children.agent.pid;
    });
    return Promise.all(agents);
  };
  const underWay = (id: string, steps: readonly string[]): Promise<unknown> =>
    waitFor(
      `${steps[0]} is under way`,
      async () => steps.includes((await operation(id)).progress?.step ?? ''),
      { timeoutMs: 60_000, everyMs: 20 },
    );
  const succeeds = async (id: string): Promise<void> => {
    const ended = await waitFor(
      'the operation has ended',
      async () => {
        const seen = await operation(id).catch(() => undefined);
        return seen?.endedAt == null ? undefined : seen;
      },
      { timeoutMs: 240_000, everyMs: 200 },
    );
    expect({ state: ended.state, error: ended.error }).toEqual({ state: 'succeeded', error: null });
  };

  test.each(['agent', 'down', 'supervisor'] as const)(
    'a move, a backup and a restore go on after a stop: %s',
    async (what) => {
      const there = await cluster.client.getProject({ projectId: moving.id });
      const host = there.host === 'host-1' ? 'host-2' : 'host-1';
      const move = await cluster.client.moveProject({ projectId: moving.id, host });
      const backup = await cluster.client.runBackup({ projectId: kept.id });
      const restore = await cluster.client.restoreBackup({
        ...{ projectId: restored.id, backupId: 'latest', replace: true },
      });
      const ids = [move, backup, restore].map(({ operation: { id } }) => id);
      const steps = [['send'], ['survey', 'backup'], ['restore']];
      await Promise.all(ids.map((id, index) => underWay(id, steps[index] ?? [])));
      if (what === 'down') {
        expect((await cluster.cli(['down'])).exit).toBe(0);
        await cluster.up();
      } else {
        for (const pid of await pidsOf(what)) {
          process.kill(pid, what === 'supervisor' ? 'SIGKILL' : 'SIGTERM');
          const gone = () => !existsSync(`/proc/${pid}`);
          await waitFor('it has stopped', gone, { timeoutMs: 60_000 });
        }
        if (what === 'supervisor') await cluster.up();
      }
      await Promise.all(ids.map(succeeds));
      expect((await cluster.client.getProject({ projectId: moving.id })).host).toBe(host);
    },
    400_000,
  );
});
