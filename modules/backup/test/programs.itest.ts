import * as jest from '@jest/globals';
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SystemExec, waitFor } from '@rookery/core';
import { ResticDriver, RusticDriver } from '@rookery/backup';
import { backupDriverConformance } from '@rookery/backup/testing';
import type { BackupDriver } from '@rookery/backup';

const { afterAll, beforeAll, describe, expect, it } = jest;

const repositoryIn = async (folder: string) => {
  const passwordFile = join(folder, 'password');
  await writeFile(passwordFile, 'correct horse\n', { mode: 0o600 });
  return { repository: join(folder, 'repository'), passwordFile, workFolder: join(folder, 'work') };
};
const subject = (driver: BackupDriver) => ({ driver, dispose: async () => undefined });

backupDriverConformance('restic', jest, async (folder) =>
  subject(new ResticDriver(await repositoryIn(folder))),
);

describe('a repository of restic', () => {
  const exec = new SystemExec();
  let folder: string;
  let options: Awaited<ReturnType<typeof repositoryIn>>;
  let request: Parameters<BackupDriver['backup']>[0];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rookery-backup-restic-'));
    options = await repositoryIn(folder);
    await new ResticDriver(options).init();
    const source = join(folder, 'source');
    await mkdir(source);
    await writeFile(join(source, 'a'), 'x');
    request = { folders: { project: source }, host: 'project-x', tags: [] };
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('that can only be read is said to be so at once, and not taken for locked', async () => {
    const { repository } = options;
    await exec.run(['mount', '--bind', repository, repository]);
    try {
      await exec.run(['mount', '-o', 'remount,bind,ro', repository]);
      const failed = new ResticDriver(options).backup(request);
      await expect(failed).rejects.toMatchObject({
        code: 'REPOSITORY_READ_ONLY',
        retryable: false,
        message: expect.stringMatching(/read-only file system/),
      });
    } finally {
      await exec.run(['umount', repository]);
    }
    await expect(new ResticDriver(options).backup(request)).resolves.toBeDefined();
  });

  it('keeps no locks of those that were killed', async () => {
    const { repository, passwordFile } = options;
    const locks = () => readdir(join(repository, 'locks'));
    const killed = exec.spawn([
      'restic',
      '--repo',
      repository,
      '--password-file',
      passwordFile,
      '--no-cache',
      'backup',
      '--stdin',
    ]);
    await waitFor('it holds a lock', async () => (await locks()).length > 0, {
      timeoutMs: 20_000,
    });
    killed.kill('SIGKILL');
    await killed.ended;
    expect(await locks()).toHaveLength(1);
    await new ResticDriver(options).backup(request);
    expect(await locks()).toEqual([]);
  });
});

const nowhere = { repository: '/none', passwordFile: '/none', workFolder: '/none' };
if (await new RusticDriver(nowhere).available()) {
  backupDriverConformance('rustic', jest, async (folder) =>
    subject(new RusticDriver(await repositoryIn(folder))),
  );

  describe('restic and rustic over one repository', () => {
    let folder: string;
    let restic: BackupDriver;
    let rustic: BackupDriver;
    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'rookery-backup-both-'));
      const options = await repositoryIn(folder);
      restic = new ResticDriver(options);
      rustic = new RusticDriver(options);
      await restic.init();
      await rustic.open();
    });
    afterAll(() => rm(folder, { recursive: true, force: true }));

    const makers: [string, () => [BackupDriver, BackupDriver]][] = [
      ['restic restores what rustic backed up', () => [rustic, restic]],
      ['rustic restores what restic backed up', () => [restic, rustic]],
    ];
    it.each(makers)('%s', async (name, pick) => {
      const [maker, restorer] = pick();
      const label = name.slice(0, 6);
      const [source, whole, one] = ['source', 'whole', 'one'].map((n) => join(folder, label, n));
      for (const path of [source, whole, one]) await mkdir(path ?? '', { recursive: true });
      const home = join(source ?? '', 'home');
      await mkdir(join(source ?? '', '.snapshots', 'daily'), { recursive: true });
      await mkdir(home);
      await writeFile(join(home, 'a*[1].txt'), name);
      await symlink('a*[1].txt', join(home, 'link'));
      const made = await maker.backup({
        folders: { project: source ?? '' },
        host: `project-${label}`,
        tags: ['manual', `operation:${label}`],
        exclude: ['/project/.snapshots'],
      });
      const [seen] = await restorer.list({ host: `project-${label}`, tag: `operation:${label}` });
      expect(seen?.id).toBe(made.id);
      expect(seen?.tags).toEqual(expect.arrayContaining(['manual']));
      await restorer.restore({ id: made.id, folders: { project: whole ?? '' } });
      expect(await readFile(join(whole ?? '', 'home', 'a*[1].txt'), 'utf8')).toBe(name);
      expect(await readlink(join(whole ?? '', 'home', 'link'))).toBe('a*[1].txt');
      await expect(readFile(join(whole ?? '', '.snapshots', 'daily'))).rejects.toThrow('ENOENT');
      const include = '/project/home/a*[1].txt';
      await restorer.restore({ id: made.id, folders: { project: one ?? '' }, include });
      expect(await readFile(join(one ?? '', 'home', 'a*[1].txt'), 'utf8')).toBe(name);
      await expect(readlink(join(one ?? '', 'home', 'link'))).rejects.toThrow('ENOENT');
      await restorer.check();
    });
  });
} else {
  describe('backup driver rustic', () => {
    it.skip('is not tried, nor with restic: rustic is not installed here', () => undefined);
  });
}
