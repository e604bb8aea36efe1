import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { openDatabase } from '../src/database/database.js';
import { ProjectRow } from '../src/database/entities/project.entity.js';
import { hostCopies, hostBackups, hostProjects, hostSnapshots } from '@rookery/fleet/contract';
import { isProcessAlive, identifyProcess, MiB, newId, waitFor } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import { FakeHub } from './fake-hub.js';
import { HostProcess } from './host-process.js';

const spec = ProjectSpec.parse({
  image: 'localhost/rookery/debian:13',
  quota: { diskBytes: 512 * 1024 * 1024, memoryBytes: 256 * 1024 * 1024, cpus: 1, pidsMax: 256 },
});
const web = [
  'cd ~ && echo hello > index.html',
  'setsid python3 -m http.server --bind 127.0.0.1 8080 >/dev/null 2>&1 &',
].join('\n');

describe('a host', () => {
  const hub = new FakeHub();
  let host: HostProcess;
  const id = newId();

  /** All its projects together get little of the machine's memory. */
  const sliceBytes = 400 * MiB;
  const settings = async () => ({
    ...(await host.withBackups()),
    ROOKERY_MEMORY_RESERVE_BYTES: String(totalmem() - sliceBytes),
  });

  beforeAll(async () => {
    await hub.start();
    host = await HostProcess.create(hub, '10.231.1.0/24', 'apt1');
    host.start(await settings());
    await host.untilReady();
  });
  afterAll(async () => {
    await host?.destroy();
    await hub.stop();
  });

  const projects = () => hub.service(hostProjects);
  const report = (state: string, projectId = id) =>
    waitFor(`the hub hears that it is ${state}`, () => hub.report(projectId)?.state === state, {
      timeoutMs: 30_000,
    });
  const exec = async (
    command: string[],
    projectId = id,
  ): Promise<{ exit: number; stdout: string }> => {
    const call = await projects().exec({ projectId, command });
    call.stdin.end();
    let stdout = '';
    call.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    const { exit } = await call.result;
    return { exit, stdout };
  };
  const get = async (path = 'index.html'): Promise<Response> =>
    fetch(`http://127.0.0.1:${host.ports.http}/${id}/server/8080/${path}`, {
      headers: { 'rookery-token': await hub.token(id) },
    });
  /** The ingress follows the agent: right after a start it may not listen yet. */
  const status = () =>
    get().then(
      (response) => response.status,
      () => 0,
    );
  const page = () =>
    waitFor('the page answers', async () => (await status()) === 200, { timeoutMs: 20_000 });

  it('joins once and reports what it has', async () => {
    expect(hub.registrations).toBe(1);
    await waitFor('a heartbeat', () => hub.heartbeats.length > 0, { timeoutMs: 10_000 });
    expect(hub.heartbeats[0]).toMatchObject({
      capabilities: {
        storageDriver: 'btrfs',
        quota: 'simple',
        backupDrivers: ['restic'],
        diskReserveBytes: 64 * MiB,
        memorySlice: { bytes: sliceBytes },
      },
      projects: [],
    });
  });

  it('creates, starts and reaches a project', async () => {
    hub.owned.set(id, 1);
    const view = await projects().create({ fence: hub.fence(id), spec });
    expect(view.state).toBe('created');
    await projects().start({ fence: hub.fence(id), spec });
    await report('running');
    expect((await exec(['sh', '-c', web])).exit).toBe(0);
    // The machine ends it before its host.
    expect((await exec(['cat', '/proc/1/oom_score_adj'])).stdout).toBe('300\n');
    expect((await exec(['cat', '/proc/self/oom_score_adj'])).stdout).toBe('300\n');
    await page();
    expect(await (await get()).text()).toBe('hello\n');
  });

  it('goes on answering while its projects together want more memory than there is for them', async () => {
    const other = newId();
    hub.owned.set(other, 1);
    const hungry = { ...spec, quota: { ...spec.quota, memoryBytes: 2 * sliceBytes } };
    await projects().create({ fence: hub.fence(other), spec: hungry });
    await projects().start({ fence: hub.fence(other), spec: hungry });
    await report('running', other);
    const eat = (bytes: number, projectId: string) =>
      exec(['python3', '-c', `import time; x = b'x' * ${bytes}; time.sleep(60)`], projectId);
    const eaters = [eat(160 * MiB, id), eat(300 * MiB, other)];
    let ended: { exit: number } | undefined;
    void Promise.race(eaters).then((first) => (ended = first));
    const answers: unknown[] = [];
    const beats = hub.heartbeats.length;
    await waitFor(
      'one of them is ended',
      async () => {
        answers.push((await host.readyz())?.status, await status());
        return ended;
      },
      { timeoutMs: 30_000 },
    );
    expect(ended?.exit).toBe(137);
    expect(new Set(answers)).toEqual(new Set(['ok', 200]));
    await waitFor('the hub hears more', () => hub.heartbeats.length > beats, { timeoutMs: 20_000 });
    // Whoever was ended, nobody else of the host was, nor is any project away.
    expect(await (await get()).text()).toBe('hello\n');
    await projects().stop({ fence: hub.fence(other), graceMs: 0 });
    await projects().delete({ fence: hub.fence(other) });
    hub.owned.delete(other);
    await exec(['pkill', '-9', '-f', 'time.sleep']);
    await Promise.all(eaters);
  });

  it('answers nobody without a token of the hub', async () => {
    const url = `http://127.0.0.1:${host.ports.http}/${id}/server/8080/`;
    expect((await fetch(url)).status).toBe(401);
    const other = { headers: { 'rookery-token': await hub.token(newId()) } };
    expect((await fetch(url, other)).status).toBeGreaterThanOrEqual(401);
  });

  it('refuses an older generation and what is not here', async () => {
    const stale = projects().stop({ fence: hub.fence(id, 0) });
    await expect(stale).rejects.toMatchObject({ code: 'STALE_GENERATION' });
    const newer = projects().stop({ fence: hub.fence(id, 2) });
    await expect(newer).rejects.toMatchObject({ code: 'STALE_GENERATION' });
    const stranger = projects().start({ fence: hub.fence(newId()), spec });
    await expect(stranger).rejects.toMatchObject({ code: 'PROJECT_NOT_HERE' });
    expect((await projects().get({ projectId: id })).state).toBe('running');
  });

  it('keeps containers and connections when the agent is killed', async () => {
    const { agent, ingress } = await host.pids();
    const before = await exec(['cat', '/proc/1/stat']);
    // A connection through the ingress, kept open over the restart.
    const socket = connect(host.ports.http, '127.0.0.1');
    const token = await hub.token(id);
    const request = `GET /${id}/server/8080/index.html HTTP/1.1\r\nHost: x\r\nRookery-Token: ${token}\r\n\r\n`;
    let received = '';
    socket.on('data', (chunk: Buffer) => (received += chunk.toString()));
    socket.write(request);
    const answers = (): number => received.split('HTTP/1.1 200').length - 1;
    await waitFor('the first answer', () => answers() === 1, { timeoutMs: 10_000 });

    process.kill(agent, 'SIGKILL');
    expect((await get()).status).toBe(200);
    await waitFor('another agent', async () => (await host.pids()).agent !== agent, {
      timeoutMs: 20_000,
    });
    await host.untilReady();
    socket.write(request);
    await waitFor('the second answer', () => answers() === 2, { timeoutMs: 10_000 });
    socket.destroy();

    expect((await host.pids()).ingress).toBe(ingress);
    expect(hub.registrations).toBe(1);
    const after = await waitFor('exec works', () => exec(['cat', '/proc/1/stat']), {
      timeoutMs: 10_000,
    });
    // The 22nd field: when the container's first process started.
    const startedAt = (stat: string) => stat.split(' ')[21];
    expect(startedAt(after.stdout)).toBe(startedAt(before.stdout));
  });

  it('shows its broker’s metrics to this machine', async () => {
    const answer = await fetch(`http://127.0.0.1:${host.ports.agent}/metrics`);
    expect(await answer.text()).toMatch(/^conat_subscriptions \d/m);
  });

  it('serves while the hub is away and reports when it is back', async () => {
    await hub.stop();
    await waitFor('the host notices', async () => (await host.readyz())?.hub === 'away', {
      timeoutMs: 20_000,
    });
    expect((await get()).status).toBe(200);
    hub.heartbeats.length = 0;
    await hub.start();
    await report('running');
    expect(hub.registrations).toBe(1);
  });

  it('takes a snapshot and restores it', async () => {
    const snapshots = hub.service(hostSnapshots);
    await snapshots.create({ fence: hub.fence(id), name: 'first' });
    await exec(['sh', '-c', 'echo changed > ~/index.html; sync']);
    await snapshots.restore({ fence: hub.fence(id), name: 'first', path: 'index.html' });
    expect(await (await get()).text()).toBe('hello\n');
    const whole = snapshots.restore({ fence: hub.fence(id), name: 'first' });
    await expect(whole).rejects.toMatchObject({ code: 'PROJECT_NOT_STOPPED' });
    const stale = snapshots.create({ fence: hub.fence(id, 0), name: 'late' });
    await expect(stale).rejects.toMatchObject({ code: 'STALE_GENERATION' });
  });

  it('starts a project that is full, with a root filesystem that it can write', async () => {
    const full = newId();
    hub.owned.set(full, 1);
    const small = { ...spec, quota: { ...spec.quota, diskBytes: 64 * 1024 * 1024 } };
    const run = async (script: string): Promise<{ exit: number; stdout: string }> => {
      const call = await projects().exec({ projectId: full, command: ['sh', '-c', script] });
      call.stdin.end();
      let stdout = '';
      call.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
      return { exit: (await call.result).exit, stdout };
    };
    const restart = async (): Promise<void> => {
      await projects().stop({ fence: hub.fence(full), graceMs: 0 });
      await projects().start({ fence: hub.fence(full), spec: small });
    };
    const piece = (name: string, bytes: number): string =>
      `dd if=/dev/urandom of=$HOME/${name} bs=${bytes} count=2000 conv=fsync 2>/dev/null; sync`;
    const pieces = [2 ** 20, 2 ** 16, 2 ** 12].map((bytes) => piece(`fill-${bytes}`, bytes));
    // Long links take up metadata fast; in the end not even a folder can be made.
    const until = (command: string): string =>
      `n=0; while [ $n -lt 999 ] && ${command}-$n 2>/dev/null; do n=$((n+1)); done; sync`;
    const links = until('ln -s $(printf %03800d 0) ~/l');
    const fill = [...pieces, links, until('mkdir ~/d')].join('\n');
    await projects().create({ fence: hub.fence(full), spec: small });
    await projects().start({ fence: hub.fence(full), spec: small });
    const snapshots = hub.service(hostSnapshots);
    await snapshots.create({ fence: hub.fence(full), name: 'first' });
    await run(fill);
    expect((await run('mkdir ~/more')).exit).not.toBe(0);
    await restart();
    const root = await run('awk \'$2 == "/" { print $4 }\' /proc/mounts');
    expect(root.stdout.split(',')).toContain('rw');
    // From the image, as after any other start.
    expect((await run('grep -c /etc/passwd /proc/mounts')).stdout.trim()).toBe('0');

    await projects().stop({ fence: hub.fence(full), graceMs: 0 });
    await snapshots.restore({ fence: hub.fence(full), name: 'first' });
    await projects().start({ fence: hub.fence(full), spec: small });
    expect((await run('ls ~')).stdout).toBe('');
    const { usedBytes = 0 } = await snapshots.usage({ projectId: full });
    expect(usedBytes).toBeLessThan(small.quota.diskBytes + 2 * 1024 * 1024);
    await projects().delete({ fence: hub.fence(full) });
    hub.owned.delete(full);
  });

  it('rescues a project whose root filesystem no longer starts, also over a restart', async () => {
    const project = newId();
    hub.owned.set(project, 1);
    const fence = () => hub.fence(project);
    const rescue = { ...spec, rescue: true };
    const run = async (script: string): Promise<string> => {
      const call = await projects().exec({ projectId: project, command: ['sh', '-c', script] });
      call.stdin.end();
      let stdout = '';
      call.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
      await call.result;
      return stdout;
    };
    await projects().create({ fence: fence(), spec });
    await projects().start({ fence: fence(), spec });
    await run('echo kept > ~/kept; echo mine > /etc/mine; rm /etc/passwd; mkfifo /etc/passwd');
    await projects().stop({ fence: fence(), graceMs: 0 });
    const unusable = { code: 'ROOTFS_UNUSABLE' };
    await expect(projects().start({ fence: fence(), spec })).rejects.toMatchObject(unusable);

    await projects().start({ fence: fence(), spec: rescue });
    expect(await run('cat ~/kept /rescue/etc/mine; touch /etc/of-rescue')).toBe('kept\nmine\n');
    const { agent } = await host.pids();
    process.kill(agent, 'SIGKILL');
    await waitFor('the agent is another', async () => (await host.pids()).agent !== agent, {
      timeoutMs: 20_000,
    });
    await host.untilReady();
    // The same container, as it was.
    expect(await run('ls /etc/of-rescue')).toBe('/etc/of-rescue\n');
    await hub.service(hostSnapshots).create({ fence: fence(), name: 'rescued' });
    await run('rm /rescue/etc/passwd');
    await projects().start({ fence: fence(), spec });
    expect(await run('cat ~/kept /etc/mine; ls -d /etc/of-rescue /rescue')).toBe('kept\nmine\n');

    const snapshots = hub.service(hostSnapshots);
    const reset = () => snapshots.resetRootfs({ fence: fence(), keepAs: 'before-reset' });
    await expect(reset()).rejects.toMatchObject({ code: 'PROJECT_NOT_STOPPED' });
    await projects().stop({ fence: fence(), graceMs: 0 });
    // As a snapshot that was taken in rescue mode has it, the root filesystem is the broken one.
    await snapshots.restore({ fence: fence(), name: 'rescued' });
    await expect(projects().start({ fence: fence(), spec })).rejects.toMatchObject(unusable);
    await projects().stop({ fence: fence(), graceMs: 0 });
    await reset();
    await reset();
    await projects().start({ fence: fence(), spec });
    const kept = '~/.snapshots/before-reset/.local/share/overlay/*/upper/etc/mine';
    expect(await run(`cat ~/kept ${kept}; ls /etc/mine`)).toBe('kept\nmine\n');
    await projects().delete({ fence: fence() });
    hub.owned.delete(project);
  });

  it('backs up, and restores as new and in place', async () => {
    const backups = hub.service(hostBackups);
    const refused = backups.run({ fence: hub.fence(id), spec });
    await expect(refused).rejects.toMatchObject({ code: 'REPOSITORY_MISSING' });
    expect(await backups.init({})).toMatchObject({ state: 'ok' });
    const record = await backups.run({ fence: hub.fence(id), spec });
    expect((await backups.list({ projectId: id })).backups).toMatchObject([
      { backupId: record.backupId },
    ]);
    const copy = newId();
    hub.owned.set(copy, 1);
    const { backupId } = record;
    await backups.restore({ fence: hub.fence(copy), fromProjectId: id, backupId, spec });
    await report('stopped', copy);
    await projects().start({ fence: hub.fence(copy), spec });
    await report('running', copy);
    const call = await projects().exec({ projectId: copy, command: ['cat', 'index.html'] });
    let text = '';
    call.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    expect((await call.result).exit).toBe(0);
    expect(text).toBe('hello\n');

    const replace = { fromProjectId: id, backupId, spec, replace: true };
    const running = backups.restore({ fence: hub.fence(copy, 2), ...replace });
    await expect(running).rejects.toMatchObject({ code: 'PROJECT_NOT_STOPPED' });
    await projects().stop({ fence: hub.fence(copy) });
    hub.owned.set(copy, 2);
    await backups.restore({ fence: hub.fence(copy, 2), ...replace });
    const { usedBytes, limitBytes } = await hub.service(hostSnapshots).usage({ projectId: copy });
    expect(limitBytes).toBe(spec.quota.diskBytes);
    expect(usedBytes).toBeGreaterThan(4096);
    await projects().delete({ fence: hub.fence(copy, 2) });
    hub.owned.delete(copy);
  });

  it('recovers when everything is killed at once', async () => {
    const { supervisor, agent, ingress } = await host.pids();
    const alive = await Promise.all([agent, ingress].map((pid) => identifyProcess(pid)));
    for (const pid of [supervisor, agent, ingress]) process.kill(pid, 'SIGKILL');
    await host.process?.ended;
    host.start(await settings());
    await host.untilReady();
    for (const identity of alive) {
      expect(identity && (await isProcessAlive(identity))).toBe(false);
    }
    await page();
    expect((await exec(['cat', 'index.html'])).stdout).toBe('hello\n');
  });

  it('ends children that outlived their supervisor', async () => {
    const { supervisor } = await host.pids();
    process.kill(supervisor, 'SIGKILL');
    await host.process?.ended;
    host.start(await settings());
    await host.untilReady();
    await page();
  });

  it('refuses a second host on its data folder', async () => {
    const exit = await host.startAgain();
    expect(exit.exit).toBe(78);
    expect(exit.stderr).toContain('another host runs on');
  });

  it('stops a project that the hub says is not its own, and keeps its volume', async () => {
    hub.owned.delete(id);
    await report('stopped');
    await waitFor('it says why', () => hub.report(id)?.error?.code === 'PROJECT_NOT_OWNED', {
      timeoutMs: 10_000,
    });
    expect(await readFile(host.homeFile(id, 'index.html'), 'utf8')).toBe('hello\n');
    hub.owned.set(id, 1);
    await waitFor('it is forgiven', () => hub.report(id)?.error === undefined, {
      timeoutMs: 10_000,
    });
    await projects().start({ fence: hub.fence(id), spec });
    await report('running');
  });

  it('shows what lies there beside its own projects, keeps it, and removes it', async () => {
    const copies = hub.service(hostCopies);
    const old = newId();
    hub.owned.set(old, 1);
    await projects().create({ fence: hub.fence(old), spec });
    expect(await copies.list({})).toEqual({ copies: [] });
    const own = copies.delete({ fence: hub.fence(old) });
    await expect(own).rejects.toMatchObject({ code: 'COPY_NOT_HERE' });
    hub.owned.delete(old);
    const listed = async () => (await copies.list({})).copies;
    await waitFor('it is listed', async () => (await listed()).length > 0, { timeoutMs: 10_000 });
    expect(await listed()).toMatchObject([{ projectId: old, generation: 1, kept: false }]);
    const counted = (count: number) =>
      waitFor(`${count} are told`, () => hub.heartbeats.at(-1)?.copies === count, {
        timeoutMs: 10_000,
      });
    await copies.keep({ projectId: old, kept: false });
    await counted(1);
    await copies.keep({ projectId: old, kept: true });
    await counted(0);
    expect(await listed()).toMatchObject([{ projectId: old, kept: true }]);
    const newer = copies.delete({ fence: hub.fence(old, 0) });
    await expect(newer).rejects.toMatchObject({ code: 'STALE_GENERATION' });
    await copies.delete({ fence: hub.fence(old, 2) });
    expect(await listed()).toEqual([]);
    await expect(readdir(join(host.data, 'volume', `project-${old}`))).rejects.toThrow('ENOENT');
    // A repeated call, as after a lost reply.
    await copies.delete({ fence: hub.fence(old, 2) });
  });

  it('takes files back whose record was lost', async () => {
    await host.stop();
    const database = await openDatabase(join(host.data, 'books', 'host.sqlite'));
    database.write((rows) => rows.delete(ProjectRow, { projectId: id }));
    await database.close();
    host.start(await settings());
    await host.untilReady();
    const start = () => projects().start({ fence: hub.fence(id), spec });
    const listed = async () =>
      hub
        .service(hostCopies)
        .list({})
        .catch(() => undefined);
    const found = await waitFor('it serves', listed, { timeoutMs: 10_000 });
    const usedBytes = expect.any(Number);
    expect(found).toEqual({ copies: [{ projectId: id, usedBytes, kept: false }] });
    await expect(start()).rejects.toMatchObject({ code: 'PROJECT_NOT_HERE' });
    const none = projects().adopt({ fence: hub.fence(newId()), spec });
    await expect(none).rejects.toMatchObject({ code: 'NOTHING_TO_ADOPT' });
    const adopted = await projects().adopt({ fence: hub.fence(id), spec });
    expect(adopted).toMatchObject({ state: 'stopped', generation: 1 });
    await start();
    await report('running');
    expect((await exec(['cat', 'index.html'])).stdout).toBe('hello\n');
    expect(await hub.service(hostCopies).list({})).toEqual({ copies: [] });
    // It is its own already.
    const again = await projects().adopt({ fence: hub.fence(id), spec });
    expect(again.state).toBe('running');
  });

  it('stops in order and leaves containers running', async () => {
    const before = await exec(['cat', '/proc/1/stat']);
    expect(await host.stop()).toBe(0);
    await expect(readFile(join(host.data, 'processes.json'))).rejects.toThrow('ENOENT');
    host.start(await settings());
    await host.untilReady();
    expect((await exec(['cat', '/proc/1/stat'])).stdout.split(' ')[21]).toBe(
      before.stdout.split(' ')[21],
    );
  });

  it('deletes a project with all that was its', async () => {
    await projects().delete({ fence: hub.fence(id) });
    hub.owned.delete(id);
    await waitFor('it is gone', () => hub.report(id) === undefined, { timeoutMs: 10_000 });
    await expect(readFile(host.homeFile(id, 'index.html'))).rejects.toThrow('ENOENT');
    await waitFor('the ingress knows', async () => (await status()) >= 400, { timeoutMs: 10_000 });
  });
});
