import { join } from 'node:path';
import { CodedError, SystemExec, type Exec } from '@rookery/core';
import { z } from 'zod';
import {
  BackupDriver,
  type BackupRequest,
  type RestoreRequest,
  type StoredBackup,
} from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import {
  parseJson,
  reasonOf,
  RepositoryProgram,
  type RepositoryOptions,
  type RunOptions,
} from './repository-program.js';

const quickMs = 60_000;

const SnapshotJson = z.object({
  id: z.string(),
  time: z.string(),
  hostname: z.string().default(''),
  tags: z.array(z.string()).default([]),
  summary: z
    .object({
      total_bytes_processed: z.number(),
      total_files_processed: z.number(),
      data_added: z.number(),
      total_duration: z.number(),
    })
    .nullish(),
});

/** A group is a pair before rustic 0.10, an object since. */
const SnapshotGroups = z.array(
  z.union([
    z.tuple([z.unknown(), z.array(SnapshotJson)]).transform(([, snapshots]) => snapshots),
    z.object({ snapshots: z.array(SnapshotJson) }).transform((group) => group.snapshots),
  ]),
);

export interface RusticOptions extends RepositoryOptions {
  /** Default `rustic`. */
  readonly program?: string;
}

/** rustic 0.9 or newer: restic's repository format without locks. */
export class RusticDriver extends BackupDriver {
  readonly name = 'rustic';
  private readonly program: RepositoryProgram;
  /** Opening derives a key, which takes half a second: once is enough. */
  private opened = false;

  constructor(
    private readonly options: RusticOptions,
    private readonly exec: Exec = new SystemExec(),
  ) {
    super();
    this.program = new RepositoryProgram(exec, options);
  }

  get repository(): string {
    return this.program.repository;
  }

  async available(): Promise<boolean> {
    try {
      await this.exec.run([this.options.program ?? 'rustic', '--version'], { timeoutMs: 10_000 });
      return true;
    } catch (error) {
      if (CodedError.is(error, 'COMMAND_MISSING')) return false;
      throw error;
    }
  }

  async open(): Promise<void> {
    if (this.opened) return;
    const probe = () => this.rustic(['cat', 'config'], { timeoutMs: quickMs });
    try {
      await probe();
    } catch (error) {
      if (!CodedError.is(error, 'REPOSITORY_UNREACHABLE')) throw error;
      // Another host may have made it meanwhile: what counts is that it opens afterwards.
      await this.rustic(['init'], { timeoutMs: quickMs }).catch(() => undefined);
      await probe();
    }
    this.opened = true;
  }

  async backup(request: BackupRequest): Promise<StoredBackup> {
    const exclude = (request.exclude ?? []).map((path) => join(this.program.staged('.'), path));
    try {
      const stored = await this.json(
        [
          ...['backup', '--json', '--host', request.host],
          ...request.tags.flatMap((tag) => ['--tag', tag]),
          ...exclude.flatMap((path) => ['--glob', `!${escapeGlob(path)}`]),
          ...Object.keys(request.folders),
        ],
        SnapshotJson,
        {
          folders: request.folders,
          ...(request.signal && { signal: request.signal }),
        },
      );
      return toStored(stored);
    } catch (error) {
      throw this.program.failure(error, 'BACKUP_FAILED', 'REPOSITORY_FULL');
    }
  }

  async list(filter: { host?: string; tag?: string }): Promise<StoredBackup[]> {
    const groups = await this.json(['snapshots', '--json'], SnapshotGroups, { timeoutMs: quickMs });
    return groups
      .flat()
      .map(toStored)
      .filter(({ host }) => filter.host === undefined || host === filter.host)
      .filter(({ tags }) => filter.tag === undefined || tags.includes(filter.tag));
  }

  async restore(request: RestoreRequest): Promise<void> {
    const roots =
      request.include === undefined
        ? Object.keys(request.folders).map((name) => `/${name}`)
        : [request.include];
    const globs = [
      ...roots.flatMap((path) => [escapeGlob(path), `${escapeGlob(path)}/**`]),
      ...(request.exclude ?? []).map((path) => `!${escapeGlob(path)}`),
    ];
    try {
      await this.rustic(
        [
          ...['restore', '--numeric-id'],
          ...globs.flatMap((glob) => ['--glob', glob]),
          ...[request.id, this.program.staged('.')],
        ],
        {
          folders: request.folders,
          ...(request.signal && { signal: request.signal }),
          onWritten: (bytes) =>
            request.onProgress?.({
              step: 'restore',
              done: Math.min(bytes, request.bytesExpected ?? bytes),
              ...(request.bytesExpected !== undefined && { total: request.bytesExpected }),
              unit: 'bytes',
            }),
        },
      );
    } catch (error) {
      throw this.program.failure(error, 'RESTORE_FAILED', 'RESTORE_DISK_FULL');
    }
  }

  async forget(id: string): Promise<void> {
    try {
      await this.rustic(['forget', id], { timeoutMs: quickMs });
    } catch (error) {
      if (!CodedError.is(error, 'BACKUP_NOT_FOUND')) throw error;
    }
  }

  async check(signal?: AbortSignal): Promise<void> {
    try {
      await this.rustic(['check'], signal ? { signal } : {});
    } catch (error) {
      if (!CodedError.is(error, 'COMMAND_FAILED')) throw error;
      throw BackupErrors.REPOSITORY_DAMAGED(
        { repository: this.repository, reason: reasonOf(error) },
        { cause: error },
      );
    }
  }

  private async json<T extends z.ZodType>(
    args: readonly string[],
    schema: T,
    options: RunOptions,
  ): Promise<z.output<T>> {
    let text = '';
    await this.rustic(args, { ...options, onLine: (line) => (text += `${line}\n`) });
    return schema.parse(parseJson(text));
  }

  private rustic(args: readonly string[], options: RunOptions): Promise<number> {
    const { program = 'rustic', repository, passwordFile, workFolder } = this.options;
    const base = [
      ...[program, '--no-progress', '--repository', repository],
      ...['--password-file', passwordFile, '--cache-dir', join(workFolder, 'rustic-cache')],
    ];
    return this.program.run([...base, ...args], options);
  }
}

function toStored(json: z.infer<typeof SnapshotJson>): StoredBackup {
  const { summary } = json;
  return {
    id: json.id,
    createdAt: Date.parse(json.time),
    host: json.hostname,
    tags: json.tags,
    ...(summary && {
      summary: {
        bytes: summary.total_bytes_processed,
        files: summary.total_files_processed,
        bytesAdded: summary.data_added,
        durationMs: Math.round(summary.total_duration * 1000),
      },
    }),
  };
}

/** rustic's globs are gitignore's: a backslash takes the meaning from the next letter. */
function escapeGlob(path: string): string {
  return path.replace(/[\\*?[\]{}!]/g, '\\$&');
}
