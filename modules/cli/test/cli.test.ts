import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { waitFor } from '@rookery/core';
import { z } from 'zod';
import {
  AccountView,
  ApiKeyView,
  BackupView,
  HostCopyView,
  HostView,
  OperationView,
  ProjectView,
  SessionView,
  Started,
  SnapshotView,
} from '@rookery/api';
import { backupId, HubInMemory, operationView } from '@rookery/client/testing';
import { describeOperation } from '../src/output/progress.js';
import { table } from '../src/output/table.js';
import { runCli } from '../src/program.js';
import { cli, TestIo, type CliOutcome } from '../src/testing/run-cli.js';

describe('the command line', () => {
  let hub: HubInMemory;
  let folder: string;
  let env: NodeJS.ProcessEnv;

  beforeEach(async () => {
    hub = await HubInMemory.start();
    folder = await mkdtemp(join(tmpdir(), 'rookery-cli-'));
    env = {
      ROOKERY_URL: hub.server.url,
      ROOKERY_TOKEN: 'rk_secret',
      XDG_CONFIG_HOME: join(folder, 'config'),
    };
  });
  afterEach(async () => {
    await hub.server.close();
    await rm(folder, { recursive: true, force: true });
  });

  const run = (...argv: string[]): Promise<CliOutcome> => cli(argv, { env });
  /** Exactly one JSON document, checked with the API's own schema. */
  async function json<T extends z.ZodType>(schema: T, ...argv: string[]): Promise<z.output<T>> {
    const { exit, stdout, stderr } = await run(...argv, '--json');
    expect({ argv, exit, stderr: exit === 0 ? '' : stderr }).toEqual({ argv, exit: 0, stderr: '' });
    return schema.parse(JSON.parse(stdout));
  }

  it('prints the API’s own views with --json, for every command that has one', async () => {
    const made = await json(ProjectView, 'project', 'create', 'web', '--disk', '20G', '--start');
    expect(made).toMatchObject({ name: 'web', state: 'running' });
    expect(made.quota.diskBytes).toBe(20 * 1024 ** 3);
    expect(await json(z.array(ProjectView), 'project', 'list')).toHaveLength(1);
    await json(ProjectView, 'project', 'show', 'web');
    await json(ProjectView, 'project', 'stop', 'web', '--grace', '3');
    await json(ProjectView, 'project', 'start', 'web');
    const rescued = await json(ProjectView, 'project', 'start', 'web', '--rescue');
    expect(rescued.rescue).toBe(true);
    expect((await run('project', 'show', 'web')).stdout).toContain('running in rescue mode');
    const reset = await json(ProjectView, 'project', 'reset-rootfs', 'web', '--yes');
    expect(reset.rescue).toBe(false);
    const moved = await json(ProjectView, 'project', 'move', 'web', '--to', 'host-2');
    expect(moved).toMatchObject({ host: 'host-2', placementGeneration: 2 });
    await json(ProjectView, 'project', 'update', 'web', '--cpu', '1', '--public-ports', '8080,80');
    const held = ['--egress', 'allow-list', '--egress-allow', '203.0.113.0/24:443,10.0.0.5:53/udp'];
    expect(await json(ProjectView, 'project', 'set', 'web', ...held)).toMatchObject({
      egress: { mode: 'allow-list', allow: ['203.0.113.0/24:443', '10.0.0.5:53/udp'] },
    });
    expect(await json(ProjectView, 'project', 'set', 'web', '--egress', 'host')).toMatchObject({
      egress: null,
    });
    const copy = await json(ProjectView, 'project', 'copy', 'web', '--name', 'web2');
    expect(copy.name).toBe('web2');
    await json(ProjectView, 'project', 'clone', 'web');
    await json(ProjectView, 'project', 'archive', 'web2');
    await json(ProjectView, 'project', 'rehydrate', 'web2');
    await json(Started, 'project', 'stop', 'web', '--no-wait');
    await json(
      z.object({ hostId: z.string(), url: z.string(), placement: z.object({}) }),
      'project',
      'where',
      'web',
    );
    await json(z.object({ url: z.url(), appUrl: z.url() }), 'project', 'open', 'web');
    const { id, appUrl } = await json(ProjectView, 'project', 'show', 'web');
    expect(appUrl).toBe(`http://{port}--${id}.localhost:7700/`);
    const browser = await run('project', 'url', 'web', '8080', '--browser');
    expect(browser.stdout).toBe(`http://8080--${id}.localhost:7700/\n`);
    await json(OperationView, 'project', 'delete', 'web2', '--force');
    await json(SnapshotView, 'snapshot', 'create', 'web', 's1');
    expect(await json(z.array(SnapshotView), 'snapshot', 'list', 'web')).toHaveLength(1);
    expect(await json(SnapshotView, 'snapshot', 'lock', 'web', 's1')).toMatchObject({
      locked: true,
    });
    await json(SnapshotView, 'snapshot', 'unlock', 'web', 's1');
    await json(ProjectView, 'snapshot', 'restore', 'web', 's1', '--path', 'notes.txt');
    await json(z.object({ deleted: z.literal(true) }), 'snapshot', 'delete', 'web', 's1');
    expect(await json(BackupView, 'backup', 'run', 'web')).toMatchObject({ id: backupId });
    await json(z.array(BackupView), 'backup', 'list', 'web');
    await json(ProjectView, 'backup', 'restore', 'web', backupId.slice(0, 8), '--replace');
    const restored = await json(ProjectView, 'backup', 'restore', 'web', '--as', 'again');
    expect(restored.name).toBe('again');
    await json(z.array(HostView), 'host', 'list');
    await json(HostView, 'host', 'show', 'host-1');
    await json(z.object({ token: z.string() }), 'host', 'join-token');
    expect(await json(HostView, 'host', 'cordon', 'host-1')).toMatchObject({ schedulable: false });
    await json(HostView, 'host', 'uncordon', 'host-1');
    await json(HostView, 'host', 'drain', 'host-1');
    await json(z.object({ removed: z.literal(true) }), 'host', 'remove', 'host-2');
    const operations = await json(z.array(OperationView), 'op', 'list');
    const first = operations[0]!.id;
    await json(OperationView, 'op', 'show', first.slice(0, 8));
    await json(OperationView, 'op', 'wait', first);
    await json(OperationView, 'op', 'cancel', first);
    await json(OperationView, 'op', 'retry', first);
    const resolved = await json(OperationView, 'op', 'resolve', first, '--as', 'failed');
    expect(resolved.leaves).toHaveLength(1);
    await json(z.array(z.object({ action: z.string() })), 'audit');
    await json(z.array(z.object({ email: z.string() })), 'share', 'list', 'web');
    const account = '00000000-0000-4000-8000-000000000009';
    await json(
      z.object({ role: z.literal('viewer') }),
      'share',
      'add',
      'web',
      'b@example.org',
      '--role',
      'viewer',
    );
    await json(z.object({ email: z.string() }), 'share', 'remove', 'web', 'a@example.org');
    await json(z.object({ email: z.string() }), 'account', 'show');
    await json(z.object({ token: z.string() }), 'account', 'create', 'b@example.org');
    expect((await run('account', 'create', 'b@example.org')).stdout).toContain('Id: ');
    await json(z.array(AccountView), 'account', 'list');
    await json(z.array(ApiKeyView), 'key', 'list');
    await json(z.object({ token: z.string() }), 'key', 'create', 'ci');
    await json(z.object({ deleted: z.literal(true) }), 'key', 'delete', account);
    await json(z.object({ left: z.literal(true) }), 'share', 'leave', 'web');
    const [session] = await json(z.array(SessionView), 'session', 'list');
    await json(z.object({ ended: z.literal(true) }), 'session', 'end', session!.id);
    await json(z.object({ ended: z.literal(1) }), 'session', 'end', '--all');
    expect((await run('session', 'end')).exit).toBe(2);
    expect((await run('session', 'end', session!.id, '--all')).exit).toBe(2);
    await json(z.object({ version: z.string(), hub: z.literal('9.9.9') }), 'version');
  });

  it('sends what the options say', async () => {
    hub.add('web');
    await run(
      'project',
      'create',
      'x',
      '--image',
      'debian:13',
      '--host',
      'host-2',
      '--memory',
      '1G',
    );
    const create = hub.server.requests.find((one) => one.operation === 'createProject');
    expect(create?.input).toEqual({
      name: 'x',
      image: 'debian:13',
      host: 'host-2',
      quota: { memoryBytes: 1024 ** 3 },
      start: false,
    });
    await run('backup', 'restore', 'web', '--to', 'host-2', '--path', 'a/b', '--start');
    const restore = hub.server.requests.find((one) => one.operation === 'restoreBackup');
    expect(restore?.input).toMatchObject({
      backupId: 'latest',
      host: 'host-2',
      path: 'a/b',
      start: true,
      replace: false,
    });
    await run('project', 'stop', 'web', '--grace', '3');
    const stop = hub.server.requests.find((one) => one.operation === 'stopProject');
    expect(stop?.input).toMatchObject({ graceMs: 3000 });
  });

  it('says why a host cannot serve, and what is wrong with its repository', async () => {
    const [one, two] = hub.hosts as [HostView, HostView];
    const error = { code: 'VOLUME_ABSENT', message: 'The disk is not mounted.', status: 503 };
    const at = new Date().toISOString();
    Object.assign(one, { status: 'offline', trouble: { ...error, retryable: false, at } });
    const missing = { code: 'REPOSITORY_MISSING', message: 'Nothing lies there.' };
    two.capabilities.backupRepository = { name: '/backups', state: 'missing', error: missing };
    expect((await run('host', 'list')).stdout).toMatch(/host-1 +offline \(VOLUME_ABSENT\)/);
    const { stdout } = await run('host', 'show', 'host-1');
    expect(stdout).toMatch(/Trouble: +The disk is not mounted\. \(just now\)/);
    const other = (await run('host', 'show', 'host-2')).stdout;
    expect(other).toContain('/backups (missing: Nothing lies there.)');
    expect(other).not.toContain('Trouble');
  });

  it('finds projects by id, name and the beginning of an id, and refuses to guess', async () => {
    const one = hub.add('same');
    const two = hub.add('same');
    expect((await json(ProjectView, 'project', 'show', one.id)).id).toBe(one.id);
    expect((await json(ProjectView, 'project', 'show', two.id.slice(0, 13))).id).toBe(two.id);
    const ambiguous = await run('project', 'show', 'same');
    expect(ambiguous).toMatchObject({ exit: 1, stdout: '' });
    expect(ambiguous.stderr).toContain('PROJECT_AMBIGUOUS');
    expect(ambiguous.stderr).toContain(one.id);
    expect(ambiguous.stderr).toContain(two.id);
    const none = await run('project', 'show', 'nothing');
    expect(none.stderr).toBe('error: There is no project nothing. (PROJECT_UNKNOWN)\n');
    expect((await run('host', 'show', 'host-9')).stderr).toContain('HOST_UNKNOWN');
  });

  it('fails with 1, an empty stdout and the coded error on stderr', async () => {
    hub.add('busy', { state: 'running' });
    const plain = await run('project', 'delete', 'busy');
    expect(plain).toEqual({
      exit: 1,
      stdout: '',
      stderr: `target: ${hub.server.url} (ROOKERY_URL)\nerror: The project is running. (PROJECT_RUNNING)\n`,
    });
    const coded = await run('project', 'delete', 'busy', '--json');
    expect(coded).toMatchObject({ exit: 1, stdout: '' });
    expect(JSON.parse(coded.stderr.split('\n').at(-2)!)).toMatchObject({
      error: { code: 'PROJECT_RUNNING', status: 409 },
    });
  });

  it('says that a project that was moved does not start', async () => {
    hub.add('web');
    const startError = { code: 'QUOTA_EXCEEDED', message: 'It is full.', status: 507 };
    hub.nextEnd = { state: 'succeeded', result: { startError } };
    const { exit, stdout, stderr } = await run('project', 'move', 'web');
    expect({ exit, stdout }).toEqual({
      exit: 0,
      stdout: 'web is stopped on host-2, and does not run\n',
    });
    expect(stderr).toContain('web did not start again: It is full. (QUOTA_EXCEEDED)\n');
  });

  it('fails when the work it waited for fails', async () => {
    hub.add('web');
    hub.nextEnd = {
      state: 'failed',
      error: { code: 'DESTINATION_FULL', message: 'No room.', status: 409, retryable: false },
    };
    const { exit, stdout, stderr } = await run('project', 'move', 'web');
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: '' });
    expect(stderr).toContain('error: No room. (DESTINATION_FULL)');
  });

  it.each([
    [['project', 'lst'], 'see rookery project --help'],
    [['project', 'list', '--bogus'], 'see rookery project list --help'],
    [['project', 'show'], 'see rookery project show --help'],
    [['project', 'create', 'x', '--disk', 'much'], 'see rookery project create --help'],
    [['project', 'url', 'x', '70000'], 'see rookery project url --help'],
    [['project', 'exec', 'x', 'ls', '-l'], 'see rookery project exec --help'],
    [['op', 'list', '--state', 'odd'], 'see rookery op list --help'],
    [['op', 'resolve', 'x'], 'see rookery op resolve --help'],
    [['completion', 'tcsh'], 'see rookery completion --help'],
  ])('exits 2 with a hint for wrong usage: %j', async (argv, hint) => {
    const { exit, stdout, stderr } = await run(...argv);
    expect({ exit, stdout }).toEqual({ exit: 2, stdout: '' });
    expect(stderr).toMatch(/^error: .* \(USAGE\)\nhint: /s);
    expect(stderr).toContain(hint);
    const coded = await run('--json', ...argv);
    expect(coded).toMatchObject({ exit: 2, stdout: '' });
    expect(JSON.parse(coded.stderr)).toMatchObject({ error: { code: 'USAGE' } });
  });

  it('exits 2 for options that exclude each other, and for a group without a command', async () => {
    hub.add('web');
    expect((await run('backup', 'restore', 'web', '--replace', '--as', 'x')).exit).toBe(2);
    expect((await run('project')).exit).toBe(2);
    expect((await run()).exit).toBe(2);
  });

  it('shows help with an example for every command', async () => {
    const { exit, stdout } = await run('--help');
    expect(exit).toBe(0);
    const groups = ['up', 'down', 'status', 'project', 'snapshot', 'backup', 'host', 'op', 'login'];
    for (const group of groups) expect(stdout).toContain(`\n  ${group}`);
    expect(stdout).not.toContain('supervise-cluster');
    const leaves = (await run('project', '--help')).stdout
      .split('\n')
      .flatMap(
        (line) => /^ {2}([a-z][a-z-]*)(?:\|[a-z]+)? (?:\[options\] )?</.exec(line)?.[1] ?? [],
      )
      .filter((name) => name !== 'help');
    expect(leaves.length).toBeGreaterThan(10);
    for (const leaf of leaves) {
      const help = await run('project', leaf, '--help');
      expect(help).toMatchObject({ exit: 0 });
      expect(help.stdout).toMatch(/Examples:\n {2}\$ .*rookery project /);
      expect(help.stdout).toContain('--json');
    }
    expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  it('prints aligned tables and harmless text for people', async () => {
    hub.add('short');
    hub.add('much-longer-name', { state: 'running' });
    const { stdout } = await run('project', 'list');
    const lines = stdout.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^ID +NAME +STATE +HOST +DISK +BACKUP +CREATED$/);
    const column = lines[0]!.indexOf('STATE');
    expect(lines[1]!.slice(column)).toMatch(/^stopped/);
    expect(lines[2]!.slice(column)).toMatch(/^running/);
    expect(table(['NAME'], [['evil\u001b[2Jname']])).toBe('NAME\nevil?[2Jname');
    expect((await run('host', 'show', 'host-1')).stdout).toContain('40 GiB free of 50 GiB');
  });

  it('shows, keeps, removes and takes back what a host holds beside its own projects', async () => {
    const [host] = hub.hosts;
    const copy = (name: string | null, belongs: HostCopyView['belongs']) => ({
      projectId: randomUUID(),
      name,
      belongs,
      owner: null,
      generation: null,
      usedBytes: 4096,
      kept: false,
    });
    const [web, old, lost] = [copy('web', 'here'), copy('old', 'deleted'), copy(null, 'unknown')];
    hub.copies.push(web, old, lost);
    Object.assign(host!, { copies: 3, missing: 1 });
    const shown = (await run('host', 'show', 'host-1')).stdout;
    expect(shown).toContain('3 that are not its own (rookery host copies host-1)');
    expect(shown).toContain('1 of its projects (rookery project list --host host-1)');
    expect(await json(z.array(HostCopyView), 'host', 'copies', 'host-1')).toHaveLength(3);
    expect((await run('host', 'copies', 'host-1')).stdout).toMatch(/old +deleted +- +no record/);
    const kept = await json(z.array(HostCopyView), 'host', 'copies', 'keep', 'host-1', 'old');
    expect(kept).toMatchObject([{ name: 'old', kept: true }]);
    const prefix = lost.projectId.slice(0, 8);
    const removed = await json(
      z.array(OperationView),
      'host',
      'copies',
      'delete',
      'host-1',
      'old',
      prefix,
    );
    expect(removed).toHaveLength(2);
    expect(hub.copies).toEqual([web]);
    expect((await run('host', 'copies', 'rm', 'host-1', 'old')).exit).toBe(1);
    const adopted = await run('host', 'adopt', 'host-1', 'web');
    expect(adopted.stdout).toContain(`web (${web.projectId}) is its host’s again`);
    expect((await run('host', 'copies', 'host-1')).stdout).toContain('nothing but its own');
  });

  it('shows progress on stderr alone: lines in a pipe, a bar on a terminal', async () => {
    hub.add('web');
    const piped = await run('project', 'move', 'web');
    expect(piped.stdout).toBe('web is stopped on host-2\n');
    expect(piped.stderr).toContain('project.move: send, 512 B of 1 KiB');
    expect(piped.stderr).toMatch(/\nproject\.move succeeded\n$/);
    expect(piped.stderr).not.toContain('\u001b');

    const io = new TestIo(env);
    io.stderr.isTTY = true;
    const shown = text(io.stderr);
    expect(await runCli(['project', 'move', 'web'], io)).toBe(0);
    io.stderr.end();
    expect(await shown).toContain('\u001b[K');
  });

  it('counts as people do, and says nothing of nothing', async () => {
    const at = (done: number, total: number): string =>
      describeOperation({
        ...operationView('host.drain', null),
        state: 'running',
        step: 'moving',
        progress: { step: 'move', done, total, unit: 'projects' },
      });
    expect(at(0, 0)).toBe('host.drain: move');
    expect(at(1, 1)).toBe('host.drain: move, 1 of 1 project');
    expect(at(0, 4)).toBe('host.drain: move, 0 of 4 projects');
    expect((await run('host', 'drain', 'host-1')).stdout).toMatch(
      / owns (1 project|\d+ projects)\n/,
    );
  });

  it('asks on a terminal before it destroys, and does nothing without a yes', async () => {
    const ask = async (answer: string, ...argv: string[]): Promise<number> => {
      const io = new TestIo(env);
      io.stdin.isTTY = io.stderr.isTTY = true;
      io.stdin.end(answer);
      io.stderr.resume();
      io.stdout.resume();
      return runCli(argv, io);
    };
    hub.add('keep');
    expect(await ask('n\n', 'project', 'delete', 'keep')).toBe(1);
    expect(await ask('\n', 'project', 'delete', 'keep')).toBe(1);
    expect(hub.projects.size).toBe(1);
    expect(await ask('yes\n', 'project', 'delete', 'keep')).toBe(0);
    expect(hub.projects.size).toBe(0);
    hub.add('keep');
    expect(await ask('', 'project', 'delete', 'keep', '--yes')).toBe(0);
  });

  it('stops waiting at Ctrl-C, says how to go on, and leaves no listener', async () => {
    const { id } = hub.add('web');
    const io = new TestIo(env);
    const shown = text(io.stderr);
    hub.nextEnd = { state: 'running' };
    const running = runCli(['project', 'start', id], io);
    await waitFor(
      'it waits',
      () => hub.server.requests.some((one) => one.operation === 'watchOperation'),
      {
        timeoutMs: 10_000,
      },
    );
    io.raise('SIGINT');
    expect(await running).toBe(130);
    io.stderr.end();
    const said = await shown;
    expect(said).toMatch(/The work goes on .* rookery op wait [0-9a-f-]{36}\n$/);
    expect(said).not.toContain('cancel');
    expect(io.listening).toBe(0);
  });

  it('logs in, keeps the token to itself, and uses the login afterwards', async () => {
    const bare = { XDG_CONFIG_HOME: join(folder, 'config') };
    expect((await cli(['project', 'list'], { env: bare })).stderr).toContain('NOT_LOGGED_IN');
    const wrong = await cli(['login', hub.server.url, '--token', 'nope'], { env: bare });
    expect(wrong.stderr).toContain('UNAUTHENTICATED');
    const login = await cli(['login', hub.server.url, '--token', 'rk_secret'], { env: bare });
    expect(login).toMatchObject({ exit: 0, stderr: '' });
    const { port } = new URL(hub.server.url);
    const file = join(folder, `config/rookery/contexts/127.0.0.1:${port}.json`);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect((await cli(['project', 'list', '--json'], { env: bare })).stdout).toBe('[]\n');
    // A token is never sent to another hub.
    const other = await HubInMemory.start();
    const elsewhere = await cli(['project', 'list', '--url', other.server.url], { env: bare });
    expect(elsewhere.stderr).toContain('UNAUTHENTICATED');
    expect(other.server.requests.at(-1)?.token).toBeUndefined();
    await other.server.close();
    await cli(['logout'], { env: bare });
    await expect(readFile(file)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('takes --data’s login before the environment, and names a broken one', async () => {
    const data = join(folder, 'data');
    await mkdir(data);
    const login = { url: hub.server.url, token: 'rk_secret' };
    await writeFile(join(data, 'credentials.json'), JSON.stringify(login));
    const away = { ...env, ROOKERY_URL: 'http://127.0.0.1:1' };
    const found = await cli(['project', 'list', '--json', '--data', data], { env: away });
    expect(found.stdout).toBe('[]\n');
    await writeFile(join(data, 'credentials.json'), '{');
    const broken = await cli(['project', 'list', '--data', data], { env: away });
    expect(broken).toMatchObject({ exit: 1 });
    expect(broken.stderr).toContain('CREDENTIALS_INVALID');
  });
});
