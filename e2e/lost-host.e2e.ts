import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { HostView, OperationView, ProjectView } from '@rookery/api';
import { SystemExec, waitFor } from '@rookery/core';
import { Cluster } from '@rookery/harness';

/** A host that is still there but answers nothing, as one whose kernel hangs. */
describe('a destination that is lost after the project was fenced', () => {
  let cluster: Cluster;
  let project: ProjectView;
  /** It lives on the host that goes away. */
  let there: ProjectView;
  let agent: number;

  beforeAll(async () => {
    cluster = await Cluster.start({
      hosts: 2,
      hubSettings: { ROOKERY_HOST_OFFLINE_AFTER_MS: '5000' },
    });
    [project, there] = await Promise.all([create('lost', 'host-1'), create('there', 'host-2')]);
    const fill = 'head -c 50M /dev/urandom > ~/large && sync && echo kept > ~/file';
    await Promise.all([project, there].map(({ id }) => cluster.run(id, fill)));
    agent = (await cluster.processesOf('host-2')).agent;
  }, 400_000);

  afterAll(async () => {
    if (agent) process.kill(agent, 'SIGCONT');
    await cluster?.destroy();
  }, 240_000);

  const create = async (name: string, host: string): Promise<ProjectView> => {
    const args = ['--host', host, '--disk', '2G', '--start', '--json'];
    const { exit, stdout, stderr } = await cluster.cli(['project', 'create', name, ...args]);
    if (exit !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as ProjectView;
  };
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

  async function succeeds({ id }: OperationView): Promise<void> {
    const ended = await cluster.client.waitForOperation(id);
    expect({ state: ended.state, error: ended.error }).toEqual({ state: 'succeeded', error: null });
  }

  async function moveTo(host: string): Promise<void> {
    const move = await cluster.client.moveProject({ projectId: project.id, host });
    await succeeds(move.operation);
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
    await moveTo('host-2');
  }, 300_000);

  test('refuses a move to a host that has a stale copy, until that is removed', async () => {
    const { id } = project;
    const volume = await cluster.volumeOf('host-2');
    const [own, aside] = [join(volume, `project-${id}`), join(volume, 'aside')];
    await new SystemExec().run(['btrfs', 'subvolume', 'snapshot', own, aside]);
    await moveTo('host-1');
    // As of a disk that was set back to what it once held.
    await rename(aside, own);
    const refused = await cluster.cli(['project', 'move', id, '--to', 'host-2', '--yes']);
    expect(refused).toMatchObject({ exit: 1, stderr: expect.stringContaining('MOVE_STALE_COPY') });
    await runsAtSource();
    const named = [...refused.stderr.matchAll(/rookery (host copies[^,;.]*)/g)].map((m) => m[1]!);
    const hostId = (await hostTwo())?.id;
    expect(named).toEqual([`host copies ${hostId}`, `host copies delete ${hostId} ${id}`]);
    const [list, remove] = named.map((command) => command.split(' '));
    const copies = async (): Promise<unknown> =>
      JSON.parse((await cluster.cli([...list!, '--json'])).stdout);
    expect(await copies()).toMatchObject([{ projectId: id, owner: 'host-1', kept: false }]);
    expect(await cluster.cli([...remove!, '--yes'])).toMatchObject({ exit: 0 });
    expect(await copies()).toEqual([]);
    await moveTo('host-2');
    await moveTo('host-1');
    await runsAtSource();
  }, 300_000);

  test('may be removed without it, and stays out when it comes back', async () => {
    const backup = await cluster.client.runBackup({ projectId: there.id });
    await succeeds(backup.operation);
    await lostMove();
    await runsAtSource();
    const online = await cluster.cli(['host', 'remove', 'host-1', '--lost', '--yes']);
    expect(online.exit).not.toBe(0);
    await waitFor('it is seen to be away', async () => (await hostTwo())?.status === 'offline', {
      timeoutMs: 60_000,
      everyMs: 200,
    });
    const { items } = await cluster.client.listProjects({});
    const projectsLost = items.filter(({ host }) => host === 'host-2').length;
    const removed = await cluster.cli(['host', 'remove', 'host-2', '--lost', '--yes', '--json']);
    expect({ ...removed, stdout: JSON.parse(removed.stdout) as unknown }).toMatchObject({
      exit: 0,
      stdout: { removed: true, projectsLost },
    });
    expect(await hostTwo()).toBeUndefined();
    await runsAtSource();
    const archived = await cluster.client.getProject({ projectId: there.id });
    expect(archived).toMatchObject({ state: 'archived', host: null, error: { code: 'HOST_LOST' } });
    const back = await cluster.client.rehydrateProject({ projectId: there.id });
    await succeeds(back.operation);
    const start = await cluster.client.startProject({ projectId: there.id });
    await succeeds(start.operation);
    await comesBack();
    expect(await hostTwo()).toBeUndefined();
    const { placementGeneration: before } = there;
    const now = await cluster.client.getProject({ projectId: there.id });
    expect(now).toMatchObject({ state: 'running', host: 'host-1', error: null });
    expect(now.placementGeneration).toBeGreaterThan(before);
    expect(await cluster.run(there.id, 'cat ~/file')).toBe('kept\n');
    await runsAtSource();
  }, 300_000);

  /** It goes on where it was stopped, and the hub does not hear it. */
  async function comesBack(): Promise<void> {
    const log = join(cluster.folder, 'log/host-2.log');
    const known = (await readFile(log, 'utf8')).length;
    process.kill(agent, 'SIGCONT');
    const isRefused = async () =>
      (await readFile(log, 'utf8')).slice(known).includes('the hub does not take reports');
    await waitFor('it was refused', isRefused, { timeoutMs: 60_000, everyMs: 200 });
  }
});
