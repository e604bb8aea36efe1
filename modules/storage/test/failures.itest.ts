import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { MiB, newId, parseConfig, SystemExec, waitFor } from '@rookery/core';
import type { SpawnedProcess, SpawnOptions } from '@rookery/core';
import { FaultyExec } from '@rookery/core/testing';
import { BtrfsStorageDriver, LoopbackVolume, StorageOptions } from '@rookery/storage';
import {
  findBtrfsProgram,
  loopbackVolume,
  qgroupOf,
  type TestVolume,
} from '@rookery/storage/testing';

const quotaBytes = 256 * MiB;
const coded = (code: string): unknown => expect.objectContaining({ code });
const nothing = { projects: [], moves: [], frozen: [], retired: [] };

/** Lets a test kill what was spawned. */
class WatchedExec extends FaultyExec {
  onSpawn: (argv: readonly string[], child: SpawnedProcess) => void = () => undefined;

  override spawn(argv: readonly string[], options?: SpawnOptions): SpawnedProcess {
    const child = super.spawn(argv, options);
    this.onSpawn(argv, child);
    return child;
  }
}

let volume: TestVolume;
let exec: WatchedExec;
const driverOf = (overrides: object = {}): BtrfsStorageDriver =>
  new BtrfsStorageDriver(
    exec,
    parseConfig(StorageOptions, {
      volume: volume.volume,
      driver: 'btrfs',
      btrfsProgram: volume.btrfsProgram,
      reconcileGraceMs: 0,
      minFreeBytes: 0,
      reserveBytes: 0,
      ...overrides,
    }),
  );
let driver: BtrfsStorageDriver;

beforeAll(async () => {
  exec = new WatchedExec();
  volume = await loopbackVolume({ sizeBytes: 512 * MiB });
  driver = driverOf();
  await driver.open();
});
afterAll(() => volume?.destroy());

const homeOf = async (id: string): Promise<string> =>
  (await driver.volume(id))?.paths.home ?? '/nonexistent';
const isCommand =
  (...words: string[]) =>
  (argv: readonly string[]): boolean =>
    words.every((word) => argv.includes(word));
const lost = new Error('the answer was lost');

describe('what ends half way', () => {
  it.each([
    ['making the second subvolume', 'before', isCommand('subvolume', 'create')],
    ['the limit', 'before', isCommand('qgroup', 'limit')],
    ['the limit, with its answer lost', 'after', isCommand('qgroup', 'limit')],
    ['the last sync', 'before', isCommand('filesystem', 'sync')],
  ] as const)('leaves no volume when creation fails at %s', async (_name, when, matches) => {
    const id = newId();
    exec.inject({ matches, when, error: lost });
    await expect(driver.createVolume(id, { quotaBytes })).rejects.toThrow('lost');
    expect(await driver.volume(id)).toBeUndefined();
    const left = await Promise.all(
      ['_staging', 'sync/projects', 'scratch', '_meta'].map((folder) =>
        readdir(join(volume.volume, folder)),
      ),
    );
    expect(left.flat().filter((name) => name.includes(id))).toEqual([]);
    await driver.createVolume(id, { quotaBytes });
    await driver.deleteVolume(id);
  });

  it('keeps the group of a volume that is being made from who tidies up meanwhile', async () => {
    const id = newId();
    const dropped: string[] = [];
    exec.before(isCommand('subvolume', 'create'), async () => {
      const repairs = await driver.reconcile(nothing);
      dropped.push(...repairs.map(({ subject }) => subject));
    });
    await driver.createVolume(id, { quotaBytes });
    expect(dropped).not.toContain(qgroupOf(id));
    expect(await driver.usage(id)).toMatchObject({ limitBytes: quotaBytes });
    await driver.deleteVolume(id);
    const gone = async () => {
      const repairs = await driver.reconcile(nothing);
      return repairs.some(({ subject }) => subject === qgroupOf(id));
    };
    await waitFor('the group goes with its members', gone, { timeoutMs: 20_000, everyMs: 200 });
  });

  it('repairs all that it can: one damaged file or failed repair holds up nothing else', async () => {
    const [damaged, dead, other] = [newId(), newId(), newId()].sort();
    for (const id of [damaged, dead, other]) await driver.createVolume(id!, { quotaBytes });
    await writeFile(join(volume.volume, '_meta', `${damaged}.json`), '{"snap');
    for (const id of [dead, other]) {
      exec.inject({ matches: isCommand('subvolume', 'delete'), when: 'before', error: lost });
      await expect(driver.deleteVolume(id!)).rejects.toThrow('lost');
    }
    exec.inject({ matches: isCommand('subvolume', 'delete'), when: 'before', error: lost });
    await expect(driver.reconcile(nothing)).rejects.toThrow(/1 of \d+ repairs failed/);
    const repairs = await driver.reconcile(nothing);
    expect(repairs).toContainEqual({ kind: 'sidecar-damaged', subject: damaged });
    expect(await readdir(join(volume.volume, '_staging'))).toEqual([]);
    await expect(driver.listSnapshots(damaged!)).rejects.toEqual(coded('SIDECAR_DAMAGED'));
    await driver.deleteVolume(damaged!);
    expect(await readdir(join(volume.volume, '_meta'))).toEqual([]);
  });

  it('finishes a deletion that died', async () => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    exec.inject({ matches: isCommand('subvolume', 'delete'), when: 'before', error: lost });
    await expect(driver.deleteVolume(id)).rejects.toThrow('lost');
    expect(await driver.volume(id)).toBeUndefined();
    const repairs = await driver.reconcile(nothing);
    expect(repairs).toContainEqual({ kind: 'leftover-dropped', subject: id });
    expect(await readdir(join(volume.volume, '_staging'))).toEqual([]);
    expect(await readdir(join(volume.volume, '_meta'))).toEqual([]);
  });

  it.each([
    ['before the clone of the snapshot', isCommand('snapshot', '_none')],
    ['when the first snapshot is brought over', isCommand('property', 'false')],
    ['when it is locked again', isCommand('property', 'true')],
    ['when the old live volume is deleted', isCommand('subvolume', 'delete')],
  ])('finishes a whole restore that died %s', async (_name, matches) => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(id), 'a'), 'old');
    await driver.createSnapshot(id, 'one');
    await driver.createSnapshot(id, 'two');
    await writeFile(join(await homeOf(id), 'a'), 'new');
    exec.inject({ matches, when: 'before', error: lost });
    const first = await driver.restoreSnapshot(id, 'one').catch((error: Error) => error);
    // A new process knows nothing of the old one.
    const next = driverOf();
    await next.open();
    await next.reconcile({ ...nothing, projects: [{ projectId: id, quotaBytes }] });
    const snapshots = await next.listSnapshots(id);
    const names = snapshots.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['one', 'two']));
    expect(names).toHaveLength(3);
    const kept = names.find((name) => name.startsWith('before-restore-')) ?? '';
    const paths = (await next.volume(id))?.paths;
    expect(await readFile(join(paths?.snapshots ?? '', kept, 'home', 'a'), 'utf8')).toBe('new');
    expect(await readFile(join(paths?.home ?? '', 'a'), 'utf8')).toBe('old');
    if (first instanceof Error) expect(first.message).toMatch('lost');
    for (const name of names) {
      await expect(writeFile(join(paths?.snapshots ?? '', name, 'x'), '')).rejects.toThrow('EROFS');
    }
    expect((await next.usage(id)).limitBytes).toBe(quotaBytes);
    expect(await readdir(join(volume.volume, '_staging'))).toEqual([]);
    // The injected fault may not have fired: spend it.
    await exec.run(['true', 'snapshot', '_none', 'property', 'false']).catch(() => undefined);
    await next.deleteVolume(id);
  });

  it.each([
    ['before it is kept', isCommand('snapshot', '-r'), 'before'],
    ['when it is kept', isCommand('snapshot', '-r'), 'after'],
    ['before what was in it is removed', (argv: readonly string[]) => argv[0] === 'rm', 'before'],
  ] as const)('finishes a reset of a root filesystem that died %s', async (_, matches, when) => {
    const id = newId();
    const { paths } = await driver.createVolume(id, { quotaBytes });
    const upper = join(paths.overlay, 'image-1', 'upper');
    await mkdir(upper, { recursive: true });
    await writeFile(join(upper, 'mine'), 'mine');
    await symlink(paths.home, join(upper, 'home'));
    await writeFile(join(paths.home, 'a'), 'home');
    exec.inject({ matches, when, error: lost });
    const keepAs = 'before-reset-1';
    await expect(driver.resetLayer(id, 'image-1', { keepAs })).rejects.toThrow('lost');
    const next = driverOf();
    await next.open();
    await next.resetLayer(id, 'image-1', { keepAs });
    await next.reconcile({ ...nothing, projects: [{ projectId: id, quotaBytes }] });
    const kept = join(paths.snapshots, keepAs, '.local/share/overlay/image-1/upper/mine');
    expect(await readFile(kept, 'utf8')).toBe('mine');
    expect(await readFile(join(paths.home, 'a'), 'utf8')).toBe('home');
    expect(await readdir(paths.overlay)).toEqual([]);
    expect((await readdir(paths.root)).sort()).toEqual(['.local', '.snapshots', 'home']);
    expect((await next.usage(id)).limitBytes).toBe(quotaBytes);
    await next.deleteVolume(id);
  });

  it.each([
    ['before what was live is kept', isCommand('snapshot', '-r')],
    ['when it changes its group', isCommand('qgroup', 'assign')],
    ['when the first snapshot is brought over', isCommand('property', 'false')],
    ['when the old live volume is deleted', isCommand('subvolume', 'delete')],
    ['at the sync', isCommand('filesystem', 'sync')],
  ])('finishes a replacement that died %s', async (_name, matches) => {
    const [from, to] = [newId(), newId()];
    for (const id of [from, to]) await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(to), 'a'), 'old');
    await driver.createSnapshot(to, 'one');
    await writeFile(join(await homeOf(to), 'a'), 'live');
    await writeFile(join(await homeOf(from), 'a'), 'restored');
    exec.inject({ matches, when: 'before', error: lost });
    await expect(driver.replaceVolume(from, to)).rejects.toThrow('lost');
    const next = driverOf();
    await next.open();
    await next.replaceVolume(from, to);
    await next.setQuota(to, quotaBytes);
    expect(await readFile(join(await homeOf(to), 'a'), 'utf8')).toBe('restored');
    const snapshots = (await next.listSnapshots(to)).map(({ name }) => name);
    expect(snapshots).toEqual(['one', expect.stringMatching(/^before-restore-/)]);
    const kept = (await next.volume(to))?.paths.snapshots ?? '';
    const was = join(kept, snapshots[1] ?? '', 'home', 'a');
    expect(await readFile(was, 'utf8')).toBe('live');
    expect(await next.volume(from)).toBeUndefined();
    expect(await readdir(join(volume.volume, '_staging'))).toEqual([]);
    await next.deleteVolume(to);
  });

  it('drops what a receiver that died left, and only that', async () => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(id), 'a'), randomBytes(4 * MiB));
    const picture = await driver.freeze(id, 'move-1');
    const source = { kind: 'frozen', projectId: id, name: 'move-1' } as const;
    const whole = await buffer(driver.send(source));
    const moveId = newId();
    await driver.prepareLanding(moveId, newId());
    await driver.receive(Readable.from([whole]), { moveId, item: 'delta.move-0' });
    // As if we had died: a receiver of its own, cut off between two commands.
    const landing = join(volume.volume, '_incoming', moveId);
    const process = exec.spawn([volume.btrfsProgram, 'receive', '--chroot', landing]);
    process.stdin.end(whole.subarray(0, whole.length / 2));
    await process.ended;
    expect(await readdir(landing)).toEqual(expect.arrayContaining(['=delta.move-0', 'move-1']));
    const desired = {
      ...nothing,
      moves: [moveId],
      projects: [{ projectId: id, quotaBytes }],
      frozen: [{ projectId: id, name: 'move-1' }],
    };
    const repairs = await driver.reconcile(desired);
    expect(repairs).toContainEqual({ kind: 'half-received-dropped', subject: moveId });
    expect(await readdir(landing)).toEqual(['=delta.move-0']);
    await driver.dropLanding(moveId);
    await picture.release();
    await driver.deleteVolume(id);
  });

  it.each(['send', 'receive'] as const)(
    'calls a killed btrfs %s a stream that can be sent again, and it can',
    async (killed) => {
      const id = newId();
      await driver.createVolume(id, { quotaBytes });
      await writeFile(join(await homeOf(id), 'a'), randomBytes(8 * MiB));
      const picture = await driver.freeze(id, 'move-1');
      const source = { kind: 'frozen', projectId: id, name: 'move-1' } as const;
      const moveId = newId();
      await driver.prepareLanding(moveId, newId());
      const carry = () => driver.receive(driver.send(source), { moveId, item: 'delta.move-1' });
      exec.onSpawn = (argv, child) => {
        if (argv[1] === killed) child.kill('SIGKILL');
      };
      const failed = carry();
      await expect(failed).rejects.toEqual(coded('STREAM_BROKEN'));
      await expect(failed).rejects.toMatchObject({ retryable: true });
      exec.onSpawn = () => undefined;
      expect((await carry()).item).toBe('delta.move-1');
      await driver.dropLanding(moveId);
      await picture.release();
      await driver.deleteVolume(id);
    },
  );

  it('does not touch a landing area that receives now', async () => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(id), 'a'), randomBytes(MiB));
    const picture = await driver.freeze(id, 'move-1');
    const whole = await buffer(driver.send({ kind: 'frozen', projectId: id, name: 'move-1' }));
    const moveId = newId();
    await driver.prepareLanding(moveId, newId());
    const stream = new PassThrough();
    const receiving = driver.receive(stream, { moveId, item: 'delta.move-1' });
    stream.write(whole.subarray(0, 1000));
    const landing = join(volume.volume, '_incoming', moveId);
    await waitFor('it has begun', async () => (await readdir(landing)).length > 0, {
      timeoutMs: 10_000,
    });
    // Another process (the agent beside the ingress) looks after the volume.
    const other = driverOf();
    await other.open();
    await other.reconcile({ ...nothing, projects: [{ projectId: id, quotaBytes }] });
    stream.end(whole.subarray(1000));
    expect((await receiving).item).toBe('delta.move-1');
    await driver.dropLanding(moveId);
    await picture.release();
    await driver.deleteVolume(id);
  });

  it('removes qgroups that nothing needs once the cleaner is done', async () => {
    await driver.reconcile(nothing);
    await exec.run([volume.btrfsProgram, 'subvolume', 'sync', volume.volume]);
    await waitFor(
      'no qgroup of a project is left',
      async () => {
        await driver.reconcile(nothing);
        const { stdout } = await exec.run([volume.btrfsProgram, 'qgroup', 'show', volume.volume]);
        return !/^(1\/|0\/(?!5\b))/m.test(stdout);
      },
      { timeoutMs: 60_000, everyMs: 500 },
    );
  });
});

describe('a full volume', () => {
  it('stops a receive in the middle, says so, and leaves nothing', async () => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(id), 'a'), randomBytes(120 * MiB));
    const picture = await driver.freeze(id, 'move-1');
    const source = { kind: 'frozen', projectId: id, name: 'move-1' } as const;
    const moveId = newId();
    const arriving = newId();
    await driver.prepareLanding(moveId, arriving);
    const filler = join(volume.volume, 'filler');
    const { freeBytes } = await driver.space();
    await writeFile(filler, randomBytes(Math.max(freeBytes - 60 * MiB, 0)));
    await expect(
      driver.receive(driver.send(source), { moveId, item: 'delta.move-1' }),
    ).rejects.toEqual(coded('DISK_FULL'));
    expect(await driver.listLanding(moveId)).toEqual([]);
    await rm(filler);
    await exec.run([volume.btrfsProgram, 'subvolume', 'sync', volume.volume]);
    await exec.run([volume.btrfsProgram, 'filesystem', 'sync', volume.volume]);
    await driver.receive(driver.send(source), { moveId, item: 'delta.move-1' });
    await driver.dropLanding(moveId);
    await picture.release();
    await driver.deleteVolume(id);
  });

  it('takes no new volumes, images or landing areas below its reserve', async () => {
    const there = newId();
    await driver.createVolume(there, { quotaBytes });
    const careful = driverOf({ minFreeBytes: 10 ** 12 });
    await careful.open();
    const full = coded('DISK_FULL');
    await expect(careful.createVolume(newId(), { quotaBytes })).rejects.toEqual(full);
    await expect(careful.stageImage()).rejects.toEqual(full);
    await expect(careful.prepareLanding(newId(), newId())).rejects.toEqual(full);
    // What is there is made ready for a start all the same.
    expect(await careful.createVolume(there, { quotaBytes })).toMatchObject({ projectId: there });
    await careful.deleteVolume(there);
  });
});

describe('a loopback volume', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-loop-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('is made, found again, grown with what is on it, and removed without a trace', async () => {
    const btrfsProgram = await findBtrfsProgram();
    const imageFile = join(folder, 'volume.img');
    const mounted = join(folder, 'volume');
    const of = (sizeBytes: number): LoopbackVolume =>
      new LoopbackVolume(new SystemExec(), { imageFile, volume: mounted, sizeBytes, btrfsProgram });
    await of(256 * MiB).open();
    await of(256 * MiB).open();
    await writeFile(join(mounted, 'a'), 'kept');
    // After a reboot the mount is gone, the file is not.
    await of(256 * MiB).unmount();
    await expect(stat(join(mounted, 'a'))).rejects.toThrow('ENOENT');
    await of(512 * MiB).open();
    expect(await readFile(join(mounted, 'a'), 'utf8')).toBe('kept');
    expect((await stat(imageFile)).size).toBe(512 * MiB);
    const { stdout } = await exec.run([btrfsProgram, 'filesystem', 'usage', '--raw', mounted]);
    expect(stdout).toMatch(new RegExp(`Device size:\\s+${512 * MiB}`));
    const options = await readFile('/proc/self/mountinfo', 'utf8');
    expect(options).toMatch(new RegExp(` ${mounted} [^ ]*nosuid,nodev`));
    await of(512 * MiB).destroy();
    await expect(stat(imageFile)).rejects.toThrow('ENOENT');
    expect((await exec.run(['losetup', '-a'])).stdout).not.toContain(folder);
  });

  it('is refused where it does not fit, and over what is mounted already', async () => {
    const btrfsProgram = await findBtrfsProgram();
    const imageFile = join(folder, 'big.img');
    const big = new LoopbackVolume(new SystemExec(), {
      imageFile,
      volume: join(folder, 'big'),
      sizeBytes: 2 ** 50,
      btrfsProgram,
    });
    await expect(big.open()).rejects.toEqual(coded('VOLUME_NO_ROOM'));
    await expect(stat(imageFile)).rejects.toThrow('ENOENT');
    const over = new LoopbackVolume(new SystemExec(), {
      imageFile: join(folder, 'other.img'),
      volume: '/proc',
      sizeBytes: 256 * MiB,
      btrfsProgram,
    });
    await expect(over.open()).rejects.toEqual(coded('VOLUME_UNUSABLE'));
  });

  it('is refused as a volume when it is not btrfs', async () => {
    const options = parseConfig(StorageOptions, { volume: folder, driver: 'btrfs' });
    await expect(new BtrfsStorageDriver(exec, options).open()).rejects.toEqual(
      coded('VOLUME_UNUSABLE'),
    );
  });

  it('can be opened by two processes at once', async () => {
    const options = {
      volume: join(folder, 'twice'),
      loopback: { imageFile: join(folder, 'twice.img'), sizeBytes: 256 * MiB },
      btrfsProgram: await findBtrfsProgram(),
    };
    const open = async (): Promise<void> => {
      const each = new BtrfsStorageDriver(new SystemExec(), parseConfig(StorageOptions, options));
      await each.open();
    };
    await Promise.all([open(), open(), open()]);
    const loopback = new LoopbackVolume(exec, { ...options, ...options.loopback });
    await loopback.destroy();
  });
});

it('ends a send when its reader goes away', async () => {
  const id = newId();
  await driver.createVolume(id, { quotaBytes });
  await writeFile(join(await homeOf(id), 'a'), randomBytes(32 * MiB));
  const picture = await driver.freeze(id, 'move-1');
  const stream = driver.send({ kind: 'frozen', projectId: id, name: 'move-1' });
  await once(stream, 'readable');
  stream.destroy();
  // A picture that is being sent cannot be deleted.
  await waitFor(
    'nothing reads the picture',
    () =>
      picture.release().then(
        () => true,
        () => false,
      ),
    {
      timeoutMs: 20_000,
    },
  );
  await driver.deleteVolume(id);
});

describe('the size of a project', () => {
  it('as it was committed is told without a sync', async () => {
    const id = newId();
    await driver.createVolume(id, { quotaBytes });
    await writeFile(join(await homeOf(id), 'big'), randomBytes(8 * MiB));
    const { usedBytes } = await driver.usage(id);
    exec.inject({ matches: isCommand('filesystem', 'sync'), when: 'before', error: lost });
    expect(await driver.usage(id, { committed: true })).toEqual({
      usedBytes,
      limitBytes: quotaBytes,
    });
    expect(usedBytes).toBeGreaterThanOrEqual(8 * MiB);
    await expect(driver.usage(id)).rejects.toThrow('lost');
  });
});
