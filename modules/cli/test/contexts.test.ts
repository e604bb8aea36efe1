import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { HubInMemory } from '@rookery/client/testing';
import { runCli } from '../src/program.js';
import { cli, TestIo, type CliOutcome } from '../src/testing/run-cli.js';

describe('contexts', () => {
  let one: HubInMemory;
  let two: HubInMemory;
  let folder: string;
  let env: NodeJS.ProcessEnv;

  beforeEach(async () => {
    [one, two] = await Promise.all([HubInMemory.start(), HubInMemory.start()]);
    folder = await mkdtemp(join(tmpdir(), 'rookery-contexts-'));
    env = { XDG_CONFIG_HOME: folder };
  });
  afterEach(async () => {
    await Promise.all([one.server.close(), two.server.close()]);
    await rm(folder, { recursive: true, force: true });
  });

  const run = (...argv: string[]): Promise<CliOutcome> => cli(argv, { env });
  const login = (hub: HubInMemory, ...more: string[]): Promise<CliOutcome> =>
    run('login', hub.server.url, '--token', 'rk_secret', ...more);
  const names = async (): Promise<string[]> =>
    (JSON.parse((await run('project', 'list', '--json')).stdout) as { name: string }[]).map(
      (project) => project.name,
    );

  it('keep several hubs apart; the one in use, a named one, and the environment’s', async () => {
    one.add('of-one');
    two.add('of-two');
    await login(one, '--context', 'first');
    expect(await names()).toEqual(['of-one']);
    await login(two, '--context', 'second');
    expect(await names()).toEqual(['of-two']);
    const list = JSON.parse((await run('context', 'list', '--json')).stdout) as object[];
    expect(list).toEqual([
      { name: 'first', url: one.server.url, data: null, current: false },
      { name: 'second', url: two.server.url, data: null, current: true },
    ]);
    expect((await run('project', 'list', '--context', 'first')).stdout).toContain('of-one');
    env = { ...env, ROOKERY_CONTEXT: 'first' };
    expect(await names()).toEqual(['of-one']);
    expect(JSON.parse((await run('context', 'show', '--json')).stdout)).toEqual({
      url: one.server.url,
      source: 'context first',
    });
    env = { XDG_CONFIG_HOME: folder };
    expect((await run('context', 'use', 'first')).exit).toBe(0);
    expect(await names()).toEqual(['of-one']);
    expect((await run('context', 'use', 'third')).stderr).toContain('CONTEXT_UNKNOWN');
    expect((await run('project', 'list', '--context', 'third')).stderr).toContain(
      'CONTEXT_UNKNOWN',
    );
    expect((await run('login', one.server.url, '--token', 'x', '--context', '../x')).exit).toBe(2);
  });

  it('never give a name to another hub, and never choose another one unasked', async () => {
    await login(one, '--context', 'work');
    const taken = await login(two, '--context', 'work');
    expect(taken).toMatchObject({ exit: 1, stdout: '' });
    expect(taken.stderr).toContain('CONTEXT_TAKEN');
    await login(two, '--context', 'other');
    await run('context', 'use', 'work');
    expect((await run('context', 'delete', 'work')).exit).toBe(0);
    const none = await run('project', 'list');
    expect(none.stderr).toContain('CONTEXT_NOT_CHOSEN');
    expect(none.stderr).toContain('other');
    expect(two.server.requests.filter((sent) => sent.operation === 'listProjects')).toEqual([]);
  });

  it('take over the only login of former times', async () => {
    one.add('old');
    await mkdir(join(folder, 'rookery'), { recursive: true });
    const former = join(folder, 'rookery/credentials.json');
    await writeFile(former, JSON.stringify({ url: one.server.url, token: 'rk_secret' }));
    expect(await names()).toEqual(['old']);
    expect(await readdir(join(folder, 'rookery'))).toEqual(['contexts', 'current-context']);
    const current = await readFile(join(folder, 'rookery/current-context'), 'utf8');
    expect(current).toBe(`${new URL(one.server.url).host}\n`);
    expect(await names()).toEqual(['old']);
  });

  it('are named before anything is destroyed, to scripts too', async () => {
    await login(one, '--context', 'lab');
    const { name } = one.add('gone');
    const target = `target: ${one.server.url} (context lab)\n`;
    const deleted = await run('project', 'delete', name, '--yes');
    expect(deleted.exit).toBe(0);
    expect(deleted.stderr.startsWith(target)).toBe(true);
    one.add('kept');
    const io = new TestIo(env);
    io.stdin.isTTY = io.stderr.isTTY = true;
    io.stdin.end('n\n');
    io.stdout.resume();
    const shown = text(io.stderr);
    expect(await runCli(['project', 'delete', 'kept'], io)).toBe(1);
    io.stderr.end();
    expect(await shown).toMatch(/^target: \S+ \(context lab\)\n[^]*Delete kept .*\[y\/N\]/);
    expect(one.projects.size).toBe(1);
  });
});
