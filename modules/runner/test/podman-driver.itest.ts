import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readdir, readFile, rm, symlink, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GiB, MiB, newId, SystemExec, waitFor } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import type { ContainerSpec } from '@rookery/runner/contract';
import {
  baseImage,
  containerDriverConformance,
  outcome,
  testHost,
  type TestHost,
} from '@rookery/runner/testing';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';
import { blockedStart } from './blocked-start.js';

let volume: TestVolume;
let storage: BtrfsStorageDriver;
let host: TestHost;
let allowed: Server;
let refused: Server;
const exec = new SystemExec();

const listening = async (): Promise<Server> => {
  const server = createServer((_, response) => response.end('host'));
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  return server;
};
const portOf = (server: Server): number => (server.address() as AddressInfo).port;

beforeAll(async () => {
  volume = await loopbackVolume({ sizeBytes: 4 * GiB });
  storage = new BtrfsStorageDriver(
    exec,
    StorageOptions.parse({ volume: volume.volume, btrfsProgram: volume.btrfsProgram }),
  );
  await storage.open();
  [allowed, refused] = [await listening(), await listening()];
  const network = { cidr: '10.214.2.0/24', hostPorts: [portOf(allowed)] };
  host = await testHost({ storage, cidr: network.cidr, driver: { network } });
});

afterAll(async () => {
  await host?.destroy();
  await storage?.close();
  await volume?.destroy();
  allowed?.close();
  refused?.close();
});

async function specOf(projectId: ProjectId, generation = 1): Promise<ContainerSpec> {
  const image = await host.images.ensure(baseImage);
  const { paths } = await storage.createVolume(projectId, { quotaBytes: 1 * GiB });
  const quota = { diskBytes: 1 * GiB, memoryBytes: 256 * MiB, cpus: 1, pidsMax: 100 };
  const { rootPath: imagePath, ref: imageRef, env } = image;
  return { projectId, generation, imagePath, imageRef, volume: paths, quota, env };
}

async function started(change: Partial<ContainerSpec> = {}) {
  const spec = { ...(await specOf(newId())), ...change };
  const { address } = await host.driver.start(spec);
  return { id: spec.projectId, spec, address: address ?? '' };
}

/** Says what the first fork says that is refused, and leaves no process behind that holds the pipe. */
const forkBomb = `
import os, signal
children = []
try:
    for _ in range(200):
        child = os.fork()
        if child == 0: signal.pause()
        children.append(child)
except OSError as error: print(error)
for child in children: os.kill(child, signal.SIGKILL)`;

async function run(projectId: ProjectId, script: string) {
  const command = ['bash', '-c', script];
  return outcome(await host.driver.exec({ projectId, command, env: {} }));
}

describe('the podman driver', () => {
  containerDriverConformance(
    { describe, it, expect },
    {
      driver: () => host.driver,
      specOf,
    },
  );

  describe('in rescue mode', () => {
    const destroy = [
      'echo mine > /etc/mine && echo kept > ~/kept && rm /etc/passwd && mkfifo /etc/passwd',
      'rm -rf /usr/lib',
    ].join(' && ');
    const mend = 'rm /rescue/etc/passwd /rescue/usr/lib && touch /etc/of-rescue';

    it('has a clean root filesystem, and mends the project’s own, which starts again', async () => {
      const { id, spec } = await started();
      expect(await run(id, destroy)).toMatchObject({ exit: 0 });
      await host.driver.stop(id, { graceMs: 0 });
      await expect(host.driver.start(spec)).rejects.toMatchObject({ code: 'ROOTFS_UNUSABLE' });

      expect(await host.driver.start({ ...spec, rescue: true })).toMatchObject({ rescue: true });
      const seen = 'cat ~/kept /rescue/etc/mine && ls /etc/mine 2>&1; stat -c %F /rescue/usr/lib';
      expect((await run(id, seen)).out).toBe(
        "kept\nmine\nls: cannot access '/etc/mine': No such file or directory\ncharacter special file\n",
      );
      expect(await run(id, mend)).toMatchObject({ exit: 0, err: '' });
      const again = await host.reopened();
      expect(await again.list()).toEqual([
        expect.objectContaining({ projectId: id, rescue: true }),
      ]);

      expect(await host.driver.start(spec)).toMatchObject({ rescue: false });
      expect((await run(id, 'cat /etc/mine ~/kept; ls -d /etc/of-rescue /rescue')).out).toBe(
        'mine\nkept\n',
      );
      expect(await readdir(spec.volume.overlay)).toHaveLength(1);
      await host.driver.stop(id, { graceMs: 0 });
    });

    it('begins clean each time, and does not follow what lies in a root filesystem', async () => {
      const { id, spec } = await started({ rescue: true });
      const outside = join(spec.volume.root, 'outside');
      await writeFile(outside, 'untouched');
      expect(await run(id, `ln -s ${outside} /etc/out; ln -s /proc /rescue/etc`)).toMatchObject({
        exit: 0,
      });
      await host.driver.stop(id, { graceMs: 0 });
      const [layer = ''] = (await readdir(spec.volume.overlay)).filter((name) => name !== 'rescue');
      await rm(join(spec.volume.overlay, layer), { recursive: true });
      await symlink(spec.volume.root, join(spec.volume.overlay, layer));
      await expect(host.driver.start({ ...spec, rescue: true })).rejects.toThrow(/not a folder/);
      await unlink(join(spec.volume.overlay, layer));
      await host.driver.start({ ...spec, rescue: true });
      expect((await run(id, 'ls /etc/out /rescue')).out).toBe('/rescue:\n');
      expect(await readFile(outside, 'utf8')).toBe('untouched');
      await host.driver.stop(id, { graceMs: 0 });
    });
  });

  blockedStart(() => ({ host, storage }));

  describe('inside', () => {
    let project: Awaited<ReturnType<typeof started>>;
    beforeAll(async () => {
      project = await started();
    });
    afterAll(async () => host.driver.stop(project.id, { graceMs: 0 }));

    it('keeps root an unprivileged user of the host', async () => {
      const { out } = await run(project.id, 'cat /proc/self/uid_map; touch ~/mine');
      const rootId = await host.driver.rootIdOf(project.id);
      expect(rootId).toBeGreaterThanOrEqual(2 ** 20);
      expect(out.trim().split(/\s+/)).toEqual(['0', String(rootId), '65536']);
      const home = await exec.run(['stat', '-c', '%u', `${project.spec.volume.home}/mine`]);
      expect(home.stdout.trim()).toBe('100000');
    });

    it('lets sudo work for root and for others', async () => {
      const script = 'sudo -n id -u; useradd -m -G sudo ann && sudo -n -u ann sudo -n id -u';
      expect(await run(project.id, script)).toMatchObject({ exit: 0, out: '0\n0\n' });
    });

    it('installs a package, which stays after a restart', async () => {
      const script = [
        'set -e; cd /tmp; mkdir -p p/DEBIAN p/usr/bin',
        String.raw`printf 'Package: greet\nVersion: 1\nArchitecture: all\nMaintainer: x <x@localhost>\nDescription: x\n' >p/DEBIAN/control`,
        String.raw`printf '#!/bin/sh\necho hello\n' >p/usr/bin/greet; chmod +x p/usr/bin/greet`,
        'dpkg-deb --root-owner-group -b p greet.deb >/dev/null',
        'apt-get install -y ./greet.deb >/dev/null; greet',
      ].join('\n');
      expect(await run(project.id, script)).toMatchObject({ exit: 0, out: 'hello\n' });
      await host.driver.stop(project.id, { graceMs: 0 });
      await host.driver.start(project.spec);
      expect(await run(project.id, 'greet')).toMatchObject({ out: 'hello\n' });
    });

    it('has /tmp of its own, scratch, and snapshots that nobody can change', async () => {
      await run(project.id, 'echo one >~/file');
      await storage.createSnapshot(project.id, 'first');
      const script = 'cat ~/.snapshots/first/home/file ~/.snapshots/first/file 2>/dev/null';
      expect((await run(project.id, script)).out).toBe('one\n');
      const write = 'touch ~/.snapshots/x || mv ~/.snapshots ~/y || rmdir ~/.snapshots/first';
      expect((await run(project.id, write)).exit).not.toBe(0);
      const { out } = await run(project.id, 'echo x >/scratch/x && stat -f -c %T /tmp');
      expect(out).toBe('tmpfs\n');
    });

    it('refuses the ioctls that make or change subvolumes', async () => {
      // SNAP_CREATE, SUBVOL_CREATE, SNAP_DESTROY, their second versions, SUBVOL_SETFLAGS; the same
      // with bits above the 32 that the kernel looks at; and one that stays allowed (FICLONE).
      const script = String.raw`
import ctypes, errno, os
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open('/root', os.O_RDONLY)
def call(number):
    ctypes.set_errno(0)
    libc.ioctl(fd, ctypes.c_ulong(number), ctypes.create_string_buffer(4096))
    return errno.errorcode.get(ctypes.get_errno(), 'ok')
denied = [0x50009401, 0x5000940e, 0x5000940f, 0x50009417, 0x50009418, 0x4008941a, 0x5000943f]
print([call(n) for n in denied])
print([call(n | 1 << 32) for n in denied])
print(call(0x40049409), call(0x5413))`;
      const { out } = await outcome(
        await host.driver.exec({
          projectId: project.id,
          command: ['python3', '-c', script],
          env: {},
        }),
      );
      const [plain, high, others] = out.trim().split('\n');
      expect(new Set(plain?.match(/\w+/g))).toEqual(new Set(['ENOSYS']));
      expect(new Set(high?.match(/\w+/g))).toEqual(new Set(['ENOSYS']));
      expect(others).toBe('EBADF ENOTTY');
    });

    it('enforces memory and process limits where the machine can', async () => {
      const { limits } = host.driver.capabilities;
      if (limits.memory) {
        const { exit } = await run(project.id, `python3 -c "x = b'x' * (400 << 20)"`);
        expect(exit).toBe(137);
      }
      if (limits.pids) {
        const { out } = await run(project.id, `python3 -c '${forkBomb}'`);
        expect(out).toContain('Resource temporarily unavailable');
      }
      expect(limits).toEqual({ memory: true, cpu: true, pids: true });
    });

    it('gives a command a terminal with a size that follows the window', async () => {
      const session = await host.driver.exec({
        projectId: project.id,
        command: ['bash', '--norc', '-i'],
        env: { PS1: '> ' },
        tty: { columns: 100, rows: 30 },
      });
      let shown = '';
      session.stdout.on('data', (chunk: Buffer) => (shown += chunk.toString()));
      const shows = (text: string) =>
        waitFor(`the terminal shows ${text}`, () => shown.includes(text), { timeoutMs: 20_000 });
      session.stdin.write('stty size; test -t 0 && echo a-ter""minal\n');
      await shows('30 100');
      await shows('a-terminal');
      session.resize({ columns: 55, rows: 22 });
      await waitFor(
        'the size has changed',
        async () => {
          session.stdin.write('stty size\n');
          return shown.includes('22 55');
        },
        { timeoutMs: 20_000, everyMs: 200 },
      );
      // Ctrl-C reaches the foreground process, not the shell.
      session.stdin.write('sleep 1000\n');
      await shows('sleep 1000');
      session.stdin.write('\u0003');
      // What is typed before the signal arrives is discarded by the terminal.
      await shows('^C');
      session.stdin.write('exit 5\n');
      expect(await session.exit).toBe(5);
    });

    it('runs commands in a folder of home and with an environment', async () => {
      await run(project.id, 'mkdir -p ~/sub');
      const command = ['sh', '-c', 'pwd; echo $COLOR'];
      const input = { projectId: project.id, command, env: { COLOR: 'red' }, cwd: 'sub' };
      expect(await outcome(await host.driver.exec(input))).toMatchObject({
        out: '/root/sub\nred\n',
      });
      const missing = await outcome(await host.driver.exec({ ...input, cwd: 'none' }));
      expect(missing).toMatchObject({ exit: 1 });
    });
  });

  describe('the network', () => {
    it('reaches a service that listens on 127.0.0.1 inside, a low port too', async () => {
      const { id, address } = await started();
      await run(id, 'nohup python3 -m http.server --bind 127.0.0.1 80 >/dev/null 2>&1 &');
      const answer = await waitFor(
        'the service answers',
        () =>
          fetch(`http://${address}/`).then(
            (response) => response.status,
            () => undefined,
          ),
        { timeoutMs: 10_000 },
      );
      expect(answer).toBe(200);
      await host.driver.stop(id, { graceMs: 0 });
    });

    it('refuses other projects, the host and the metadata address, but not conat’s port', async () => {
      const [one, other] = [await started(), await started()];
      await run(other.id, 'nohup python3 -m http.server 8000 >/dev/null 2>&1 &');
      await waitFor(
        'the other’s service answers the host',
        () =>
          fetch(`http://${other.address}:8000/`).then(
            () => true,
            () => undefined,
          ),
        { timeoutMs: 10_000 },
      );
      const dial = async (target: string) =>
        (await run(one.id, `curl -s -m 2 -o /dev/null http://${target}/ && echo reached`)).out;
      const gateway = '10.214.2.1';
      expect(await dial(`${gateway}:${portOf(allowed)}`)).toBe('reached\n');
      expect(await dial(`${gateway}:${portOf(refused)}`)).toBe('');
      expect(await dial(`${other.address}:8000`)).toBe('');
      expect(await dial('169.254.169.254')).toBe('');
      const own = (await exec.run(['hostname', '-I'])).stdout.trim().split(' ')[0] ?? '';
      expect(await dial(`${own}:${portOf(refused)}`)).toBe('');
      expect(await dial(`${own}:${portOf(allowed)}`)).toBe('');
      for (const { id } of [one, other]) await host.driver.stop(id, { graceMs: 0 });
    });

    it('has no privilege over its own network', async () => {
      const { id } = await started();
      const script =
        'ip address add 10.214.2.99/32 dev eth0 || nft list ruleset || ping -c1 -w1 10.214.2.99';
      expect((await run(id, script)).exit).not.toBe(0);
      const raw = `python3 -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"`;
      expect((await run(id, raw)).err).toContain('PermissionError');
      await host.driver.stop(id, { graceMs: 0 });
    });
  });

  describe('over time', () => {
    it('runs services, starts them again, and lets them save their work at a stop', async () => {
      const { id, spec } = await started();
      const service = [
        '#!/bin/bash',
        "trap 'echo saved >~/saved; exit 0' TERM",
        'echo run >>~/runs; echo the service speaks',
        'while :; do sleep 0.1; done',
      ].join('\n');
      await run(
        id,
        `mkdir -p ~/.config/rookery/services; cat >~/s <<'EOF'\n${service}\nEOF
chmod +x ~/s; mv ~/s ~/.config/rookery/services/web; kill -HUP 1`,
      );
      const runs = async (): Promise<number> =>
        (await readFile(`${spec.volume.home}/runs`, 'utf8').catch(() => '')).length / 4;
      await waitFor('the service runs', async () => (await runs()) === 1, { timeoutMs: 10_000 });
      await run(id, 'pkill -KILL -f services/web');
      await waitFor('it runs again', async () => (await runs()) === 2, { timeoutMs: 10_000 });
      await host.driver.stop(id, { graceMs: 10_000 });
      expect(await readFile(`${spec.volume.home}/saved`, 'utf8')).toBe('saved\n');
      const logged: Buffer[] = [];
      const signal = AbortSignal.timeout(10_000);
      for await (const chunk of host.driver.logs(id, { follow: false, signal })) {
        logged.push(chunk as Buffer);
      }
      expect(Buffer.concat(logged).toString()).toContain('the service speaks\n');
    });

    it('kills what does not heed SIGTERM after the grace period', async () => {
      const { id } = await started();
      void run(id, `trap '' TERM HUP; while :; do sleep 1; done`).catch(() => undefined);
      await waitFor('it runs', async () => (await host.driver.stats(id)).pids >= 4, {
        timeoutMs: 10_000,
      });
      const from = performance.now();
      await host.driver.stop(id, { graceMs: 1000 });
      expect(performance.now() - from).toBeGreaterThan(900);
      expect((await host.driver.list()).some(({ projectId }) => projectId === id)).toBe(false);
    });

    it('finds its containers again after its process has died', async () => {
      const { id, address } = await started();
      const again = await host.reopened();
      const status = (await again.list()).find(({ projectId }) => projectId === id);
      expect(status).toMatchObject({ state: 'running', address });
      expect(
        await outcome(await again.exec({ projectId: id, command: ['true'], env: {} })),
      ).toEqual({
        exit: 0,
        out: '',
        err: '',
      });
      await again.stop(id, { graceMs: 0 });
    });

    it('says that a container whose first process was killed has exited', async () => {
      const { id, spec } = await started();
      const pid = (await readFile(`${host.folder}/run/projects/${id}/pid`, 'utf8')).trim();
      process.kill(Number(pid), 'SIGKILL');
      const state = async () =>
        (await host.driver.list()).find(({ projectId }) => projectId === id)?.state;
      await waitFor('it has exited', async () => (await state()) === 'exited', {
        timeoutMs: 10_000,
      });
      await host.driver.start(spec);
      expect(await state()).toBe('running');
      await host.driver.stop(id, { graceMs: 0 });
    });

    it('leaves nothing behind when a start fails', async () => {
      const spec = await specOf(newId());
      const broken = { ...spec, imagePath: '/nowhere/at/all' };
      await expect(host.driver.start(broken)).rejects.toMatchObject({
        code: 'CONTAINER_START_FAILED',
      });
      const mounts = await readFile('/proc/self/mountinfo', 'utf8');
      expect(mounts).not.toContain(spec.projectId);
      expect(await host.driver.removeStrays([])).not.toContain(spec.projectId);
    });
  });
});
