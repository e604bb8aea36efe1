import { randomBytes } from 'node:crypto';
import {
  link,
  mkdir,
  open,
  readdir,
  readFile,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { CodedError, MiB, newId, SystemExec, waitFor } from '@rookery/core';
import { diffManifests, manifestOf, writeXattr } from '@rookery/core/testing';
import { landingItem } from '@rookery/fleet/contract';
import { moveProject, newSagaRecord, SagaExecutor } from '@rookery/move';
import { MemorySagaStore } from '@rookery/move/testing';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';
import type { VolumePaths } from '@rookery/storage/contract';
import { TwoHosts, type Wrap } from './two-hosts.js';

const exec = new SystemExec();
const volumes: TestVolume[] = [];
let one: { driver: BtrfsStorageDriver };
let other: { driver: BtrfsStorageDriver };
let small: { driver: BtrfsStorageDriver };

async function opened(sizeBytes: number): Promise<{ driver: BtrfsStorageDriver }> {
  const made = await loopbackVolume({ sizeBytes });
  volumes.push(made);
  const { volume, btrfsProgram } = made;
  const options = StorageOptions.parse({
    volume,
    btrfsProgram,
    minFreeBytes: 0,
    reconcileGraceMs: 0,
  });
  const driver = new BtrfsStorageDriver(exec, options);
  await driver.open();
  return { driver };
}

beforeAll(async () => {
  one = await opened(1024 * MiB);
  other = await opened(1024 * MiB);
  small = await opened(256 * MiB);
}, 60_000);

afterAll(async () => {
  for (const volume of volumes) await volume.destroy();
}, 60_000);

type Hosts = TwoHosts<{ driver: BtrfsStorageDriver }>;

/** A running project with everything that is easily lost on the way. */
async function project(hosts: Hosts): Promise<VolumePaths> {
  const { driver } = hosts.from.storage;
  const { diskBytes } = hosts.spec.quota;
  const { paths } = await driver.createVolume(hosts.projectId, { quotaBytes: diskBytes });
  const { home, overlay, persistence } = paths;
  await writeFile(join(home, 'first'), 'first');
  await driver.createSnapshot(hosts.projectId, 'monday');
  await writeFile(join(home, 'data'), randomBytes(8 * MiB));
  await link(join(home, 'data'), join(home, 'hard-link'));
  await symlink('/etc/../data', join(home, 'symlink'));
  await writeFile(join(home, 'sparse'), 'start');
  await truncate(join(home, 'sparse'), 8 * MiB);
  await mkdir(join(home, 'folder'), { mode: 0o2750 });
  for (let n = 0; n < 100; n += 1) await writeFile(join(home, 'folder', `${n}`), `${n}`);
  writeXattr(join(home, 'first'), 'user.note', 'kept');
  await utimes(join(home, 'first'), 1e9, 1e9 + 0.5);
  await mkdir(join(overlay, 'image', 'opaque'), { recursive: true });
  writeXattr(join(overlay, 'image', 'opaque'), 'trusted.overlay.opaque', 'y');
  await exec.run(['mknod', join(overlay, 'image', 'whiteout'), 'c', '0', '0']);
  await exec.run(['chown', '100007:100008', join(home, 'folder', '7')]);
  await exec.run(['chmod', '4755', join(home, 'folder', '7')]);
  await driver.createSnapshot(hosts.projectId, 'tuesday');
  await driver.setSnapshotLocked(hosts.projectId, 'tuesday', true);
  await writeFile(join(home, 'folder', '3'), 'changed after tuesday');
  await writeFile(join(persistence, 'stream.sqlite'), randomBytes(MiB));
  await hosts.start();
  return paths;
}

async function everything(paths: VolumePaths) {
  return {
    home: await manifestOf(paths.home),
    overlay: await manifestOf(paths.overlay),
    persistence: await manifestOf(paths.persistence),
    monday: await manifestOf(join(paths.snapshots, 'monday', 'home')),
    tuesday: await manifestOf(join(paths.snapshots, 'tuesday', 'home')),
  };
}

async function expectSame(
  before: Awaited<ReturnType<typeof everything>>,
  paths: VolumePaths,
): Promise<void> {
  const after = await everything(paths);
  for (const part of ['home', 'overlay', 'persistence', 'monday', 'tuesday'] as const) {
    expect(diffManifests(before[part], after[part])).toEqual([]);
  }
}

/** No orphan: what no row claims, the storage reconciler would find. */
async function expectClean(hosts: Hosts, owner: 'from' | 'to'): Promise<void> {
  for (const side of ['from', 'to'] as const) {
    const { driver } = hosts[side].storage;
    expect(await driver.listLanding(hosts.moveId)).toEqual([]);
    const there = await driver.volume(hosts.projectId);
    expect(there !== undefined).toBe(side === owner);
    if (there) expect(await driver.listTemporarySnapshots(hosts.projectId)).toEqual([]);
    expect(hosts[side].gate.held.size).toBe(0);
    const { root } = there?.paths ?? { root: '' };
    if (there) expect(await readdir(root)).toEqual(expect.arrayContaining(['home', '.snapshots']));
  }
}

function run(hosts: Hosts, input = hosts.input) {
  const store = new MemorySagaStore();
  const operationId = newId();
  store.create(newSagaRecord(moveProject, { operationId, input }));
  const fast = { firstMs: 10, maxMs: 20, attempts: 3 };
  const executor = new SagaExecutor({ store, retry: fast, mustRetry: fast });
  const ports = { authority: hosts.authority, hosts, debts: hosts.debts, images: hosts.images };
  return executor.run(moveProject, ports, store.claim(operationId));
}

async function image(hosts: Hosts, side: 'from' | 'to' = 'from'): Promise<void> {
  await using staged = await hosts[side].storage.driver.stageImage();
  await writeFile(join(staged.path, 'os-release'), 'Rookery test image');
  await staged.commit(hosts.spec.imageDigest);
}

describe('moving a project between two btrfs volumes', () => {
  it('carries files, snapshots, persistence, image and quota, there and back', async () => {
    const hosts: Hosts = new TwoHosts(one, other, { deltaBytesGoal: 0 });
    await image(hosts);
    const paths = await project(hosts);
    const taken = await hosts.from.storage.driver.listSnapshots(hosts.projectId);
    // What is fsynced while it runs must arrive.
    let written = 0;
    const writes: Promise<void>[] = [];
    hosts.onCall = () => {
      if (!hosts.from.projects.running.has(hosts.projectId)) return;
      written += 1;
      writes.push(fsynced(join(paths.home, `promised-${written}`)));
    };
    const stop = hosts.from.projects.stopContainer.bind(hosts.from.projects);
    let before: Awaited<ReturnType<typeof everything>> | undefined;
    hosts.from.projects.stopContainer = async (id) => {
      await stop(id);
      await Promise.all(writes);
      before = await everything(paths);
    };
    const outcome = await run(hosts);
    expect(outcome).toMatchObject({ status: 'succeeded', result: { overQuota: false } });
    const there = await hosts.to.storage.driver.volume(hosts.projectId);
    expect(written).toBeGreaterThan(2);
    await expectSame(before!, there!.paths);
    const snapshots = await hosts.to.storage.driver.listSnapshots(hosts.projectId);
    expect(snapshots.map(({ name, locked, createdAt }) => [name, locked, createdAt])).toEqual([
      ['monday', false, taken[0]?.createdAt],
      ['tuesday', true, taken[1]?.createdAt],
    ]);
    const { usedBytes, limitBytes } = await hosts.to.storage.driver.usage(hosts.projectId);
    expect(limitBytes).toBe(hosts.spec.quota.diskBytes);
    expect(usedBytes).toBeGreaterThan(8 * MiB);
    expect(await hosts.to.storage.driver.imagePath(hosts.spec.imageDigest)).toBeDefined();
    expect(hosts.to.projects.running.has(hosts.projectId)).toBe(true);
    await expectClean(hosts, 'to');

    // And back: its snapshots were received, which changes the UUIDs that a stream names.
    hosts.onCall = () => undefined;
    await hosts.to.storage.driver.createSnapshot(hosts.projectId, 'wednesday');
    const moveId = newId();
    hosts.plan(moveId, hosts.to, hosts.from, 2);
    const back = await run(hosts, {
      moveId,
      projectId: hosts.projectId,
      fromHostId: hosts.to.hostId,
      toHostId: hosts.from.hostId,
    });
    expect(back).toMatchObject({ status: 'succeeded', result: { generation: 3 } });
    const home = await hosts.from.storage.driver.volume(hosts.projectId);
    await expectSame(before!, home!.paths);
    expect(
      (await hosts.from.storage.driver.listSnapshots(hosts.projectId)).map(({ name }) => name),
    ).toEqual(['monday', 'tuesday', 'wednesday']);
    await expectClean(hosts, 'from');
    await hosts.from.storage.driver.deleteVolume(hosts.projectId);
  });

  it('takes no image whose content is not what the hub knows of it', async () => {
    const hosts: Hosts = new TwoHosts(one, other);
    const { imageDigest } = hosts.spec;
    for (const { storage } of [hosts.from, hosts.to]) await storage.driver.deleteImage(imageDigest);
    await image(hosts);
    hosts.images.trees.set(imageDigest, (await one.driver.imageTree(imageDigest)) ?? '');
    // Somebody replaces one file on the source, and leaves it its size and times.
    const lying = (await one.driver.imagePath(imageDigest)) ?? '';
    await exec.run(['btrfs', 'property', 'set', lying, 'ro', 'false']);
    await writeFile(join(lying, 'os-release'), 'Rookery evil image');
    await exec.run(['btrfs', 'property', 'set', lying, 'ro', 'true']);
    const paths = await project(hosts);
    const before = await everything(paths);
    const outcome = await run(hosts);
    expect(outcome).toMatchObject({ status: 'failed', error: { code: 'MOVE_IMAGE_REFUSED' } });
    expect(await other.driver.imagePath(imageDigest)).toBeUndefined();
    expect(await other.driver.listImages()).not.toContain(imageDigest);
    expect(await readdir(join(volumes[1]!.volume, 'images'))).toEqual([]);
    await expectSame(before, paths);
    expect(hosts.from.projects.running.has(hosts.projectId)).toBe(true);
    await expectClean(hosts, 'from');

    // A destination that can fetch the image needs none of the source's.
    hosts.to.fetchImage = () => image(hosts, 'to');
    const moveId = newId();
    hosts.plan(moveId);
    expect(await run(hosts, { ...hosts.input, moveId })).toMatchObject({ status: 'succeeded' });
    const taken = (await other.driver.imagePath(imageDigest)) ?? '';
    expect(await readFile(join(taken, 'os-release'), 'utf8')).toBe('Rookery test image');
    await hosts.to.storage.driver.deleteVolume(hosts.projectId);
    for (const { storage } of [hosts.from, hosts.to]) await storage.driver.deleteImage(imageDigest);
  });

  it('reads an image once that two moves bring at the same time', async () => {
    const hosts: Hosts = new TwoHosts(one, other);
    const digest = hosts.spec.imageDigest;
    await image(hosts);
    const treeDigest = (await one.driver.imageTree(digest)) ?? '';
    const moves = [newId(), newId()];
    const item = landingItem({ kind: 'image', name: digest });
    for (const moveId of moves) {
      await other.driver.prepareLanding(moveId, newId());
      await other.driver.receive(one.driver.send({ kind: 'image', digest }), { moveId, item });
    }
    let threads = 0;
    const count = (): void => void (threads += 1);
    subscribe('worker_threads', count);
    try {
      const adopt = (moveId: string) =>
        other.driver.adoptImage({ moveId, item, digest, treeDigest });
      await Promise.all(moves.map(adopt));
      expect(await other.driver.imageTree(digest)).toBe(treeDigest);
    } finally {
      unsubscribe('worker_threads', count);
    }
    expect(threads).toBe(1);
    for (const moveId of moves) await other.driver.dropLanding(moveId);
    await other.driver.deleteImage(digest);
  });

  it('undoes a move whose stream was cut off and looked whole', async () => {
    const cut: Wrap = (name, port) =>
      name !== 'sender'
        ? port
        : between(port, (stream) => Readable.from(firstBytes(stream, MiB), { objectMode: false }));
    const hosts: Hosts = new TwoHosts(one, other, {}, cut);
    await image(hosts);
    const paths = await project(hosts);
    const before = await everything(paths);
    expect(await run(hosts)).toMatchObject({
      status: 'failed',
      error: { code: 'STREAM_INVALID' },
    });
    await expectSame(before, paths);
    expect(hosts.from.projects.running.has(hosts.projectId)).toBe(true);
    await expectClean(hosts, 'from');
    await hosts.from.storage.driver.deleteVolume(hosts.projectId);
  });

  it('goes on behind what arrived when the connection breaks', async () => {
    let streams = 0;
    const broken: Wrap = (name, port) =>
      name !== 'sender'
        ? port
        : between(port, (stream) => {
            streams += 1;
            return streams === 3 ? breaking(stream, MiB) : stream;
          });
    const hosts: Hosts = new TwoHosts(one, other, {}, broken);
    await image(hosts);
    const paths = await project(hosts);
    const before = await everything(paths);
    expect(await run(hosts)).toMatchObject({ status: 'succeeded' });
    const there = await hosts.to.storage.driver.volume(hosts.projectId);
    await expectSame(before, there!.paths);
    // Image or not, two snapshots, two pictures with persistence: one of them twice.
    expect(streams).toBe((await arrivals(hosts)) + 1);
    await expectClean(hosts, 'to');
    await hosts.to.storage.driver.deleteVolume(hosts.projectId);
  });

  it('undoes a move when the destination runs full in the middle of a receive', async () => {
    // It thought that it had room: another project wrote meanwhile.
    const boast: Wrap = (name, port) =>
      name !== 'storage'
        ? port
        : new Proxy(port, {
            get: (target, key) => {
              if (key === 'space') return async () => ({ totalBytes: 1e12, freeBytes: 1e12 });
              const value: unknown = Reflect.get(target, key, target);
              return typeof value === 'function' ? (value.bind(target) as unknown) : value;
            },
          });
    const hosts: Hosts = new TwoHosts(one, small, {}, boast);
    await image(hosts);
    const paths = await project(hosts);
    await writeFile(join(paths.home, 'large'), randomBytes(64 * MiB));
    const before = await everything(paths);
    const taken = (await small.driver.space()).freeBytes - 32 * MiB;
    await exec.run(['fallocate', '-l', `${taken}`, join(volumes[2]!.volume, 'other')]);
    const { freeBytes } = await small.driver.space();
    expect(await run(hosts)).toMatchObject({
      status: 'failed',
      error: { code: 'DESTINATION_FULL' },
    });
    await expectSame(before, paths);
    expect(hosts.from.projects.running.has(hosts.projectId)).toBe(true);
    await expectClean(hosts, 'from');
    // What had arrived makes room again, once the cleaner has been there.
    await waitFor(
      'there is as much room as before',
      async () => (await small.driver.space()).freeBytes > freeBytes - 8 * MiB,
      { timeoutMs: 60_000, everyMs: 250 },
    );
    await hosts.from.storage.driver.deleteVolume(hosts.projectId);
  });
});

async function arrivals(hosts: Hosts): Promise<number> {
  const move = await hosts.from.journal.outgoing(hosts.moveId);
  return move?.confirmed.length ?? 0;
}

async function fsynced(path: string): Promise<void> {
  const file = await open(path, 'w');
  await file.writeFile('promised');
  await file.sync();
  await file.close();
}

/** Puts something between a sender and the streams that it is given. */
function between<P extends object>(port: P, change: (stream: Readable) => Readable): P {
  return new Proxy(port, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (key !== 'send' || typeof value !== 'function') return value;
      return (to: unknown, command: unknown, stream: Readable, options: unknown): unknown =>
        value.call(target, to, command, change(stream), options);
    },
  });
}

async function* firstBytes(stream: Readable, bytes: number): AsyncGenerator<Buffer> {
  let left = bytes;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    yield chunk.subarray(0, left);
    left -= chunk.length;
    if (left <= 0) return;
  }
}

function breaking(stream: Readable, bytes: number): Readable {
  const out = new PassThrough();
  let left = bytes;
  stream.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left > 0) out.write(chunk);
    else {
      const json = { code: 'TEST_BROKEN', message: 'cut', status: 502, retryable: true };
      out.destroy(new CodedError(json));
      stream.destroy();
    }
  });
  stream.once('end', () => out.end());
  return out;
}
