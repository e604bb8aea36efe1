import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Progress } from '@rookery/core/contract';
import type { TestKit } from '@rookery/core/testing';
import type { BackupDriver } from '../backup.driver.js';

export interface BackupDriverSubject {
  readonly driver: BackupDriver;
  dispose(): Promise<void>;
}

/** What every backup driver must do; called by each driver's test with a factory. */
export function backupDriverConformance(
  name: string,
  { afterAll, beforeAll, describe, expect, it }: TestKit,
  make: (folder: string) => Promise<BackupDriverSubject>,
): void {
  describe(`backup driver ${name}`, () => {
    let folder: string;
    let subject: BackupDriverSubject;
    let driver: BackupDriver;
    let id: string;

    beforeAll(async () => {
      folder = await mkdtemp(join(tmpdir(), 'rookery-backup-'));
      subject = await make(folder);
      driver = subject.driver;
      await expect(driver.open()).rejects.toMatchObject({ code: 'REPOSITORY_MISSING' });
      id = await driver.init();
    });
    afterAll(async () => {
      await subject?.dispose();
      await rm(folder, { recursive: true, force: true });
    });

    const source = async (label: string): Promise<string> => {
      const path = join(folder, `source-${label}`);
      await mkdir(join(path, 'home', 'deep'), { recursive: true });
      await mkdir(join(path, '.snapshots', 'daily'), { recursive: true });
      await writeFile(join(path, 'home', 'a*[1].txt'), `hello ${label}`);
      await writeFile(join(path, 'home', 'deep', 'b'), Buffer.alloc(100_000, label));
      await chmod(join(path, 'home', 'deep', 'b'), 0o640);
      await symlink('/etc/passwd', join(path, 'home', 'link'));
      return path;
    };
    const empty = async (label: string): Promise<string> => {
      const path = join(folder, `target-${label}`);
      await mkdir(path, { recursive: true });
      return path;
    };
    const make1 = async (label: string, tags: string[] = []) =>
      driver.backup({
        folders: { project: await source(label) },
        host: `project-${label}`,
        tags: [`operation:${label}`, ...tags],
        exclude: ['/project/.snapshots'],
      });

    it('makes a repository when it is told to, once, and knows it again', async () => {
      expect(id).toMatch(/^[0-9a-f]{8,64}$/);
      expect(await driver.open()).toBe(id);
      expect(await driver.init()).toBe(id);
    });

    it('tells what it backed up and lists it by host and by tag', async () => {
      const progress: Progress[] = [];
      const made = await driver.backup({
        folders: { project: await source('list') },
        host: 'project-list',
        tags: ['operation:list', 'daily'],
        onProgress: (step) => progress.push(step),
      });
      expect(made.host).toBe('project-list');
      // Two files and a link, which not every program counts.
      expect([2, 3]).toContain(made.summary?.files);
      expect(made.id).toMatch(/^[0-9a-f]{64}$/);
      expect(made.tags).toEqual(expect.arrayContaining(['operation:list', 'daily']));
      expect(progress.every(({ step }) => step === 'backup')).toBe(true);
      expect(Math.abs(made.createdAt - Date.now())).toBeLessThan(120_000);
      const ids = async (filter: { host?: string; tag?: string }): Promise<string[]> =>
        (await driver.list(filter)).map(({ id }) => id);
      expect(await ids({ host: 'project-list' })).toEqual([made.id]);
      expect(await ids({ tag: 'operation:list' })).toEqual([made.id]);
      expect(await ids({ host: 'project-none' })).toEqual([]);
      expect(await ids({ host: 'project-list', tag: 'none' })).toEqual([]);
      expect(await ids({})).toContain(made.id);
    });

    it('restores several folders whole, without what was excluded', async () => {
      const persistence = join(folder, 'persistence');
      await mkdir(persistence, { recursive: true });
      await writeFile(join(persistence, 'store.db'), 'rows');
      const made = await driver.backup({
        folders: { project: await source('whole'), persistence },
        host: 'project-whole',
        tags: [],
        exclude: ['/project/.snapshots'],
      });
      const project = await empty('whole');
      const store = await empty('whole-store');
      await driver.restore({ id: made.id, folders: { project, persistence: store } });
      expect(await readFile(join(project, 'home', 'a*[1].txt'), 'utf8')).toBe('hello whole');
      expect((await stat(join(project, 'home', 'deep', 'b'))).mode & 0o777).toBe(0o640);
      expect(await readFile(join(store, 'store.db'), 'utf8')).toBe('rows');
      await expect(stat(join(project, '.snapshots'))).rejects.toThrow('ENOENT');
    });

    it('restores one path, whatever letters its name has', async () => {
      const made = await make1('path');
      const project = await empty('path');
      const include = '/project/home/a*[1].txt';
      await driver.restore({ id: made.id, folders: { project }, include });
      expect(await readFile(join(project, 'home', 'a*[1].txt'), 'utf8')).toBe('hello path');
      await expect(stat(join(project, 'home', 'deep'))).rejects.toThrow('ENOENT');
      await expect(stat(join(project, 'home', 'link'))).rejects.toThrow('ENOENT');
    });

    it('says so when there is no such backup', async () => {
      const project = await empty('missing');
      const call = driver.restore({ id: 'f'.repeat(64), folders: { project } });
      await expect(call).rejects.toMatchObject({ code: 'BACKUP_NOT_FOUND' });
    });

    it('forgets a backup, and forgets it again', async () => {
      const made = await make1('forget');
      await driver.forget(made.id);
      await driver.forget(made.id);
      expect(await driver.list({ host: 'project-forget' })).toEqual([]);
    });

    it('adds nothing when it is canceled', async () => {
      const call = driver.backup({
        folders: { project: await source('cancel') },
        host: 'project-cancel',
        tags: [],
        signal: AbortSignal.abort(),
      });
      await expect(call).rejects.toMatchObject({ code: 'CANCELED' });
      expect(await driver.list({ host: 'project-cancel' })).toEqual([]);
    });

    it('finds its repository sound', async () => {
      await driver.check();
    });
  });
}
