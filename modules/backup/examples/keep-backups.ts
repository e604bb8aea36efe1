/** Backs up a project and restores it as a new one: `BackupModule` alone, no host around it. */
import 'reflect-metadata';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackupModule, BackupService } from '@rookery/backup';
import {
  MemoryBackupDriver,
  MemoryBackupJournal,
  MemoryBackupProjects,
} from '@rookery/backup/testing';
import { MiB, newId } from '@rookery/core';
import { ProjectSpec } from '@rookery/core/contract';
import type { JobContext } from '@rookery/rpc/contract';
import { MemoryStorageDriver } from '@rookery/storage';

@Module({})
class App {}

/** @returns what the restored project holds. */
export async function keepBackups(): Promise<string> {
  const workFolder = await mkdtemp(join(tmpdir(), 'rookery-example-'));
  const storage = new MemoryStorageDriver();
  await storage.open();
  await using driver = new MemoryBackupDriver(); // chooseBackupDriver({ repository: … }) elsewhere
  const projects = new MemoryBackupProjects();
  const parts = { driver, storage, projects, journal: new MemoryBackupJournal() };
  const imports = [BackupModule.forRoot({ workFolder, parts })];
  const app = await NestFactory.createApplicationContext(
    { module: App, imports },
    { logger: false },
  );
  const backups = app.get(BackupService);
  try {
    await backups.init({}); // once: nothing else makes a repository
    const [projectId, copyId] = [newId(), newId()];
    const volume = await storage.createVolume(projectId, { quotaBytes: 100 * MiB });
    await writeFile(join(volume.paths.home, 'note.txt'), 'kept');
    projects.generations.set(projectId, 1);

    const spec = ProjectSpec.parse({ image: 'localhost/rookery/debian:13', quota: {} });
    const fence = (id: string) => ({
      projectId: id,
      generation: 1,
      operationId: newId(),
      attempt: 1,
    });
    const { backupId } = await backups.run({ fence: fence(projectId), spec, tags: [] }, context());
    const restore = { fromProjectId: projectId, backupId, spec, replace: false };
    await backups.restore({ fence: fence(copyId), ...restore }, context());
    const copy = await storage.volume(copyId);
    return await readFile(join(copy?.paths.home ?? '', 'note.txt'), 'utf8');
  } finally {
    await app.close();
    await storage.close();
    await rm(workFolder, { recursive: true, force: true });
  }
}

const context = (): JobContext => ({
  params: {},
  caller: 'hub',
  signal: new AbortController().signal,
  progress: () => undefined,
});
