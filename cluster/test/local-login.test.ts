import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { cliEnvironment } from '@rookery/cli';
import { cli, type CliOutcome } from '@rookery/cli/testing';
import { HubInMemory } from '@rookery/client/testing';
import { clusterPaths, writeCluster } from '../src/cluster-file.js';
import { logIn, logOut } from '../src/local-login.js';

describe('the login of a local cluster', () => {
  let one: HubInMemory;
  let two: HubInMemory;
  let folder: string;
  let env: NodeJS.ProcessEnv;

  beforeEach(async () => {
    [one, two] = await Promise.all([HubInMemory.start(), HubInMemory.start()]);
    folder = await mkdtemp(join(tmpdir(), 'rookery-login-'));
    env = { XDG_CONFIG_HOME: folder };
  });
  afterEach(async () => {
    await Promise.all([one.server.close(), two.server.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  const run = (...argv: string[]): Promise<CliOutcome> => cli(argv, { env });
  const names = async (): Promise<string[]> =>
    (JSON.parse((await run('project', 'list', '--json')).stdout) as { name: string }[]).map(
      (project) => project.name,
    );

  /** What `up` leaves of a cluster in its folder. */
  async function cluster(name: string, hub: HubInMemory): Promise<ReturnType<typeof clusterPaths>> {
    const paths = clusterPaths(join(folder, name, 'cluster'));
    await mkdir(paths.dataDir, { recursive: true });
    await writeFile(paths.credentials, JSON.stringify({ token: 'rk_secret' }));
    await writeCluster(paths, {
      version: 1,
      id: `${name}-0123456789`,
      createdAt: '2026-01-02T03:04:05.000Z',
      listen: '127.0.0.1',
      port: 7700,
      publicUrl: hub.server.url,
      hub: {},
      volumeBytes: 0,
      hosts: [{ name: 'h', key: 'k', cidr: 'c', port: 1, sshPort: 2, agentPort: 3, joined: true }],
    });
    return paths;
  }

  it('of a second one leaves the first one in use', async () => {
    const environment = cliEnvironment(env);
    const a = await cluster('a', one);
    const b = await cluster('b', two);
    one.add('of-a');
    two.add('of-b');
    expect(await logIn(environment, a, undefined)).toEqual({
      context: 'cluster',
      current: 'cluster',
    });
    // The same last word of the path: a name of its own all the same.
    const second = await logIn(environment, b, undefined);
    expect(second).toEqual({ context: 'cluster-b-0123', current: 'cluster' });
    expect(await names()).toEqual(['of-a']);
    // Started once more, neither makes another one.
    expect(await logIn(environment, b, undefined)).toEqual(second);
    await expect(logIn(environment, b, 'cluster')).rejects.toMatchObject({ code: 'CONTEXT_TAKEN' });
    await logOut(environment, a.dataDir);
    expect((await run('project', 'list')).stderr).toContain('CONTEXT_NOT_CHOSEN');
    await run('context', 'use', 'cluster-b-0123');
    expect(await names()).toEqual(['of-b']);
  });
});
