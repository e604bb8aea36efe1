import {
  chmod,
  chown,
  link,
  mkdir,
  mkdtemp,
  open,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { BackupService, ResticDriver } from '@rookery/backup';
import { nameOfTags, type BackupRecord } from '@rookery/fleet/contract';
import { compareTrees } from '../src/compare-trees.js';
import { MemoryBackupJournal, MemoryBackupProjects } from '@rookery/backup/testing';
import { MiB, newId, parseConfig, SystemExec } from '@rookery/core';
import { ProjectSpec, type Fence } from '@rookery/core/contract';
import type { JobContext } from '@rookery/rpc/contract';
import { diffManifests, FaultyExec, manifestOf, writeXattr } from '@rookery/core/testing';
import { BtrfsStorageDriver, DirectoryStorageDriver, StorageOptions } from '@rookery/storage';
import type { VolumePaths } from '@rookery/storage/contract';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';

const exec = new SystemExec();
const spec = ProjectSpec.parse({ image: 'localhost/rookery/debian:13', quota: {} });
const context = (signal = new AbortController().signal): JobContext => ({
  params: {},
  caller: 'hub',
  signal,
  progress: () => undefined,
});
const fenceOf = (projectId: string, more: Partial<Fence> = {}): Fence => ({
  projectId,
  generation: 1,
  operationId: newId(),
  attempt: 1,
  ...more,
});

const quotaBytes = 256 * MiB;

/** A file that holds 4 KiB in its middle and nothing else. */
async function sparseFile(path: string, bytes: number): Promise<void> {
  await exec.run(['truncate', '--size', String(bytes), path]);
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(4096, 1), 0, 4096, bytes / 2);
  await file.close();
}

describe('backup service over restic', () => {
  let folder: string;
  let disk: TestVolume;
  let storage: BtrfsStorageDriver;
  let journal: MemoryBackupJournal;
  let projects: MemoryBackupProjects;
  let faulty: FaultyExec;
  let service: BackupService;

  const newService = () => {
    const driver = new ResticDriver({
      repository: join(folder, 'repository'),
      passwordFile: join(folder, 'password'),
      workFolder: join(folder, 'work'),
    });
    const parts = { driver, journal, projects, workFolder: join(folder, 'work'), exec: faulty };
    return new BackupService({ ...parts, storage });
  };

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-backup-service-'));
    await writeFile(join(folder, 'password'), 'secret\n');
    await mkdir(join(folder, 'work'));
    disk = await loopbackVolume();
    const { volume, btrfsProgram } = disk;
    const options = parseConfig(StorageOptions, { volume, btrfsProgram, minFreeBytes: 0 });
    storage = new BtrfsStorageDriver(exec, options);
    await storage.open();
    journal = new MemoryBackupJournal();
    projects = new MemoryBackupProjects();
    faulty = new FaultyExec();
    service = newService();
    await service.init({});
  });
  afterAll(async () => {
    await disk?.destroy();
    await rm(folder, { recursive: true, force: true });
  });

  const pathsOf = async (id: string): Promise<VolumePaths> => {
    const volume = await storage.volume(id);
    if (!volume) throw new Error(`no volume of ${id}`);
    return volume.paths;
  };
  const temporary = async (): Promise<string[]> => {
    const lists = (await storage.listVolumes()).map(({ projectId }) =>
      storage.listTemporarySnapshots(projectId),
    );
    return (await Promise.all(lists)).flat().map(({ name }) => name);
  };

  /** A project with everything that is easily lost. */
  const project = async () => {
    const id = newId();
    const { paths } = await storage.createVolume(id, { quotaBytes });
    const { home } = paths;
    await mkdir(join(home, 'deep', 'er'), { recursive: true });
    await writeFile(join(home, 'note.txt'), 'first');
    await writeFile(join(home, 'deep', 'er', 'x*?[y].bin'), Buffer.alloc(200_000, 7));
    await link(join(home, 'note.txt'), join(home, 'deep', 'same'));
    await symlink('/etc/shadow', join(home, 'escape'));
    await writeFile(join(home, 'sparse'), '');
    await truncate(join(home, 'sparse'), 8 * 1024 * 1024);
    const middle = await open(join(home, 'sparse'), 'r+');
    await middle.write(Buffer.alloc(4096, 1), 0, 4096, 1024 * 1024);
    await middle.close();
    await utimes(join(home, 'sparse'), 1_700_000_000.123, 1_700_000_000.456);
    await chown(join(home, 'note.txt'), 101_000, 101_000);
    await chmod(join(home, 'note.txt'), 0o4751);
    writeXattr(join(home, 'note.txt'), 'user.color', 'blue');
    const upper = join(paths.overlay, 'image', 'upper');
    await mkdir(join(upper, 'opaque'), { recursive: true });
    await exec.run(['mknod', join(upper, 'deleted'), 'c', '0', '0']);
    writeXattr(join(upper, 'opaque'), 'trusted.overlay.opaque', 'y');
    await exec.run(['mkfifo', join(upper, 'pipe')]);
    await writeFile(join(paths.persistence, 'store.db'), 'rows');
    projects.generations.set(id, 1);
    return { id, paths };
  };
  const run = (projectId: string, more: Partial<Fence> = {}) =>
    service.run({ fence: fenceOf(projectId, more), spec, tags: ['daily'] }, context());
  const same = async (expected: Awaited<ReturnType<typeof manifestOf>>, root: string) =>
    expect(diffManifests(expected, await manifestOf(root, { exclude: ['.snapshots'] }))).toEqual(
      [],
    );

  it('restores a project elsewhere with nothing lost', async () => {
    const { id, paths } = await project();
    const before = await manifestOf(paths.root, { exclude: ['.snapshots'] });
    expect(before.find(({ path }) => path === 'home/sparse')?.sparse).toBe(true);
    const record = await run(id);
    expect(record).toMatchObject({ projectId: id, driver: 'restic', files: 5 });
    expect(await temporary()).toEqual([]);
    expect((await service.list({ projectId: id })).backups).toMatchObject([
      { backupId: record.backupId, bytes: record.bytes, files: record.files },
    ]);

    const copy = newId();
    const input = { fromProjectId: id, backupId: record.backupId, spec, replace: false };
    const result = await service.restore({ ...input, fence: fenceOf(copy) }, context());
    expect(result).toEqual({ bytes: record.bytes, files: record.files });
    const copied = await pathsOf(copy);
    await same(before, copied.root);
    expect(await readFile(join(copied.persistence, 'store.db'), 'utf8')).toBe('rows');
    expect((await storage.usage(copy)).limitBytes).toBe(spec.quota.diskBytes);
    expect(projects.generations.get(copy)).toBe(1);
  });

  it('lists the backups of all projects page by page, and what each says of itself', async () => {
    const [one, other] = [await project(), await project()];
    const named = { ...spec, publicPorts: [8080] };
    const name = 'Größe, "50 %" & mehr';
    const { backupId } = await service.run(
      { fence: fenceOf(one.id), spec: named, tags: [], name },
      context(),
    );
    const made = [backupId, (await run(one.id)).backupId, (await run(other.id)).backupId];
    const driver = new ResticDriver({
      repository: join(folder, 'repository'),
      passwordFile: join(folder, 'password'),
      workFolder: join(folder, 'work'),
    });
    // Somebody else's, in the same repository.
    const folders = { project: one.paths.home };
    await driver.backup({ folders, host: 'project-of-mine', tags: [] });

    const found: BackupRecord[] = [];
    let after: { projectId: string; backupId: string } | undefined;
    let pages = 0;
    do {
      const page = await service.listAll({ limit: 2, ...(after && { after }) });
      found.push(...page.backups);
      after = page.more ? page.backups.at(-1) : undefined;
      pages += 1;
    } while (after);
    expect(pages).toBeGreaterThan(1);
    const ids = found.map((each) => each.backupId);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids).toEqual(expect.arrayContaining(made));
    const projectIds = found.map((each) => each.projectId);
    expect(projectIds).toEqual([...projectIds].sort());
    const record = found.find((each) => each.backupId === backupId);
    expect(nameOfTags(record?.tags ?? [])).toBe(name);
    const describe = (projectId: string) => service.describe({ projectId, backupId }, context());
    expect(await describe(one.id)).toEqual({ spec: named, name });
    await expect(describe(other.id)).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
  });

  it('keeps holes as holes, however large, within the quota all the while', async () => {
    const { id, paths } = await project();
    const folder = join(paths.home, 'images');
    await mkdir(folder);
    for (let n = 0; n < 6; n += 1) await sparseFile(join(folder, `disk ${n}\n*`), 2 ** 30);
    await sparseFile(join(folder, 'huge'), 2 ** 62);
    await link(join(folder, 'huge'), join(folder, 'huge-too'));
    writeXattr(join(folder, 'huge'), 'user.color', 'blue');
    await utimes(folder, 1_600_000_000.25, 1_600_000_000.5);
    const fence = fenceOf(id);
    const record = await service.run({ fence, spec, tags: [], verify: true }, context());
    expect(record).toMatchObject({ verified: true });
    expect(record.bytes).toBeLessThan(MiB);

    const [copy, before] = [newId(), (await storage.space()).freeBytes];
    let least = before;
    const watched: JobContext = {
      ...context(),
      progress: () => void storage.space().then((now) => (least = Math.min(least, now.freeBytes))),
    };
    const small = { ...spec, quota: { ...spec.quota, diskBytes: 8 * MiB } };
    const input = { fromProjectId: id, backupId: record.backupId, spec: small, replace: false };
    await service.restore({ ...input, fence: fenceOf(copy) }, watched);
    expect((await storage.usage(copy)).usedBytes).toBeLessThan(4 * MiB);
    expect(before - least).toBeLessThan(64 * MiB);
    const { home } = await pathsOf(copy);
    const [was, now] = [await stat(folder), await stat(join(home, 'images'))];
    expect(now.mtimeMs).toBe(was.mtimeMs);
    const [one, two] = ['huge', 'huge-too'].map((name) => stat(join(home, 'images', name)));
    expect((await one)?.ino).toBe((await two)?.ino);
    expect((await one)?.size).toBe(2 ** 62);
    const difference = await compareTrees(paths.root, (await pathsOf(copy)).root, {
      exclude: ['.snapshots'],
      signal: context().signal,
    });
    expect(difference).toEqual([]);

    await rm(folder, { recursive: true });
    const restore = (path: string, into = path) =>
      service.restorePath(
        { fence: fenceOf(id), fromProjectId: id, backupId: record.backupId, path, into },
        context(),
      );
    await restore('images/huge');
    expect((await stat(join(folder, 'huge'))).size).toBe(2 ** 62);
    await restore('images', 'again');
    expect(await readdir(join(paths.home, 'again'))).toHaveLength(8);
    expect((await storage.usage(id)).usedBytes).toBeLessThan(8 * MiB);
  });

  it('finds the backup that a lost reply had made', async () => {
    const { id } = await project();
    const operationId = newId();
    const first = await run(id, { operationId });
    const again = await run(id, { operationId, attempt: 2 });
    expect(again.backupId).toBe(first.backupId);
    journal = new MemoryBackupJournal(); // another host process without the row
    service = newService();
    expect((await run(id, { operationId, attempt: 3 })).backupId).toBe(first.backupId);
    expect((await service.list({ projectId: id })).backups).toHaveLength(1);
  });

  it('refuses an older attempt and an older generation', async () => {
    const { id } = await project();
    const operationId = newId();
    await run(id, { operationId, attempt: 2 });
    await expect(run(id, { operationId })).rejects.toMatchObject({ code: 'STALE_ATTEMPT' });
    await expect(run(id, { generation: 0 })).rejects.toMatchObject({ code: 'STALE_GENERATION' });
  });

  it('runs one job a project at a time', async () => {
    const { id } = await project();
    const operationId = newId();
    const first = run(id, { operationId });
    const joined = run(id, { operationId });
    await new Promise(setImmediate);
    await expect(run(id)).rejects.toMatchObject({ code: 'BACKUP_IN_PROGRESS' });
    expect((await joined).backupId).toBe((await first).backupId);
  });

  it('drops the picture and leaves no backup when it is canceled', async () => {
    const { id } = await project();
    const abort = new AbortController();
    const call = service.run(
      { fence: fenceOf(id), spec, tags: [] },
      { ...context(abort.signal), progress: () => abort.abort() },
    );
    await expect(call).rejects.toMatchObject({ code: 'CANCELED' });
    expect(await temporary()).toEqual([]);
    expect((await service.list({ projectId: id })).backups).toEqual([]);
  });

  it('keeps the old content until a replacement is complete', async () => {
    const { id, paths } = await project();
    const before = await manifestOf(paths.root, { exclude: ['.snapshots'] });
    const { backupId } = await run(id);
    await writeFile(join(paths.home, 'note.txt'), 'second');
    const changed = await manifestOf(paths.root, { exclude: ['.snapshots'] });
    const input = { fromProjectId: id, backupId, spec };
    const refused = service.restore({ ...input, fence: fenceOf(id), replace: false }, context());
    await expect(refused).rejects.toMatchObject({ code: 'RESTORE_TARGET_EXISTS' });
    await same(changed, paths.root);

    const operationId = newId();
    const fence = fenceOf(id, { operationId, generation: 2 });
    for (const when of ['before', 'after'] as const) {
      faulty.inject({
        matches: (argv) => argv[0] === 'tar' && argv.includes('--extract'),
        when,
        error: new Error('the disk broke'),
      });
      await expect(
        service.restore({ ...input, fence, replace: true }, context()),
      ).rejects.toMatchObject({ code: 'INTERNAL' });
      await same(changed, paths.root);
      expect(projects.restoring.size).toBe(0);
    }
    const { previous = '' } = await service.restore({ ...input, fence, replace: true }, context());
    await service.restore({ ...input, fence, replace: true }, context());
    expect((await storage.listSnapshots(id)).map(({ name }) => name)).toEqual([previous]);
    const kept = join((await pathsOf(id)).snapshots, previous, 'home', 'note.txt');
    expect(await readFile(kept, 'utf8')).toBe('second');
    await same(before, paths.root);
    expect(projects.generations.get(id)).toBe(2);
    const known = [...projects.generations.keys()].length;
    expect(await storage.listVolumes()).toHaveLength(known);
  });

  it('replaces what it cannot keep only when that is said, and never a locked snapshot', async () => {
    const { id, paths } = await project();
    await writeFile(join(paths.home, 'large'), randomBytes(24 * MiB));
    const { backupId } = await run(id);
    for (const name of ['open', 'locked']) await storage.createSnapshot(id, name);
    await storage.setSnapshotLocked(id, 'locked', true);
    const small = { ...spec, quota: { ...spec.quota, diskBytes: 40 * MiB } };
    const input = { fromProjectId: id, backupId, spec: small, replace: true };
    const generation = (n: number): Fence => fenceOf(id, { generation: n });
    const refused = service.restore({ ...input, fence: generation(2) }, context());
    await expect(refused).rejects.toMatchObject({ code: 'RESTORE_NEEDS_DISCARD' });
    expect(await storage.listSnapshots(id)).toHaveLength(2);
    await service.restore({ ...input, fence: generation(3), discard: true }, context());
    expect(await storage.listSnapshots(id)).toMatchObject([{ name: 'locked', locked: true }]);
    expect((await stat(join(paths.home, 'large'))).size).toBe(24 * MiB);
  });

  describe('a backup that is read back', () => {
    const verified = (id: string) =>
      service.run({ fence: fenceOf(id), spec, tags: ['archive'], verify: true }, context());

    /** Changes bytes in the middle of every data file: what the index says of them stays true. */
    const damage = async (): Promise<() => Promise<void>> => {
      const data = join(folder, 'repository', 'data');
      const saved = new Map<string, Buffer>();
      for (const entry of await readdir(data, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile()) continue;
        const path = join(entry.parentPath, entry.name);
        const bytes = await readFile(path);
        saved.set(path, bytes);
        await chmod(path, 0o600);
        const third = Math.floor(bytes.length / 3);
        await writeFile(path, Buffer.from(bytes).fill(0x5a, third, third + 64));
      }
      return async () => {
        for (const [path, bytes] of saved) await writeFile(path, bytes);
      };
    };

    it('is what the project is', async () => {
      const { id } = await project();
      expect(await verified(id)).toMatchObject({ verified: true });
      expect(await temporary()).toEqual([]);
      expect((await run(id)).verified).toBe(false);
      expect(await storage.listVolumes()).toHaveLength(projects.generations.size);
    });

    it('is dropped when data that it refers to is damaged', async () => {
      const { id, paths } = await project();
      await writeFile(join(paths.home, 'known'), randomBytes(MiB));
      const { backupId } = await run(id);
      const mend = await damage();
      await expect(verified(id)).rejects.toMatchObject({
        code: expect.stringMatching(/^(RESTORE_FAILED|BACKUP_DIFFERS)$/),
      });
      expect((await service.list({ projectId: id })).backups).toMatchObject([{ backupId }]);
      // A restore says so as well, and leaves nothing.
      const input = { fence: fenceOf(newId()), fromProjectId: id, backupId, spec };
      await expect(service.restore({ ...input, replace: false }, context())).rejects.toMatchObject({
        code: 'RESTORE_FAILED',
      });
      await mend();
      expect(await verified(id)).toMatchObject({ verified: true });
    });
  });

  it('settles a restore of which nobody heard: it is in its place, or never will be', async () => {
    const { id } = await project();
    const { backupId } = await run(id);
    const input = { fromProjectId: id, backupId, spec, replace: true };
    const fence = fenceOf(id, { generation: 2 });
    jest.spyOn(storage, 'replaceVolume').mockRejectedValueOnce(new Error('the disk broke'));
    await expect(service.restore({ ...input, fence }, context())).rejects.toThrow();
    expect(projects.generations.get(id)).toBe(1);
    expect(await service.settle({ fence })).toEqual({ placed: true });
    expect(projects.generations.get(id)).toBe(2);
    expect(await service.settle({ fence })).toEqual({ placed: true });

    const late = fenceOf(id, { generation: 3 });
    expect(await service.settle({ fence: late })).toEqual({ placed: false });
    await expect(service.restore({ ...input, fence: late }, context())).rejects.toMatchObject({
      code: 'RESTORE_GIVEN_UP',
    });
    await service.recover();
    expect(projects.generations.get(id)).toBe(2);
    expect(projects.restoring.size).toBe(0);
  });

  it('takes away what a crash left of a restore', async () => {
    const fence = fenceOf(newId());
    await projects.beginRestore(fence);
    await storage.createVolume(fence.projectId, { quotaBytes });
    await journal.put({
      fence,
      kind: 'restore',
      state: 'running',
      startedAt: 1,
      stagingId: fence.projectId,
    });
    expect((await service.claims()).volumes).toEqual([fence.projectId]);
    await service.recover();
    expect(await storage.volume(fence.projectId)).toBeUndefined();
    expect(projects.restoring.size).toBe(0);
    expect(await journal.active()).toEqual([]);
    expect(await journal.get(fence.operationId)).toMatchObject({
      state: 'failed',
      error: { code: 'BACKUP_INTERRUPTED' },
    });
  });

  it('restores one path over what is there, and beside it', async () => {
    const { id, paths } = await project();
    const { backupId } = await run(id);
    const before = await manifestOf(paths.home);
    await rm(join(paths.home, 'deep'), { recursive: true });
    await writeFile(join(paths.home, 'deep'), 'a file now');
    const input = { fromProjectId: id, backupId };
    const path = 'deep/er/x*?[y].bin';
    await service.restorePath({ ...input, fence: fenceOf(id), path, into: 'new/x' }, context());
    expect((await stat(join(paths.home, 'new', 'x'))).size).toBe(200_000);
    await rm(join(paths.home, 'new'), { recursive: true });
    const result = await service.restorePath(
      { ...input, fence: fenceOf(id), path: 'deep' },
      context(),
    );
    expect(result.files).toBe(2);
    const now = await manifestOf(join(paths.home, 'deep'));
    const was = before.filter((entry) => entry.path.startsWith('deep/er'));
    expect(now.filter(({ path: p }) => p.startsWith('er')).map((e) => e.sha256)).toEqual(
      was.map((e) => e.sha256),
    );
    const missing = service.restorePath({ ...input, fence: fenceOf(id), path: 'no' }, context());
    await expect(missing).rejects.toMatchObject({ code: 'BACKUP_PATH_NOT_FOUND' });
  });

  it('does not restore a path through a link out of home', async () => {
    const { id, paths } = await project();
    const { backupId } = await run(id);
    const outside = join(folder, 'outside');
    await mkdir(outside, { recursive: true });
    await symlink(outside, join(paths.home, 'trap'));
    const input = { fromProjectId: id, backupId, fence: fenceOf(id), path: 'note.txt' };
    await expect(
      service.restorePath({ ...input, into: 'trap/note.txt' }, context()),
    ).rejects.toMatchObject({ code: 'PATH_OUTSIDE' });
    await expect(stat(join(outside, 'note.txt'))).rejects.toThrow('ENOENT');
  });

  it('makes no repository where one is gone, and takes no other for it', async () => {
    const { id } = await project();
    const record = await run(id);
    const { id: known = '' } = await service.repository();
    const [place, away] = [join(folder, 'repository'), join(folder, 'away')];
    await rename(place, away);
    await expect(run(id)).rejects.toMatchObject({ code: 'REPOSITORY_MISSING' });
    await mkdir(place); // the mount point of a disk that is not there
    await expect(run(id)).rejects.toMatchObject({ code: 'REPOSITORY_MISSING' });
    await expect(service.list({ projectId: id })).rejects.toMatchObject({
      code: 'REPOSITORY_MISSING',
    });
    expect(await readdir(place)).toEqual([]);
    expect(await service.repository()).toMatchObject({ state: 'missing', knownId: known });

    await expect(service.init({})).rejects.toMatchObject({ code: 'REPOSITORY_CHANGED' });
    expect(await service.repository()).toMatchObject({ state: 'changed', knownId: known });
    const other = await service.init({ adopt: true });
    expect(other).toMatchObject({ state: 'ok' });
    expect(other.id).not.toBe(known);
    expect((await service.list({ projectId: id })).backups).toEqual([]);

    await rm(place, { recursive: true });
    await rename(away, place);
    await expect(run(id)).rejects.toMatchObject({ code: 'REPOSITORY_CHANGED' });
    await service.init({ adopt: true });
    expect((await service.list({ projectId: id })).backups).toMatchObject([
      { backupId: record.backupId },
    ]);
  });

  it('names what is wrong with a repository', async () => {
    const { id } = await project();
    await writeFile(join(folder, 'other-password'), 'wrong\n');
    const at = (repository: string, password: string) =>
      new ResticDriver({
        repository,
        passwordFile: join(folder, password),
        workFolder: join(folder, 'work'),
        lockWaitMs: 0,
      });
    await expect(at(join(folder, 'repository'), 'other-password').open()).rejects.toMatchObject({
      code: 'REPOSITORY_PASSWORD',
    });
    await expect(at('rest:http://127.0.0.1:9/', 'password').open()).rejects.toMatchObject({
      code: 'REPOSITORY_UNREACHABLE',
    });
    const unknown = service.restore(
      { fence: fenceOf(newId()), fromProjectId: id, backupId: 'deadbeef', spec, replace: false },
      context(),
    );
    await expect(unknown).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    const badTag = service.run({ fence: fenceOf(id), spec, tags: ['a,b'] }, context());
    await expect(badTag).rejects.toMatchObject({ code: 'INVALID_INPUT' });
  });

  it('restores whole where projects are plain folders, without quota and snapshots', async () => {
    const volume = join(folder, 'plain');
    await mkdir(volume);
    const options = parseConfig(StorageOptions, { volume, driver: 'directory', minFreeBytes: 0 });
    const plain = new DirectoryStorageDriver(exec, options);
    await plain.open();
    const driver = new ResticDriver({
      repository: join(folder, 'repository'),
      passwordFile: join(folder, 'password'),
      workFolder: join(folder, 'work'),
    });
    const workFolder = join(folder, 'work');
    const there = new BackupService({ driver, journal, projects, workFolder, storage: plain });
    const id = newId();
    projects.generations.set(id, 1);
    const { paths } = await plain.createVolume(id, { quotaBytes });
    await writeFile(join(paths.home, 'note.txt'), 'first');
    await sparseFile(join(paths.home, 'sparse'), 8 * MiB);
    const before = await manifestOf(paths.root, { exclude: ['.snapshots'] });
    const fence = fenceOf(id);
    const { backupId } = await there.run({ fence, spec, tags: [] }, context());
    const input = { fromProjectId: id, backupId, spec };

    const copy = newId();
    await there.restore({ ...input, fence: fenceOf(copy), replace: false }, context());
    await same(before, (await plain.volume(copy))?.paths.root ?? '');
    await writeFile(join(paths.home, 'note.txt'), 'second');
    const again = { ...input, fence: fenceOf(id, { generation: 2 }), replace: true };
    const kept = there.restore(again, context());
    await expect(kept).rejects.toMatchObject({ code: 'RESTORE_NEEDS_DISCARD' });
    const last = { ...again, fence: fenceOf(id, { generation: 2 }), discard: true };
    await there.restore(last, context());
    await same(before, paths.root);
    // More holes than can be read as zeros, and no still picture to read around them.
    await sparseFile(join(paths.home, 'huge'), 2 ** 43);
    const refused = there.run({ fence: fenceOf(id, { generation: 2 }), spec, tags: [] }, context());
    await expect(refused).rejects.toMatchObject({ code: 'BACKUP_HOLES_TOO_MANY' });
    await there.close();
    await plain.close();
  });

  it('leaves no mount behind', async () => {
    expect(await readFile('/proc/self/mountinfo', 'utf8')).not.toContain(folder);
  });
});
