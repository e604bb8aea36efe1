import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  chmod,
  chown,
  copyFile,
  mkdir,
  readFile,
  readdir,
  stat,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { GiB, MiB, newId, SystemExec, type ExecOptions, type SpawnOptions } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import type { ContainerSpec } from '@rookery/runner/contract';
import { baseImage, outcome, testHost, type TestHost } from '@rookery/runner/testing';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const size = 65_536;
// setpriv itself still has root's capabilities when it looks its command up: env has none.
const nobody = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', 'env'];

/** Keeps what every user of the machine can see of a command: its arguments. */
class RecordedExec extends SystemExec {
  readonly seen: string[] = [];
  override run(argv: readonly string[], options?: ExecOptions) {
    this.seen.push(argv.join(' '));
    return super.run(argv, options);
  }
  override spawn(argv: readonly string[], options?: SpawnOptions) {
    this.seen.push(argv.join(' '));
    return super.spawn(argv, options);
  }
}

const exec = new RecordedExec();
let volume: TestVolume;
let storage: BtrfsStorageDriver;
let host: TestHost;

beforeAll(async () => {
  volume = await loopbackVolume({ sizeBytes: 4 * GiB });
  storage = new BtrfsStorageDriver(
    exec,
    StorageOptions.parse({ volume: volume.volume, btrfsProgram: volume.btrfsProgram }),
  );
  await storage.open();
  const driver = { volumeDir: volume.volume };
  host = await testHost({ storage, cidr: '10.214.9.0/24', driver, exec });
  // What these tests' own temporary folders would hide is not what they are about.
  await chmod(host.folder, 0o755);
  await chmod(dirname(volume.volume), 0o755);
});

afterAll(async () => {
  await host?.destroy();
  await storage?.close();
  await volume?.destroy();
});

async function specOf(change: Partial<ContainerSpec> = {}): Promise<ContainerSpec> {
  const projectId = newId();
  const { rootPath: imagePath, ref: imageRef, env } = await host.images.ensure(baseImage);
  const { paths } = await storage.createVolume(projectId, { quotaBytes: 1 * GiB });
  const quota = { diskBytes: 1 * GiB, memoryBytes: 256 * MiB, cpus: 1, pidsMax: 100 };
  return { projectId, generation: 1, imagePath, imageRef, volume: paths, quota, env, ...change };
}

async function started(change: Partial<ContainerSpec> = {}) {
  const spec = await specOf(change);
  await host.driver.start(spec);
  return { id: spec.projectId, spec };
}

async function run(projectId: ProjectId, script: string, env: Record<string, string> = {}) {
  return outcome(await host.driver.exec({ projectId, command: ['bash', '-c', script], env }));
}

async function rootOnHost(id: ProjectId): Promise<number> {
  const pid = (await readFile(join(host.folder, 'run/projects', id, 'pid'), 'utf8')).trim();
  return Number((await readFile(`/proc/${pid}/uid_map`, 'utf8')).trim().split(/\s+/)[1]);
}

const mountTable = () => readFile('/proc/self/mountinfo', 'utf8');

describe('two projects on one host', () => {
  let one: Awaited<ReturnType<typeof started>>;
  let other: Awaited<ReturnType<typeof started>>;
  beforeAll(async () => {
    one = await started();
    other = await started();
  });
  afterAll(async () => {
    for (const { id } of [one, other]) await host.driver.stop(id, { graceMs: 0 });
  });

  it('run as users that do not overlap', async () => {
    expect(host.driver.capabilities.isolation).toEqual({ kind: 'idmapped' });
    const [first, second] = [await rootOnHost(one.id), await rootOnHost(other.id)];
    expect(Math.abs(first - second)).toBeGreaterThanOrEqual(size);
    expect(await host.driver.rootIdOf(one.id)).toBe(first);
  });

  it('keep their files’ owners the same on disk, and see their own ids', async () => {
    const script = `cd ~; touch roots; touch users; chown 1000:1000 users; touch /scratch/s /usr/u;
      chown 1000:1000 /usr/u; stat -c %u roots users /scratch/s /usr/u /usr/bin`;
    for (const { id, spec } of [one, other]) {
      expect((await run(id, script)).out.split('\n').slice(0, 5)).toEqual([
        '0',
        '1000',
        '0',
        '1000',
        '0',
      ]);
      const owner = async (path: string) => (await stat(path)).uid;
      expect(await owner(join(spec.volume.home, 'roots'))).toBe(100_000);
      expect(await owner(join(spec.volume.home, 'users'))).toBe(101_000);
      expect(await owner(join(spec.volume.scratch, 's'))).toBe(100_000);
      const [layer = ''] = await readdir(spec.volume.overlay);
      expect(await owner(join(spec.volume.overlay, layer, 'upper/usr/u'))).toBe(101_000);
    }
  });

  it('let setuid programs work inside, and show none of them to the host', async () => {
    const script = `cp /usr/bin/id /usr/local/i; chmod 4755 /usr/local/i
      setpriv --reuid 1000 --clear-groups /usr/local/i -u`;
    expect((await run(one.id, script)).out).toBe('0\n');
    const { home, scratch, overlay } = one.spec.volume;
    const [layer = ''] = await readdir(overlay);
    for (const folder of [home, scratch, join(overlay, layer, 'upper/usr/local')]) {
      const file = join(folder, 'suid');
      await copyFile('/usr/bin/id', file);
      await chown(file, 100_000, 100_000);
      await chmod(file, 0o4755);
      // By a way in that no folder's mode bars: the mount alone has to see to it.
      const inside = await exec.run([...nobody, './suid', '-u'], { cwd: folder });
      expect(inside.stdout).toBe('65534\n');
      await expect(exec.run([...nobody, file, '-u'])).rejects.toMatchObject({
        code: 'COMMAND_FAILED',
      });
    }
  });

  it('leave nothing among the host’s mounts, and no folder that a local user can enter', async () => {
    const mounts = (await mountTable()).split('\n').filter((line) => line.includes(host.folder));
    expect(mounts).toEqual([]);
    const roots = [host.folder, dirname(volume.volume)];
    for (const root of roots) {
      const find = [...nobody, 'find', root, '-mindepth', '2'];
      expect((await exec.run(find, { okExits: [0, 1] })).stdout).toBe('');
    }
    const paths = Object.values(one.spec.volume);
    for (const path of [...paths, join(host.folder, 'run/projects'), one.spec.imagePath]) {
      await expect(exec.run([...nobody, 'stat', path])).rejects.toMatchObject({
        code: 'COMMAND_FAILED',
      });
    }
  });

  it('keep their ids when they start again, and lose them when they are forgotten', async () => {
    const before = await rootOnHost(one.id);
    await host.driver.stop(one.id, { graceMs: 0 });
    await host.driver.start(one.spec);
    expect(await rootOnHost(one.id)).toBe(before);
    expect(await host.driver.known()).toContain(one.id);
    const logs = join(host.folder, 'state/logs');
    // An earlier release has kept logs of projects that are long gone.
    const gone = newId();
    await writeFile(join(logs, `${gone}.log`), 'old');
    expect(await host.driver.known()).toContain(gone);
    expect(await readdir(logs)).toContain(`${one.id}.log`);
    for (const id of [one.id, gone]) await host.driver.forget(id, { graceMs: 0 });
    const known = await host.driver.known();
    for (const id of [one.id, gone]) expect(known).not.toContain(id);
    const kept = await readdir(logs);
    for (const id of [one.id, gone]) expect(kept).not.toContain(`${id}.log`);
    one = await started();
    expect(await rootOnHost(one.id)).toBe(before);
  });
});

describe('a container', () => {
  it('gets its environment, and its commands theirs, without showing it to the host', async () => {
    const [secret, password] = [newId(), `${newId()}\nwith "two" lines & \\more|`];
    exec.seen.length = 0;
    const { id } = await started({
      env: { SECRET: secret, PASSWORD: password, PATH: '/usr/bin:/bin' },
    });
    const script = 'printf %s "$SECRET,$PASSWORD,$PATH,$HOME,$TOKEN"';
    const token = newId();
    const { out } = await run(id, script, { TOKEN: token });
    expect(out).toBe(`${secret},${password},/usr/bin:/bin,/root,${token}`);
    expect((await run(id, "tr '\\0' '\\n' </proc/1/environ")).out).toContain(`SECRET=${secret}`);
    const seen = exec.seen.join('\n');
    for (const hidden of [secret, password.slice(0, 36), token]) expect(seen).not.toContain(hidden);
    await host.driver.stop(id, { graceMs: 0 });
  });

  it('reads what is its own root’s in its run folder', async () => {
    const spec = await specOf();
    const runFolder = join(host.folder, 'token');
    await mkdir(runFolder, { mode: 0o755 });
    const rootId = await host.driver.rootIdOf(spec.projectId);
    await writeFile(join(runFolder, 'key'), 'mine', { mode: 0o600 });
    await chown(join(runFolder, 'key'), rootId, rootId);
    await host.driver.start({ ...spec, runFolder });
    expect((await run(spec.projectId, 'cat /run/rookery/key')).out).toBe('mine');
    await host.driver.stop(spec.projectId, { graceMs: 0 });
  });
});

describe('a root filesystem that would hold a start up', () => {
  it.each([
    ['a pipe', 'rm /etc/passwd; mkfifo /etc/passwd', 'a pipe'],
    ['a link to a pipe in home', 'mkfifo ~/p; ln -sf ../root/p /etc/group', 'a pipe'],
    ['a chain of links', 'mkdir /e; mkfifo /e/g; ln -s e /f; ln -sf ../f/g /etc/group', 'a pipe'],
    ['a link to what the kernel has', 'ln -sf /proc/self/fd/0 /etc/passwd', 'a link to /proc'],
    ['a circle', 'ln -sf passwd /etc/passwd', 'a circle of links'],
  ])('is refused at once, and nobody else waits: %s', async (_, script, reason) => {
    const { id, spec } = await started();
    await run(id, `cd /; ${script}`);
    await host.driver.stop(id, { graceMs: 0 });
    const from = performance.now();
    await expect(host.driver.start(spec)).rejects.toMatchObject({
      code: 'ROOTFS_UNUSABLE',
      details: { reason },
    });
    const left = (await host.driver.list()).map(({ projectId }) => projectId);
    expect(left).not.toContain(id);
    expect(performance.now() - from).toBeLessThan(15_000);
  });

  it('is none when its files are links to files, or missing', async () => {
    const { id, spec } = await started();
    await run(id, 'cd /etc; mv passwd ~/p; ln -s /root/p passwd; rm group');
    await host.driver.stop(id, { graceMs: 0 });
    await host.driver.start(spec);
    expect((await run(id, 'id -un')).out).toBe('root\n');
    await host.driver.stop(id, { graceMs: 0 });
  });
});

describe('a machine whose file system cannot map owners', () => {
  it('says so and runs containers in one range', async () => {
    await using poor = await testHost({
      storage,
      cidr: '10.214.10.0/24',
      driver: { volumeDir: '/proc' },
    });
    expect(poor.driver.capabilities.isolation).toMatchObject({
      kind: 'shared',
      reason: expect.stringContaining('mount_setattr'),
    });
    const spec = await specOf();
    await poor.driver.start(spec);
    expect(await poor.driver.rootIdOf(spec.projectId)).toBe(100_000);
    const command = ['bash', '-c', 'touch ~/f && stat -c %u ~/f && grep -c . /etc/passwd'];
    const { exit } = await outcome(
      await poor.driver.exec({ projectId: spec.projectId, command, env: {} }),
    );
    expect(exit).toBe(0);
    await poor.driver.stop(spec.projectId, { graceMs: 0 });
  });
});
