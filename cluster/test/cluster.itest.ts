import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { serve, type ServiceServer } from '@rookery/rpc';
import { startTestBroker, type TestBroker } from '@rookery/conat/testing';
import {
  hostCgroup,
  hostNetworkNames,
  SystemExec,
  waitFor,
  type SpawnedProcess,
} from '@rookery/core';
import { projectStreams } from '@rookery/api';
import { hostView, operationView, projectView } from '@rookery/client/testing';
import { clusterPaths } from '../src/cluster-file.js';
import { findClusterProcesses } from '../src/cluster-processes.js';
import { clusterMounts, loopDevices } from '../src/machine-sweep.js';

const exec = new SystemExec();
/** A hierarchy of cgroup version 1, or the only one of version 2. */
const cgroup = existsSync('/sys/fs/cgroup/pids') ? 'pids' : '.';
const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const fixtures = fileURLToPath(new URL('./fixtures', import.meta.url));

interface Outcome {
  exit: number;
  stdout: string;
  stderr: string;
}

/**
 * The command line as processes, with real children, mounts, loop devices, links and rules. Hub and
 * host are small stand-ins; the whole system over the real ones is tried by the end-to-end suite.
 */
describe('a local cluster', () => {
  let broker: TestBroker;
  let streams: ServiceServer;
  let folder: string;
  let dataDir: string;
  let port: number;
  let scripts: string[];
  let stubborn: boolean;
  const background: SpawnedProcess[] = [];
  const project = projectView('hello', hostView('host-1'), 'http://127.0.0.1');
  const views = {
    at: '2026-01-02T03:04:05.000Z',
    project,
    host: hostView('x'),
    operation: operationView('x', project.id),
  };

  beforeAll(async () => {
    broker = await startTestBroker();
    streams = await serve(
      await broker.connect(),
      projectStreams,
      {
        async exec({ command }, { stdin, stdout, stderr }) {
          stdin.resume();
          scripts.push(command.join(' '));
          stdout.end();
          stderr.end();
          return { exit: 0 };
        },
        async logs() {
          return {};
        },
      },
      { params: { projectId: project.id } },
    );
  });
  afterAll(async () => {
    await streams.close(0);
    await broker.close();
  });

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-cluster-'));
    await chmod(folder, 0o755);
    dataDir = join(folder, 'data');
    scripts = [];
    stubborn = false;
    await cp(fixtures, join(folder, 'parts'), { recursive: true });
    await say({});
    for (const part of ['images', 'tools'])
      await mkdir(join(folder, 'cache', part), { recursive: true });
    await writeFile(join(folder, 'cache/images/debian-13.tar'), '');
    port = await freePort();
  });
  afterEach(async () => {
    for (const one of background.splice(0)) {
      one.kill('SIGTERM');
      await one.ended;
    }
    await rookery('down', '--destroy');
    await rm(folder, { recursive: true, force: true });
  });

  /** What the stand-ins are to answer. */
  const say = (more: object): Promise<void> =>
    writeFile(
      join(folder, 'parts/views.json'),
      JSON.stringify({
        ...views,
        conat: { url: broker.url, token: 'x', inboxPrefix: '_INBOX.account-1' },
        ...more,
      }),
    );

  const environment = (): Record<string, string> => ({
    ROOKERY_CACHE: join(folder, 'cache'),
    ROOKERY_HUB_MAIN: join(folder, 'parts/hub-main.mjs'),
    ROOKERY_APPLIANCE_MAIN: join(folder, 'parts/appliance-main.mjs'),
    ROOKERY_TOKEN: 'from-outside',
    TEST_VIEWS: 'views.json',
    TEST_CGROUP: cgroup,
    // Projects that ignore SIGTERM cost their grace, so one test of them is enough.
    ...(stubborn && { TEST_STUBBORN: '1' }),
    XDG_CONFIG_HOME: join(folder, 'config'),
  });

  async function rookery(...argv: string[]): Promise<Outcome> {
    const process_ = exec.spawn([process.execPath, main, ...argv, '--data', dataDir], {
      env: environment(),
    });
    return outcomeOf(process_);
  }

  function start(...argv: string[]): SpawnedProcess {
    const started = exec.spawn([process.execPath, main, ...argv, '--data', dataDir], {
      env: environment(),
    });
    background.push(started);
    return started;
  }

  const up = (...more: string[]): Promise<Outcome> =>
    rookery('up', '--detach', '--json', '--port', String(port), ...more);

  interface StatusView {
    running: boolean;
    ready: boolean;
    processes: { name: string; pid: number; running: boolean }[];
    hosts: { name: string; host: { status: string } | null }[];
    projects: unknown[];
    hub: unknown;
  }
  const status = async (): Promise<StatusView> =>
    JSON.parse((await rookery('status', '--json')).stdout) as StatusView;
  const hubState = async (): Promise<{ projects: string[]; tokens: number; starts: number }> =>
    JSON.parse(await readFile(join(dataDir, 'hub/state.json'), 'utf8')) as never;

  /** Whatever of a cluster can lie about on a machine. */
  async function traces(): Promise<string[]> {
    const processes = await findClusterProcesses(dataDir);
    const mounts = await clusterMounts(exec, dataDir);
    const loops = await loopDevices(exec, dataDir);
    const { hosts } = await readFile(clusterPaths(dataDir).file, 'utf8').then(
      (text) => JSON.parse(text) as { hosts: { key: string; cidr: string }[] },
      () => ({ hosts: keys }),
    );
    keys = hosts;
    const { stdout: tables } = await exec.run(['nft', 'list', 'tables']);
    const { stdout: links } = await exec.run(['ip', '-o', 'link']);
    const { stdout: routes } = await exec.run(['ip', '-4', 'route', 'show']);
    const { stdout: local } = await exec.run(['ip', '-o', '-4', 'address', 'show', 'dev', 'lo']);
    return [
      ...processes.map((one) => `${one.kind} ${one.command}`),
      ...mounts.map((one) => `mount ${one.path}`),
      ...loops.map((one) => `loop ${one.name}`),
      ...hosts.flatMap(({ key, cidr }) => [
        ...(tables.includes(hostNetworkNames(key).table) ? [`table ${key}`] : []),
        ...(existsSync(join('/sys/fs/cgroup', cgroup, hostCgroup(key))) ? [`cgroup ${key}`] : []),
        ...(links.includes(hostNetworkNames(key).linkPrefix) ? [`link ${key}`] : []),
        ...(routes.includes(`unreachable ${cidr} `) ? [`route ${cidr}`] : []),
        ...(local.includes(` ${cidr.replace(/\.0\/20$/, '.1')}/`) ? [`address ${cidr}`] : []),
      ]),
    ];
  }
  let keys: { key: string; cidr: string }[] = [];

  it('comes up, shows itself, and goes down without a trace but its data', async () => {
    const first = await up();
    expect(first).toMatchObject({ exit: 0 });
    const summary = JSON.parse(first.stdout) as { loginUrl: string; hosts: unknown[] };
    expect(summary).toMatchObject({
      url: `http://127.0.0.1:${port}`,
      dataDir,
      project: { name: 'hello' },
    });
    expect(summary.loginUrl).toContain(`/${project.id}/port/8080/`);
    expect(summary.hosts).toHaveLength(2);
    expect(first.stderr).toContain('host-2 is ready');
    expect(scripts).toHaveLength(1);
    expect(scripts[0]).toContain('services/web');
    expect((await stat(join(dataDir, 'backup-password'))).mode & 0o777).toBe(0o600);
    expect((await stat(join(dataDir, 'log'))).mode & 0o777).toBe(0o700);

    const seen = await status();
    expect(seen).toMatchObject({ running: true, ready: true, hub: { port } });
    expect(seen.processes.map((one) => one.name)).toEqual([
      'supervisor',
      'hub',
      'host-1',
      'host-2',
    ]);
    expect(seen.processes.every((one) => one.running)).toBe(true);
    expect(seen.hosts.map((one) => one.host?.status)).toEqual(['online', 'online']);
    expect((await rookery('status')).stdout).toContain('State:    ready');
    const kinds = await traces();
    const found = new Set(kinds.map((one) => one.split(' ')[0]));
    expect(found).toEqual(
      new Set([
        'service',
        'monitor',
        'container',
        'mount',
        'loop',
        'table',
        'link',
        'route',
        'address',
        'cgroup',
      ]),
    );

    expect(await rookery('down', '--json')).toMatchObject({ exit: 0 });
    expect(await traces()).toEqual([]);
    expect(await status()).toMatchObject({ running: false, hub: null, projects: [] });

    // What was made is not made again, and hosts that have joined need no token.
    const second = await up();
    expect(second).toMatchObject({ exit: 0 });
    expect(await hubState()).toMatchObject({ projects: ['hello'], tokens: 2, starts: 2 });
    expect(scripts).toHaveLength(1);
    expect(await tokensOf('host-1')).toEqual(['join-1', 'none']);

    expect(await rookery('down', '--destroy')).toMatchObject({ exit: 0 });
    expect(await traces()).toEqual([]);
    await expect(stat(dataDir)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  const tokensOf = async (host: string): Promise<string[]> => {
    const all = (await readdir(join(dataDir, 'hosts', host))).filter((one) =>
      one.startsWith('token'),
    );
    return Promise.all(
      all.sort().map((one) => readFile(join(dataDir, 'hosts', host, one), 'utf8')),
    );
  };

  it('recovers after everything was killed, with the containers still there', async () => {
    await up();
    for (const { pid } of (await status()).processes) process.kill(pid, 'SIGKILL');
    const again = await up();
    expect(again).toMatchObject({ exit: 0 });
    expect(await hubState()).toMatchObject({ projects: ['hello'] });
    const left = await traces();
    expect(left.filter((one) => one.startsWith('container')).length).toBeGreaterThan(0);
    expect(left.filter((one) => one.startsWith('service'))).toHaveLength(3);
  });

  it('destroys what a killed cluster has left, from its folder alone', async () => {
    stubborn = true;
    await up();
    for (const { pid } of (await status()).processes) process.kill(pid, 'SIGKILL');
    expect(await rookery('down', '--destroy')).toMatchObject({ exit: 0 });
    expect(await traces()).toEqual([]);
    await expect(stat(dataDir)).rejects.toMatchObject({ code: 'ENOENT' });
    // Once more: there is nothing to do, and nothing else is touched.
    expect(await rookery('down', '--destroy')).toMatchObject({ exit: 0 });
  });

  it('ends its parts when only the supervisor is killed', async () => {
    await up();
    const supervisor = (await status()).processes.find((one) => one.name === 'supervisor')!;
    process.kill(supervisor.pid, 'SIGKILL');
    await waitFor(
      'the parts have ended',
      async () => (await findClusterProcesses(dataDir, ['service'])).length === 0,
      { timeoutMs: 20_000 },
    );
  });

  it('starts a part again that has died', async () => {
    await up();
    const hub = (await status()).processes.find((one) => one.name === 'hub')!;
    process.kill(hub.pid, 'SIGKILL');
    await waitFor(
      'another hub runs',
      async () => {
        const now = (await status()).processes.find((one) => one.name === 'hub');
        return now?.running === true && now.pid !== hub.pid;
      },
      { timeoutMs: 20_000 },
    );
  });

  it('runs in the foreground until Ctrl-C, and leaves commands with the hub that they went to', async () => {
    const contexts = join(folder, 'config/rookery/contexts');
    await mkdir(contexts, { recursive: true });
    const login = { url: 'http://127.0.0.1:1', token: 'of another cluster', data: '/srv/other' };
    await writeFile(join(contexts, 'other.json'), JSON.stringify(login));
    await writeFile(join(folder, 'config/rookery/current-context'), 'other\n');
    const running = start('up', '--hosts', '1', '--port', String(port));
    let shown = '';
    running.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
    await waitFor('it is up', () => shown.includes('Ctrl-C stops everything'), {
      timeoutMs: 60_000,
    });
    expect(shown).toContain(`http://127.0.0.1:${port}/login`);
    expect(shown).toContain('still go to the context other');
    expect(shown).toContain('rookery context use data');
    expect(await readFile(join(folder, 'config/rookery/current-context'), 'utf8')).toBe('other\n');
    running.kill('SIGINT');
    expect((await running.ended).exit).toBe(0);
    expect(await traces()).toEqual([]);
    const gone = await rookery('down', '--destroy');
    expect(gone.stderr).toContain(`target: the cluster in ${dataDir} (http://127.0.0.1:${port})\n`);
    expect(await readdir(contexts)).toEqual(['other.json']);
  });

  it('refuses a second supervisor, a port in use, a folder of others, and other settings', async () => {
    const taken = await listen(port + 21);
    const inUse = await up();
    expect(inUse).toMatchObject({ exit: 1, stdout: '' });
    expect(inUse.stderr).toContain('PORT_IN_USE');
    expect(inUse.stderr).toContain('host-2, SSH');
    // Nothing is laid down yet: the next try may take other ports.
    expect(await readdir(dataDir)).toEqual([]);
    await new Promise((resolve) => taken.close(resolve));

    await up();
    const second = await up();
    expect(second).toMatchObject({ exit: 1, stdout: '' });
    expect(second.stderr).toContain('CLUSTER_RUNNING');
    await rookery('down');
    expect((await rookery('up', '--detach', '--port', String(port + 1))).stderr).toContain(
      'CLUSTER_FIXED',
    );
    expect((await up('--hosts', '1')).stderr).toContain('CLUSTER_FIXED');

    const own = join(folder, 'own');
    await mkdir(own);
    await writeFile(join(own, 'thesis.txt'), 'years of work');
    const inOwn = (...argv: string[]): Promise<Outcome> =>
      outcomeOf(
        exec.spawn([process.execPath, main, ...argv, '--data', own], { env: environment() }),
      );
    const strange = await inOwn('up', '--detach');
    expect(strange.stderr).toContain('DATA_DIR_NOT_EMPTY');
    const destroyed = await inOwn('down', '--destroy');
    expect(destroyed.stderr).toContain('CLUSTER_UNKNOWN');
    expect(await readFile(join(own, 'thesis.txt'), 'utf8')).toBe('years of work');
  });

  it('adds hosts to a cluster that is there', async () => {
    await up('--hosts', '1');
    await rookery('down');
    expect(await up('--hosts', '3')).toMatchObject({ exit: 0 });
    expect((await status()).hosts.map((one) => one.name)).toEqual(['host-1', 'host-2', 'host-3']);
  });

  it('says why a part does not start, and leaves nothing running', async () => {
    await say({ hubExit: 78 });
    const failed = await up();
    expect(failed).toMatchObject({ exit: 1, stdout: '' });
    expect(failed.stderr).toContain('PART_FAILED');
    expect(failed.stderr).toContain('the test says so');
    expect(await traces()).toEqual([]);
    await say({});
    expect(await up()).toMatchObject({ exit: 0 });
  });

  it('lets exactly one of two simultaneous starts win', async () => {
    const both = await Promise.all([up(), up()]);
    expect(both.map((one) => one.exit).sort()).toEqual([0, 1]);
    expect(await status()).toMatchObject({ running: true, ready: true });
  });
});

async function outcomeOf(running: SpawnedProcess): Promise<Outcome> {
  let stdout = '';
  let stderr = '';
  running.stdin.end();
  running.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  running.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const { exit } = await running.ended;
  return { exit: exit ?? -1, stdout, stderr };
}

const listen = (port: number): Promise<Server> =>
  new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });

/** A port with room above it for three hosts. */
async function freePort(): Promise<number> {
  const server = await listen(0);
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port > 65_000 ? freePort() : port;
}
