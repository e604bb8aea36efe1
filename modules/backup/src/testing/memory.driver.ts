import { createHash, randomBytes } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoreErrors } from '@rookery/core';
import {
  BackupDriver,
  type BackupRequest,
  type RestoreRequest,
  type StoredBackup,
} from '../backup.driver.js';
import { BackupErrors } from '../backup.errors.js';

/**
 * Keeps backups as plain copies in a temporary folder, for tests and examples without a backup
 * program. Copies what Node copies: contents, modes, times and links, not xattrs or devices.
 */
export class MemoryBackupDriver extends BackupDriver implements AsyncDisposable {
  readonly name = 'restic';
  readonly repository = 'memory';
  private folder: string | undefined;
  private readonly backups = new Map<string, StoredBackup>();

  async available(): Promise<boolean> {
    return true;
  }

  async open(): Promise<string> {
    if (this.folder === undefined) {
      throw BackupErrors.REPOSITORY_MISSING({ repository: this.repository });
    }
    return createHash('sha256').update(this.folder).digest('hex');
  }

  async init(): Promise<string> {
    this.folder ??= await mkdtemp(join(tmpdir(), 'rookery-backups-'));
    return this.open();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.folder !== undefined) await rm(this.folder, { recursive: true, force: true });
    this.folder = undefined;
  }

  async backup(request: BackupRequest): Promise<StoredBackup> {
    if (request.signal?.aborted) throw CoreErrors.CANCELED();
    const startedAt = Date.now();
    const id = createHash('sha256').update(randomBytes(32)).digest('hex');
    const excluded = new Set(request.exclude ?? []);
    for (const [name, source] of Object.entries(request.folders)) {
      await copy(source, join(this.at(id), name), (path) => !excluded.has(`/${name}${path}`));
    }
    const { bytes, files } = await count(this.at(id));
    const stored: StoredBackup = {
      id,
      createdAt: Date.now(),
      host: request.host,
      tags: [...request.tags],
      summary: { bytes, files, bytesAdded: bytes, durationMs: Date.now() - startedAt },
    };
    request.onProgress?.({ step: 'backup', done: bytes, total: bytes, unit: 'bytes' });
    this.backups.set(id, stored);
    return stored;
  }

  async list(filter: { host?: string; tag?: string }): Promise<StoredBackup[]> {
    return [...this.backups.values()]
      .filter(({ host }) => filter.host === undefined || host === filter.host)
      .filter(({ tags }) => filter.tag === undefined || tags.includes(filter.tag));
  }

  async restore(request: RestoreRequest): Promise<void> {
    if (request.signal?.aborted) throw CoreErrors.CANCELED();
    if (!this.backups.has(request.id)) {
      throw BackupErrors.BACKUP_NOT_FOUND({ backupId: request.id, repository: this.repository });
    }
    const excluded = new Set(request.exclude ?? []);
    const { include } = request;
    for (const [name, target] of Object.entries(request.folders)) {
      await copy(join(this.at(request.id), name), target, (path) => {
        const full = `/${name}${path}`;
        if (excluded.has(full)) return false;
        if (include === undefined) return true;
        return full === include || full.startsWith(`${include}/`) || include.startsWith(`${full}/`);
      });
    }
  }

  async forget(id: string): Promise<void> {
    if (this.backups.delete(id)) await rm(this.at(id), { recursive: true, force: true });
  }

  async check(): Promise<void> {
    for (const id of this.backups.keys()) {
      await stat(this.at(id)).catch((cause: unknown) => {
        const reason = `the copy of ${id} is gone`;
        throw BackupErrors.REPOSITORY_DAMAGED({ repository: this.repository, reason }, { cause });
      });
    }
  }

  private at(id: string): string {
    if (this.folder === undefined) {
      throw BackupErrors.REPOSITORY_UNREACHABLE({ repository: 'memory', reason: 'not opened' });
    }
    return join(this.folder, id);
  }
}

async function copy(from: string, to: string, keep: (path: string) => boolean): Promise<void> {
  await mkdir(to, { recursive: true });
  await cp(from, to, {
    recursive: true,
    preserveTimestamps: true,
    verbatimSymlinks: true,
    filter: (source) => keep(source.slice(from.length)),
  });
}

async function count(folder: string): Promise<{ bytes: number; files: number }> {
  let bytes = 0;
  let files = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    files += 1;
    bytes += (await stat(join(entry.parentPath, entry.name))).size;
  }
  return { bytes, files };
}
