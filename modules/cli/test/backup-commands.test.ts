import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { newId } from '@rookery/core';
import { z } from 'zod';
import { ProjectBackupsView, ProjectView } from '@rookery/api';
import { HubInMemory } from '@rookery/client/testing';
import { cli, type CliOutcome } from '../src/testing/run-cli.js';

describe('backups of a repository', () => {
  let hub: HubInMemory;
  let lost: ProjectBackupsView;

  beforeEach(async () => {
    hub = await HubInMemory.start();
    const { id, name } = hub.add('web');
    lost = groupOf(newId(), 'old things', 'unknown');
    hub.repository.push(groupOf(id, name, 'known'), lost, groupOf(newId(), 'web', 'deleted'));
  });
  afterEach(() => hub.server.close());

  const run = (...argv: string[]): Promise<CliOutcome> => {
    const env = { ROOKERY_URL: hub.server.url, ROOKERY_TOKEN: 'rk_secret' };
    return cli(['backup', ...argv], { env });
  };
  const adopted = () => hub.server.requests.find((one) => one.operation === 'adoptBackup')?.input;

  it('are listed by project, and looked for anew', async () => {
    const all = await run('list', '--host', 'host-1', '--json');
    expect(z.array(ProjectBackupsView).parse(JSON.parse(all.stdout))).toHaveLength(3);
    const { stdout } = await run('list', '--host', 'host-1', '--unknown');
    expect(stdout).toContain(lost.projectId);
    expect(stdout).toMatch(/old things +unknown +2 +ab12cd34/);
    expect(stdout).not.toContain(' known');
    expect((await run('reindex', '--host', 'host-1')).stdout).toBe('3 backups of 3 projects\n');
  });

  it.each(['its id', 'the beginning of its id', 'its name'])(
    'become projects again, named by %s',
    async (by) => {
      const [name, id] = ['old things', lost.projectId];
      const named = { 'its id': id, 'the beginning of its id': id.slice(0, 8), 'its name': name };
      const argv = ['restore', named[by as keyof typeof named], '--from', 'host-1'];
      const { stdout } = await run(...argv, '--as', 'found', '--start', '--json');
      expect(ProjectView.parse(JSON.parse(stdout))).toMatchObject({ id, name: 'found' });
      expect(adopted()).toMatchObject({
        hostId: hub.hosts[0]!.id,
        projectId: id,
        backupId: 'latest',
        name: 'found',
        newId: false,
        start: true,
      });
    },
  );

  it('can be given to somebody else, under a new id, from an older backup', async () => {
    const argv = ['restore', lost.projectId, 'AB12CD34', '--from', 'host-1', '--new-id'];
    const given = await run(...argv, '--owner', 'ann@example.org', '--to', 'host-2');
    expect(given).toMatchObject({ exit: 0, stdout: `project ${lost.projectId} is restored\n` });
    expect(adopted()).toMatchObject({
      backupId: 'ab12cd34',
      newId: true,
      owner: 'ann@example.org',
      host: 'host-2',
    });
  });

  it('are not guessed', async () => {
    expect((await run('restore', 'web', '--from', 'host-1')).stderr).toContain('PROJECT_AMBIGUOUS');
    expect((await run('restore', 'none', '--from', 'host-1')).stderr).toContain('NOT_FOUND');
    expect(adopted()).toBeUndefined();
  });

  it.each([
    ['list'],
    ['list', 'web', '--host', 'host-1'],
    ['list', 'web', '--unknown'],
    ['reindex'],
    ['restore', 'web', '--owner', 'ann@example.org'],
    ['restore', 'web', '--new-id'],
    ['restore', 'web', '--from', 'host-1', '--replace'],
    ['restore', 'web', '--from', 'host-1', '--path', 'a'],
  ])('refuse %s %s %s %s', async (...argv) => {
    expect(await run(...argv)).toMatchObject({ exit: 2, stdout: '' });
  });
});

const groupOf = (
  projectId: string,
  name: string,
  state: ProjectBackupsView['state'],
): ProjectBackupsView => ({
  projectId,
  name,
  state,
  backups: 2,
  latestId: 'ab12cd34'.repeat(8),
  latestAt: '2026-01-02T03:04:05.000Z',
  latestBytes: 1000,
});
