import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OperationView, ProjectView } from '@rookery/api';
import { SystemExec, waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';

interface Supervisor {
  readonly supervisor: { readonly pid: number };
}
/** What is under way when somebody restarts a part goes on by itself: nobody has canceled it. */
describe('work that a restart interrupts', () => {
  let cluster: Cluster;
  let moving: ProjectView;
  let kept: ProjectView;
  let restored: ProjectView;

  beforeAll(async () => {
    cluster = await Cluster.start({
      hosts: 2,
      hubSettings: { ROOKERY_HOST_OFFLINE_AFTER_MS: '5000' },
    });
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
    if (what === 'supervisor') {
      const text = await readFile(join(cluster.folder, 'supervisor.json'), 'utf8');
      return [(JSON.parse(text) as Supervisor).supervisor.pid];
    }
    const hosts = ['host-1', 'host-2'].map((host) => cluster.processesOf(host));
    return (await Promise.all(hosts)).map(({ agent }) => agent);
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
        projectId: restored.id,
        backupId: 'latest',
        replace: true,
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

  /** Begins a move of 200 MB; gives its operation, the two hosts and the sum of the files. */
  async function beginMove() {
    const { host: from } = await cluster.client.getProject({ projectId: moving.id });
    const to = from === 'host-1' ? 'host-2' : 'host-1';
    const sum = await sumOf();
    const { operation: begun } = await cluster.client.moveProject({
      projectId: moving.id,
      host: to,
    });
    return { id: begun.id, from: from!, to, sum };
  }
  const sumOf = (): Promise<string> => cluster.run(moving.id, 'sha256sum ~/large');

  /** A stream of the move runs: `send` at its source, `receive` at its destination. */
  const streams = (host: string, what: 'send' | 'receive'): Promise<unknown> =>
    waitFor(
      `${host} runs btrfs ${what}`,
      async () => {
        const { stdout } = await new SystemExec().run(['ps', '-eo', 'args=', 'ww']);
        const place = join(cluster.folder, 'hosts', host);
        const isStream = new RegExp(`btrfs\\b.* ${what} .*${place}/`);
        return stdout.split('\n').some((line) => isStream.test(line));
      },
      { timeoutMs: 60_000, everyMs: 20 },
    );

  const statusOf = (pid: number): Promise<string> =>
    readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');

  /** As the kernel does when memory is gone; their supervisor starts them again. */
  async function killProcesses(host: string): Promise<void> {
    const { agent, ingress } = await cluster.processesOf(host);
    for (const pid of [agent, ingress]) process.kill(pid, 'SIGKILL');
    for (const pid of [agent, ingress]) {
      // Its parent may be stopped, and not have taken note of it.
      const isDead = async () => /^State:\s*Z/m.test(await statusOf(pid)) || !(await statusOf(pid));
      await waitFor('it is dead', isDead, { timeoutMs: 10_000 });
    }
  }

  async function arrives(id: string, to: string, sum: string): Promise<void> {
    await succeeds(id);
    expect((await cluster.client.getProject({ projectId: moving.id })).host).toBe(to);
    expect(await sumOf()).toBe(sum);
  }

  test('a move goes on when its destination is killed in the middle, and then its source', async () => {
    const { id, from, to, sum } = await beginMove();
    await streams(to, 'receive');
    await killProcesses(to);
    await streams(to, 'receive');
    await streams(from, 'send');
    await killProcesses(from);
    await arrives(id, to, sum);
  }, 400_000);

  test('a move waits for a host that is away for some seconds', async () => {
    const { id, from, to, sum } = await beginMove();
    await streams(from, 'send');
    const { supervisor } = await cluster.processesOf(from);
    process.kill(supervisor, 'SIGSTOP');
    try {
      await killProcesses(from);
      await waitFor(
        'the move has found it away',
        async () => {
          const { lastError, endedAt } = await operation(id);
          expect(endedAt).toBeNull();
          return lastError?.code === 'HOST_OFFLINE';
        },
        { timeoutMs: 60_000, everyMs: 100 },
      );
    } finally {
      process.kill(supervisor, 'SIGCONT');
    }
    await arrives(id, to, sum);
  }, 400_000);
});
