import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import type { OperationView, ProjectView } from '@rookery/api';
import { Cluster, diffManifests, manifestOf, type ManifestEntry } from '@rookery/harness';
import { hostNetworkNames, SystemExec, waitFor } from '@rookery/core';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import WebSocket from 'ws';
import { echoPort, echoService, installService } from './support/services.js';

const exec = new SystemExec();

/**
 * The whole path of one project on real parts, in order: each test goes on where the one before
 * ended, as a person would.
 */
describe('one project, end to end', () => {
  let cluster: Cluster;
  let project: ProjectView;
  let source: string;
  let destination: string;
  let tree: ManifestEntry[];

  beforeAll(async () => {
    cluster = await Cluster.start({ hosts: 2 });
  }, 300_000);

  afterAll(async () => {
    await cluster?.destroy();
  }, 240_000);

  const refresh = async (): Promise<ProjectView> =>
    (project = await cluster.client.getProject({ projectId: project.id }));

  const finished = async (started: { operation: OperationView }): Promise<OperationView> =>
    cluster.client.waitForOperation(started.operation.id);

  const fetchService = async (path: string, init: RequestInit = {}): Promise<Response> =>
    fetch(`${project.url}${echoPort}/${path}`, {
      ...init,
      headers: { ...init.headers, authorization: `Bearer ${await cluster.token()}` },
    });

  /** What the host holds of the project: home and overlay, snapshots left out. */
  const treeOn = async (host: string): Promise<ManifestEntry[]> =>
    manifestOf(join(await cluster.volumeOf(host), `project-${project.id}`), {
      exclude: ['.snapshots'],
    });

  test('create and start', async () => {
    const started = await cluster.client.createProject({
      name: 'e2e',
      start: true,
      quota: { diskBytes: 1024 ** 3, memoryBytes: 512 * 1024 ** 2, cpus: 1 },
    });
    project = started.project;
    await finished(started);
    await refresh();
    expect(project.state).toBe('running');
    expect(project.placementGeneration).toBe(1);
    source = project.host ?? '';
    const hosts = (await cluster.client.listHosts()).items.map((host) => host.name);
    destination = hosts.find((name) => name !== source) ?? '';
    expect([source, destination].sort()).toEqual(['host-1', 'host-2']);
  });

  test('exec writes files, passes input, output and exit status through', async () => {
    await cluster.run(project.id, 'echo one > ~/file && sudo apt-get --version > /dev/null');
    const call = await cluster.client.exec(project.id, { command: ['cat'] });
    const big = Buffer.alloc(3_000_000, 'x');
    call.stdin.end(big);
    let bytes = 0;
    for await (const chunk of call.stdout) bytes += (chunk as Buffer).length;
    expect(bytes).toBe(big.length);
    expect(await call.result).toEqual({ exit: 0 });
    const failing = await cluster.cli([
      'project',
      'exec',
      'e2e',
      '--',
      'sh',
      '-c',
      'echo no >&2; exit 7',
    ]);
    expect(failing).toMatchObject({ exit: 7, stderr: expect.stringContaining('no') as unknown });
  });

  test('the service on 127.0.0.1 inside answers through hub and host, HTTP and WebSocket', async () => {
    const call = await cluster.client.exec(project.id, {
      command: ['sh', '-c', installService('echo')],
    });
    call.stdin.end(echoService);
    call.stdout.resume();
    call.stderr.resume();
    expect(await call.result).toEqual({ exit: 0 });
    // The init starts services when the project starts.
    await finished(await cluster.client.stopProject({ projectId: project.id }));
    await finished(await cluster.client.startProject({ projectId: project.id }));
    await waitFor('the service answers', async () => (await fetchService('x')).ok, {
      timeoutMs: 30_000,
    });
    const answer = await fetchService('deep/path?q=1', {
      headers: { cookie: 'rookery_session=x; own=1' },
    });
    expect(await answer.text()).toBe(`hello from /${project.id}/port/${echoPort}/deep/path?q=1`);
    const seen = (answer.headers.get('x-seen') ?? '').split(',');
    expect(seen).toContain('x-forwarded-for');
    expect(seen).toContain('cookie');
    for (const secret of ['authorization', 'rookery-token']) expect(seen).not.toContain(secret);
    const stripped = await fetch(project.url.replace(/\/port\/$/, `/server/${echoPort}/deep`), {
      headers: { authorization: `Bearer ${await cluster.token()}` },
    });
    expect(await stripped.text()).toBe('hello from /deep');
    expect(await echoOverWebSocket('ping')).toBe('ping');
  });

  async function echoOverWebSocket(text: string): Promise<string> {
    const socket = new WebSocket(`${project.url.replace(/^http/, 'ws')}${echoPort}/ws`, {
      headers: { authorization: `Bearer ${await cluster.token()}` },
    });
    return new Promise((resolve, reject) => {
      socket.once('error', reject);
      socket.once('open', () => socket.send(text));
      socket.once('message', (data: Buffer) => {
        resolve(data.toString());
        socket.close();
      });
    });
  }

  test('nobody gets in without a key, and a stranger not with his own', async () => {
    expect((await fetch(`${project.url}${echoPort}/`)).status).toBe(401);
    const { token } = await cluster.client.createAccount({
      email: 'stranger@example.org',
      name: 'Stranger',
    });
    const stranger = { headers: { authorization: `Bearer ${token}` } };
    expect((await fetch(`${project.url}${echoPort}/`, stranger)).status).toBe(403);
    const direct = await cluster.client.getHost({ hostId: project.hostId ?? '' });
    const atHost = await fetch(`${direct.publicUrl}/${project.id}/port/${echoPort}/`);
    expect(atHost.status).toBe(401);
  });

  test('snapshot, overwrite, restore one path and the whole', async () => {
    await cluster.client.createSnapshot({ projectId: project.id, name: 'before' });
    await cluster.run(project.id, 'echo two > ~/file; echo new > ~/other');
    expect(await cluster.run(project.id, 'cat ~/.snapshots/before/home/file')).toBe('one\n');
    await finished(
      await cluster.client.restoreSnapshot({ projectId: project.id, name: 'before', path: 'file' }),
    );
    expect(await cluster.run(project.id, 'cat ~/file ~/other')).toBe('one\nnew\n');
    await finished(await cluster.client.restoreSnapshot({ projectId: project.id, name: 'before' }));
    expect((await refresh()).state).toBe('running');
    expect(await cluster.run(project.id, 'cat ~/file; ls ~/other 2>&1 || true')).toMatch(
      /^one\n.*No such file/s,
    );
  });

  test('content that is hard to keep', async () => {
    await cluster.run(
      project.id,
      [
        'cd ~ && mkdir -p tree/empty',
        'echo data > tree/a && ln tree/a tree/hard && ln -s a tree/soft && ln -s /etc/passwd tree/out',
        'truncate -s 20M tree/sparse && printf end | dd of=tree/sparse bs=1 seek=10000000 conv=notrunc status=none',
        'chmod 4711 tree/hard && chown 33:33 tree/sparse && touch -d 2001-02-03T04:05:06.789 tree/empty',
        "python3 -c \"import os; os.setxattr('tree/a', 'user.note', b'kept')\"",
        'mkfifo tree/pipe',
        // Changes to the image: a whiteout, an opaque folder, a changed file.
        'rm /etc/issue.net && rm -r /usr/share/doc && mkdir /usr/share/doc && echo x > /usr/share/doc/x',
        'echo changed >> /etc/issue && sync',
      ].join(' && '),
    );
  });

  test('move under load: every promise is kept, and clients see a pause, not an error', async () => {
    await waitFor('the service answers', async () => (await fetchService('x')).ok, {
      timeoutMs: 30_000,
    });
    const promised: number[] = [];
    let stop = false;
    let longestMs = 0;
    const writer = (async () => {
      for (let n = 1; !stop; n += 1) {
        const begun = Date.now();
        const answer = await fetchService('append', { method: 'POST', body: String(n) });
        if (answer.ok) promised.push(n);
        await answer.arrayBuffer();
        longestMs = Math.max(longestMs, Date.now() - begun);
      }
    })();
    const moved = await finished(
      await cluster.client.moveProject({ projectId: project.id, host: destination }),
    );
    expect(moved.state).toBe('succeeded');
    await waitFor('the service answers again', async () => (await fetchService('x')).ok, {
      timeoutMs: 30_000,
    });
    stop = true;
    await writer;
    await refresh();
    expect(project).toMatchObject({
      host: destination,
      state: 'running',
      placementGeneration: 2,
      move: null,
    });
    const log = (await cluster.run(project.id, 'cat ~/promised.log'))
      .trim()
      .split('\n')
      .map(Number);
    const kept = new Set(log);
    expect(promised.length).toBeGreaterThan(10);
    expect(promised.filter((n) => !kept.has(n))).toEqual([]);
    expect([...log].sort((a, b) => a - b)).toEqual(log);
    expect(longestMs).toBeLessThan(30_000);
  });

  test('snapshots, service, quota and image are on the other host, nothing is left on the first', async () => {
    const { items } = await cluster.client.listSnapshots({ projectId: project.id });
    expect(items.map((snapshot) => snapshot.name)).toContain('before');
    expect(await cluster.run(project.id, 'cat ~/.snapshots/before/home/file')).toBe('one\n');
    expect(await echoOverWebSocket('after')).toBe('after');
    // The image came along; it is shared, and its bytes are not the project's.
    const { stdout } = await cluster.cli(['project', 'show', project.id, '--json']);
    const { diskUsedBytes } = JSON.parse(stdout) as { diskUsedBytes: number };
    expect(diskUsedBytes).toBeLessThan(64 * 1024 ** 2);
    const full = await cluster.run(
      project.id,
      'dd if=/dev/urandom of=$HOME/fill bs=1M count=1500 2>&1 || true; sync; rm -f $HOME/fill',
    );
    expect(full).toMatch(/quota exceeded|No space left/i);
    await waitFor(
      'the source copy is gone',
      async () => {
        const path = join(await cluster.volumeOf(source), `project-${project.id}`);
        return stat(path).then(
          () => false,
          () => true,
        );
      },
      { timeoutMs: 30_000 },
    );
  });

  test('back up; lose the owning host’s data; restore on the other with the same content', async () => {
    await finished(await cluster.client.stopProject({ projectId: project.id }));
    tree = await treeOn(destination);
    await finished(await cluster.client.runBackup({ projectId: project.id }));
    const { items } = await cluster.client.listBackups({ projectId: project.id });
    expect(items).toHaveLength(1);
    expect((await refresh()).lastBackupAt).not.toBeNull();
    const restored = await cluster.client.restoreBackup({
      projectId: project.id,
      backupId: 'latest',
      name: 'beside',
    });
    const operation = await finished(restored);
    // A live project is not touched: the content is in a new one.
    expect(operation.result?.projectId).not.toBe(project.id);
    const other = await cluster.client.getProject({
      projectId: operation.result?.projectId as string,
    });
    expect(other.name).toBe('beside');
    await finished(await cluster.client.deleteProject({ projectId: other.id }));

    await wipe(destination);
    const replaced = await cluster.client.restoreBackup({
      projectId: project.id,
      backupId: items[0]?.id ?? '',
      replace: true,
      host: source,
      start: true,
    });
    await finished(replaced);
    await refresh();
    expect(project).toMatchObject({ host: source, placementGeneration: 3, state: 'running' });
    await finished(await cluster.client.stopProject({ projectId: project.id }));
    expect(differences(tree, await treeOn(source))).toEqual([]);
  });

  /** Starting touches what the container's mounts and services touch; everything else must match. */
  function differences(before: ManifestEntry[], after: ManifestEntry[]): string[] {
    return diffManifests(before, after).filter(
      (line) =>
        !/^(\.|home|home\/\.snapshots|home\/\.config[^:]*|\.local[^:]*\/work[^:]*|\.local[^:]*\/upper(\/(run|etc|tmp|root|proc|sys|dev|scratch|opt)[^:]*)?): (mtimeNs|missing|was not there)/.test(
          line,
        ),
    );
  }

  /** Takes the project's subvolumes from a host behind its back, as a dead disk would. */
  async function wipe(host: string): Promise<void> {
    const volume = await cluster.volumeOf(host);
    const snapshots = join(volume, `project-${project.id}`, '.snapshots');
    for (const name of await readdir(snapshots)) {
      await exec.run(['btrfs', 'subvolume', 'delete', join(snapshots, name)]);
    }
    for (const path of [`project-${project.id}`, `sync/projects/${project.id}`]) {
      await exec.run(['btrfs', 'subvolume', 'delete', join(volume, path)]);
    }
  }

  test('another host joins with the words of the README', async () => {
    const readme = await readFile(join(import.meta.dirname, '../README.md'), 'utf8');
    const [, words = ''] = /^\.\/rookery (join .*)$/m.exec(readme) ?? [];
    expect(readme).toMatch(/^rk host join-token\b/m);
    const token = (await cluster.cli(['host', 'join-token'])).stdout.trim();
    const address = new URL(cluster.url).hostname;
    const said = words
      .replace('http://hub.example:7700', cluster.url)
      .replace('TOKEN', token)
      .replace('192.0.2.7', address)
      .split(' ');
    expect(said).toEqual(['join', cluster.url, '--token', token, '--listen', address]);

    // The other machine is this one, where the usual ports and name are taken.
    const data = join(cluster.folder, 'another-machine');
    const port = String(cluster.port + 60);
    const others = ['--data', data, '--port', port, '--name', 'another', '--volume', '2G'];
    const main = join(import.meta.dirname, '../cluster/dist/main.js');
    const key = `e${cluster.port}`;
    const started = exec.spawn([process.execPath, main, ...said, ...others], {
      env: { ROOKERY_HOST_KEY: key, ROOKERY_PROJECT_CIDR: '10.219.7.0/24' },
    });
    started.stdin.end();
    let log = '';
    for (const stream of [started.stdout, started.stderr]) {
      stream.on('data', (chunk: Buffer) => (log = (log + chunk.toString()).slice(-5000)));
    }
    try {
      await waitFor('it serves', () => log.includes(`the host another serves ${cluster.url}`), {
        timeoutMs: 60_000,
      }).catch((error: unknown) => {
        throw new Error(log, { cause: error });
      });
      const made = await cluster.client.createProject({
        name: 'there',
        host: 'another',
        quota: { diskBytes: 1024 ** 3, memoryBytes: 256 * 1024 ** 2, cpus: 1 },
        start: true,
      });
      await finished(made);
      expect(await cluster.run(made.project.id, 'echo $ROOKERY_PROJECT_ID')).toBe(
        `${made.project.id}\n`,
      );
      await finished(
        await cluster.client.deleteProject({ projectId: made.project.id, force: 'true' }),
      );
    } finally {
      started.kill('SIGTERM');
      expect((await started.ended).exit).toBe(0);
      const { table, gatewayLabel } = hostNetworkNames(key);
      const okExits = [0, 1, 2];
      await exec.run(['nft', 'delete', 'table', 'inet', table], { okExits });
      await exec.run(['ip', 'address', 'flush', 'dev', 'lo', 'label', gatewayLabel], { okExits });
      await exec.run(['ip', 'route', 'delete', 'unreachable', '10.219.7.0/24'], { okExits });
    }
  });

  test('a root filesystem that no longer starts: rescue, over a move too, and begun anew', async () => {
    const cli = async (...argv: string[]): Promise<unknown> => {
      const { exit, stdout, stderr } = await cluster.cli([...argv, '--json']);
      expect({ argv, exit, stderr: exit === 0 ? '' : stderr }).toMatchObject({ exit: 0 });
      return JSON.parse(stdout);
    };
    await cli('project', 'start', 'e2e');
    const destroy = 'echo mine > /etc/mine; rm /etc/passwd; mkfifo /etc/passwd; rm -rf /usr/lib';
    await cluster.run(project.id, destroy);
    await cli('project', 'stop', 'e2e', '--grace', '0');
    const failed = await cluster.cli(['project', 'start', 'e2e']);
    expect(failed).toMatchObject({ exit: 1, stderr: expect.stringContaining('ROOTFS_UNUSABLE') });

    const rescued = { state: 'running', rescue: true };
    expect(await cli('project', 'start', 'e2e', '--rescue')).toMatchObject(rescued);
    expect(await cli('project', 'move', 'e2e', '--to', destination)).toMatchObject(rescued);
    expect(await cluster.run(project.id, 'cat /rescue/etc/mine ~/file')).toBe('mine\none\n');
    const reset = await cluster.cli(['project', 'reset-rootfs', 'e2e', '--yes']);
    expect(reset).toMatchObject({ exit: 0, stdout: expect.stringContaining('before-reset-') });
    expect(await refresh()).toMatchObject({ state: 'running', rescue: false, host: destination });
    const kept = '~/.snapshots/before-reset-*/.local/share/overlay/*/upper/etc/mine';
    expect(await cluster.run(project.id, `cat ~/file ${kept}; ls /etc/mine || true`)).toBe(
      'one\nmine\n',
    );
    await cli('project', 'stop', 'e2e');
  });

  test('delete', async () => {
    await finished(await cluster.client.deleteProject({ projectId: project.id }));
    await expect(cluster.client.getProject({ projectId: project.id })).rejects.toMatchObject({
      code: 'PROJECT_UNKNOWN',
    });
  });

  test('the repository knows what the hub does not: its backup is a project again', async () => {
    const cli = async (...argv: string[]): Promise<unknown> => {
      const { exit, stdout, stderr } = await cluster.cli([...argv, '--json']);
      expect({ exit, stderr: exit === 0 ? '' : stderr }).toEqual({ exit: 0, stderr: '' });
      return JSON.parse(stdout);
    };
    const [found] = (await cli('backup', 'list', '--host', source, '--unknown')) as {
      projectId: string;
    }[];
    expect(found).toMatchObject({
      projectId: project.id,
      name: 'e2e',
      state: 'deleted',
      backups: 1,
    });
    const { quota } = project;
    const argv = ['backup', 'restore', 'e2e', '--from', source, '--as', 'found'];
    project = (await cli(...argv)) as ProjectView;
    // A deleted project's id is used up.
    expect(project.id).not.toBe(found?.projectId);
    expect(project).toMatchObject({ name: 'found', host: source, state: 'stopped', quota });
    expect(differences(tree, await treeOn(source))).toEqual([]);
  });
});
