import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { createServer as createNetServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GiB, MiB, newId, SystemExec, waitFor, type SpawnedProcess } from '@rookery/core';
import type { Progress } from '@rookery/core/contract';
import { outcome, testHost, type TestHost } from '@rookery/runner/testing';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const exec = new SystemExec();
let volume: TestVolume;
let storage: BtrfsStorageDriver;
let folder: string;
let registry: SpawnedProcess;
let registryHost: string;
let guarded: Server;
let guardedHost: string;
let closedHost: string;
const hosts: TestHost[] = [];

async function freePort(): Promise<number> {
  const server = createNetServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A host over the shared volume, with the test's registries and more options. */
async function host(images: Parameters<typeof testHost>[0]['images'] = {}): Promise<TestHost> {
  const made = await testHost({
    storage,
    cidr: `10.214.${10 + hosts.length}.0/24`,
    images: {
      registries: Object.fromEntries(
        [registryHost, guardedHost, closedHost].map((name) => [name, { insecure: true }]),
      ),
      ...images,
    },
  });
  hosts.push(made);
  return made;
}

/** A root filesystem of a few files: busybox, a setuid program, a device, a hard link. */
async function smallRootfs(): Promise<string> {
  const root = join(folder, 'rootfs');
  await mkdir(join(root, 'bin'), { recursive: true });
  await mkdir(join(root, 'dev'));
  await exec.run(['cp', '/var/cache/rookery/tools/bin/busybox', join(root, 'bin/busybox')]);
  await symlink('busybox', join(root, 'bin/sh'));
  // A folder that podman mounts on, as a link that leads out.
  await symlink('/tmp', join(root, 'opt'));
  await exec.run(['cp', join(root, 'bin/busybox'), join(root, 'bin/su')]);
  await exec.run(['chmod', '4755', join(root, 'bin/su')]);
  await exec.run(['ln', join(root, 'bin/su'), join(root, 'bin/su-too')]);
  await exec.run(['chown', '1000:1000', join(root, 'bin/busybox')]);
  await exec
    .run(['setcap', 'cap_net_bind_service=ep', join(root, 'bin/busybox')])
    .catch(() => null);
  const tar = join(folder, 'rootfs.tar');
  await exec.run(['tar', '--create', '--xattrs', '--file', tar, '--directory', root, '.']);
  return tar;
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-images-'));
  volume = await loopbackVolume({ sizeBytes: 2 * GiB });
  storage = new BtrfsStorageDriver(
    exec,
    StorageOptions.parse({ volume: volume.volume, btrfsProgram: volume.btrfsProgram }),
  );
  await storage.open();
  registryHost = `127.0.0.1:${await freePort()}`;
  closedHost = `127.0.0.1:${await freePort()}`;
  guarded = createServer((_, response) => response.writeHead(401).end('{}'));
  await new Promise<void>((resolve) => guarded.listen(0, '127.0.0.1', resolve));
  guardedHost = `127.0.0.1:${(guarded.address() as AddressInfo).port}`;
  const config = join(folder, 'registry.yml');
  await writeFile(
    config,
    `version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: ${folder}/registry\nhttp:\n  addr: ${registryHost}\n`,
  );
  registry = exec.spawn(['docker-registry', 'serve', config]);
  registry.stdout.resume();
  await waitFor(
    'the registry answers',
    () =>
      fetch(`http://${registryHost}/v2/`).then(
        (answer) => answer.ok,
        () => false,
      ),
    { timeoutMs: 20_000 },
  );
  const pusher = await host();
  const { podman } = pusher.driver;
  const tar = await smallRootfs();
  const change = ['--change', 'ENV COLOR=green', '--change', 'ENV PATH=/bin'];
  const { stdout } = await podman.run(['import', ...change, tar, 'small:1']);
  const image = stdout.trim();
  await podman.run(['push', '--tls-verify=false', image, `${registryHost}/small:1`]);
  await podman.run([
    'save',
    '--format',
    'oci-archive',
    '--output',
    join(folder, 'small.oci'),
    image,
  ]);
  await podman.run(['save', '--format', 'oci-dir', '--output', join(folder, 'small.dir'), image]);
  await podman.run(['rmi', '--all', '--force']);
});

afterAll(async () => {
  for (const made of hosts) await made.destroy();
  registry?.kill('SIGKILL');
  await registry?.ended;
  guarded?.close();
  await storage?.close();
  await volume?.destroy();
  await rm(folder, { recursive: true, force: true });
});

describe('the image store', () => {
  it('pulls an image once for all who ask, unpacks it with its owners, and runs it', async () => {
    const one = await host();
    const seen: Progress[] = [];
    const onProgress = (progress: Progress) => void seen.push(progress);
    const ref = `${registryHost}/small:1`;
    const [image, same] = await Promise.all([
      one.images.ensure(ref, { onProgress }),
      one.images.ensure(ref),
    ]);
    expect(same).toEqual(image);
    expect(image).toMatchObject({ ref, env: { COLOR: 'green', PATH: '/bin' } });
    expect(seen.some(({ step }) => step === 'extract')).toBe(true);
    const busybox = await stat(join(image.rootPath, 'bin/busybox'));
    expect([busybox.uid, busybox.gid]).toEqual([101_000, 101_000]);
    const su = await stat(join(image.rootPath, 'bin/su'));
    expect([su.uid, su.mode & 0o7777, su.nlink]).toEqual([100_000, 0o4755, 2]);
    expect(await readdir(join(image.rootPath, 'proc'))).toEqual([]);
    // podman keeps no copy.
    expect((await one.driver.podman.run(['images', '--quiet'])).stdout).toBe('');

    const id = newId();
    const { paths } = await storage.createVolume(id, { quotaBytes: 100 * MiB });
    const quota = { diskBytes: 100 * MiB, memoryBytes: 64 * MiB, cpus: 1, pidsMax: 64 };
    const { rootPath: imagePath, ref: imageRef, env } = image;
    await one.driver.start({
      projectId: id,
      generation: 1,
      imagePath,
      imageRef,
      volume: paths,
      quota,
      env,
    });
    const command = ['sh', '-c', 'echo $COLOR; busybox id -u'];
    const session = await one.driver.exec({ projectId: id, command, env: {} });
    expect(await outcome(session)).toMatchObject({ exit: 0, out: 'green\n0\n' });
    await one.driver.stop(id, { graceMs: 0 });
  });

  it('asks no registry for a digest that is here', async () => {
    const one = await host();
    const ref = `${registryHost}/small:1`;
    const { digest } = await one.images.ensure(ref);
    expect(await one.images.ensure(`${closedHost}/small:1`, { digest })).toMatchObject({ digest });
  });

  it('takes an OCI archive and a folder from where the operator allows it', async () => {
    const one = await host({ localImageDirs: [folder] });
    for (const ref of [`oci-archive:${folder}/small.oci`, `dir:${folder}/small.dir`]) {
      if (ref.startsWith('dir:')) {
        // podman's `dir:` is its own layout, not the OCI one.
        await one.driver.podman.run(['pull', '--quiet', `oci-archive:${folder}/small.oci`]);
        const { stdout } = await one.driver.podman.run(['images', '--quiet']);
        await rm(join(folder, 'small.dir'), { recursive: true });
        await one.driver.podman.run(['push', stdout.trim(), ref]);
        await one.driver.podman.run(['rmi', '--all', '--force']);
      }
      const image = await one.images.ensure(ref);
      expect(image).toMatchObject({ ref, env: { COLOR: 'green' } });
      expect(image.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    }
    const elsewhere = await host();
    await expect(elsewhere.images.ensure(`oci-archive:${folder}/small.oci`)).rejects.toMatchObject({
      code: 'IMAGE_NOT_ALLOWED',
    });
    await symlink('/etc', join(folder, 'out'));
    await expect(one.images.ensure(`dir:${folder}/out`)).rejects.toMatchObject({
      code: 'IMAGE_NOT_ALLOWED',
    });
    await expect(one.images.ensure(`dir:${folder}/none`)).rejects.toMatchObject({
      code: 'IMAGE_UNKNOWN',
    });
    await writeFile(join(folder, 'broken.oci'), 'not an archive');
    await expect(one.images.ensure(`oci-archive:${folder}/broken.oci`)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
    });
  });

  it('has a code for every way in which an image cannot be had', async () => {
    const one = await host({ allowedImages: ['127.0.0.1:*'] });
    const codeOf = (ref: string) =>
      one.images.ensure(ref).then(
        () => 'none',
        (error: { code: string }) => error.code,
      );
    expect(await codeOf(`${registryHost}/none:1`)).toBe('IMAGE_UNKNOWN');
    expect(await codeOf(`${registryHost}/small:2`)).toBe('IMAGE_UNKNOWN');
    expect(await codeOf(`${guardedHost}/small:1`)).toBe('IMAGE_DENIED');
    expect(await codeOf(`${closedHost}/small:1`)).toBe('REGISTRY_UNREACHABLE');
    expect(await codeOf('docker.io/library/debian:13')).toBe('IMAGE_NOT_ALLOWED');
    expect(await codeOf('Nonsense!')).toBe('IMAGE_INVALID');
  });

  it('refuses an image that is too large, in the registry, in an archive and in a tar', async () => {
    await storage.deleteImage(await digestOfSmall());
    const tar = join(folder, 'rootfs.tar');
    const one = await host({
      imageBytesMax: MiB,
      localImageDirs: [folder],
      localImages: { 'localhost/small:1': tar },
    });
    for (const ref of [
      `${registryHost}/small:1`,
      `oci-archive:${folder}/small.oci`,
      'localhost/small:1',
    ]) {
      await expect(one.images.ensure(ref)).rejects.toMatchObject({ code: 'IMAGE_TOO_LARGE' });
    }
    expect((await readdir(join(volume.volume, 'images'))).join()).not.toContain('staging');
  });

  it('deletes what nobody has used for longest, one at a time and only where room is short', async () => {
    for (const digest of await storage.listImages()) await storage.deleteImage(digest);
    const put = async (letter: string): Promise<string> => {
      await using staged = await storage.stageImage();
      const digest = `sha256:${letter.repeat(64)}`;
      await staged.commit(digest);
      return digest;
    };
    const [a, b, c] = [await put('a'), await put('b'), await put('c')];
    const short = { unusedMs: 0, freePart: 1 };
    const roomy = await host({ collect: { unusedMs: 0, freePart: 0 } });
    expect(await roomy.images.collect(new Set())).toBeUndefined();
    const recent = await host({ collect: { ...short, unusedMs: 60_000 } });
    expect(await recent.images.collect(new Set())).toBeUndefined();
    expect(await storage.listImages()).toEqual([a, b, c]);

    const records = join(folder, 'collected');
    const used = { [a]: Date.now() - 2000, [b]: Date.now() - 3000, [c]: Date.now() - 1000 };
    await mkdir(records, { recursive: true });
    await writeFile(join(records, 'images.json'), JSON.stringify({ used }));
    const one = await host({ collect: short, stateDir: records });
    expect(await one.images.collect(new Set([b]))).toBe(a);
    expect(await one.images.collect(new Set([b]))).toBe(c);
    expect(await one.images.collect(new Set([b]))).toBeUndefined();
    expect(await storage.listImages()).toEqual([b]);
    expect(await one.images.collect(new Set())).toBe(b);
  });

  it('uses the fallback image and says why', async () => {
    const tar = join(folder, 'rootfs.tar');
    const one = await host({
      localImages: { 'localhost/small:1': tar },
      fallbackImage: 'localhost/small:1',
    });
    const image = await one.images.ensure(`${closedHost}/small:1`);
    expect(image).toMatchObject({ ref: 'localhost/small:1' });
    expect(image.fallbackFor?.code).toBe('REGISTRY_UNREACHABLE');
    await expect(one.images.ensure('Nonsense!')).rejects.toMatchObject({ code: 'IMAGE_INVALID' });
  });

  it('refuses a tar that is cut short and leaves nothing of it', async () => {
    const cut = join(folder, 'cut.tar');
    await writeFile(cut, (await readFile(join(folder, 'rootfs.tar'))).subarray(0, 700_000));
    const one = await host({ localImages: { 'localhost/cut:1': cut } });
    await expect(one.images.ensure('localhost/cut:1')).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
    });
    expect((await readdir(join(volume.volume, 'images'))).join()).not.toContain('staging');
  });

  it('drops what a process that died in the middle of a pull has left', async () => {
    const one = await host();
    await one.driver.podman.run(['pull', '--quiet', `oci-archive:${folder}/small.oci`]);
    await writeFile(join(one.folder, 'images/pulling'), '');
    await one.images.open();
    expect((await one.driver.podman.run(['images', '--quiet'])).stdout).toBe('');
  });

  it('serves a tag as it was known while its registry is away', async () => {
    const one = await host();
    const image = await one.images.ensure(`${registryHost}/small:1`);
    registry.kill('SIGKILL');
    await registry.ended;
    expect(await one.images.ensure(`${registryHost}/small:1`)).toEqual(image);
    await expect(one.images.ensure(`${registryHost}/small:2`)).rejects.toMatchObject({
      code: 'REGISTRY_UNREACHABLE',
    });
  });
});

async function digestOfSmall(): Promise<string> {
  const answer = await fetch(`http://${registryHost}/v2/small/manifests/1`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  return answer.headers.get('docker-content-digest') ?? '';
}
