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
/** restic's own word for "a source file could not be read". */
const incompleteExit = 3;

const Status = z.object({
  message_type: z.literal('status'),
  bytes_done: z.number().default(0),
  total_bytes: z.number().default(0),
});
const Summary = z.object({
  message_type: z.literal('summary'),
  data_added: z.number(),
  total_files_processed: z.number(),
  total_bytes_processed: z.number(),
  total_duration: z.number(),
  snapshot_id: z.string(),
});
type Summary = z.infer<typeof Summary>;
const SnapshotJson = z.object({
  id: z.string(),
  time: z.string(),
  hostname: z.string().default(''),
  tags: z.array(z.string()).nullish(),
  // Since restic 0.17.
  summary: z
    .object({
      backup_start: z.string(),
      backup_end: z.string(),
      data_added: z.number(),
      total_files_processed: z.number(),
      total_bytes_processed: z.number(),
    })
    .optional(),
});

export interface ResticOptions extends RepositoryOptions {
  /** Default `restic`. */
  readonly program?: string;
}

/** restic 0.14 or newer. */
export class ResticDriver extends BackupDriver {
  readonly name = 'restic';
  private readonly program: RepositoryProgram;
  /** Opening derives a key, which takes half a second: once is enough. */
  private opened = false;

  constructor(
    private readonly options: ResticOptions,
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
      await this.exec.run([this.options.program ?? 'restic', 'version'], { timeoutMs: 10_000 });
      return true;
    } catch (error) {
      if (CodedError.is(error, 'COMMAND_MISSING')) return false;
      throw error;
    }
  }

  async open(): Promise<void> {
    if (this.opened) return;
    try {
      await this.restic(['cat', 'config', '--no-lock'], { timeoutMs: quickMs });
    } catch (error) {
      if (!CodedError.is(error, 'REPOSITORY_UNREACHABLE')) throw error;
      await this.init(error);
    }
    this.opened = true;
  }

  /** "Cannot be opened" may mean "is not there yet"; a second host may make it at the same time. */
  private async init(unreachable: CodedError): Promise<void> {
    try {
      await this.restic(['init'], { timeoutMs: quickMs });
    } catch (error) {
      await this.restic(['cat', 'config', '--no-lock'], { timeoutMs: quickMs }).catch(() => {
        const reason = reasonOf(error) || reasonOf(unreachable);
        throw BackupErrors.REPOSITORY_UNREACHABLE(
          { repository: this.repository, reason },
          { cause: error },
        );
      });
    }
  }

  async backup(request: BackupRequest): Promise<StoredBackup> {
    let summary: Summary | undefined;
    const exclude = (request.exclude ?? []).map((path) => join(this.program.staged('.'), path));
    try {
      await this.restic(
        [
          ...['backup', '--json', '--host', request.host],
          ...request.tags.flatMap((tag) => ['--tag', tag]),
          ...exclude.flatMap((path) => ['--exclude', escapeGlob(path)]),
          ...['--', ...Object.keys(request.folders)],
        ],
        {
          folders: request.folders,
          okExits: request.live ? [0, incompleteExit] : [0],
          ...(request.signal && { signal: request.signal }),
          onLine: (line) => {
            const json = parseJson(line);
            const status = Status.safeParse(json);
            if (status.success) {
              const { bytes_done: done, total_bytes: total } = status.data;
              request.onProgress?.({ step: 'backup', done, total, unit: 'bytes' });
            }
            const last = Summary.safeParse(json);
            if (last.success) summary = last.data;
          },
        },
      );
    } catch (error) {
      throw this.program.failure(error, 'BACKUP_FAILED', 'REPOSITORY_FULL');
    }
    if (!summary) throw BackupErrors.BACKUP_FAILED({ reason: 'restic gave no summary' });
    const [stored] = await this.snapshots([summary.snapshot_id]);
    if (!stored) throw BackupErrors.BACKUP_FAILED({ reason: 'the new backup is not listed' });
    return {
      ...stored,
      summary: {
        bytes: summary.total_bytes_processed,
        files: summary.total_files_processed,
        bytesAdded: summary.data_added,
        durationMs: Math.round(summary.total_duration * 1000),
      },
    };
  }

  async list(filter: { host?: string; tag?: string }): Promise<StoredBackup[]> {
    return this.snapshots([
      ...(filter.host === undefined ? [] : ['--host', filter.host]),
      ...(filter.tag === undefined ? [] : ['--tag', filter.tag]),
    ]);
  }

  async restore(request: RestoreRequest): Promise<void> {
    const wanted = Object.keys(request.folders).map((name) => `/${name}`);
    const include = request.include === undefined ? wanted : [request.include];
    // restic takes includes or excludes, not both; what is left out is a handful of empty folders.
    const filters =
      request.include === undefined && request.exclude?.length
        ? request.exclude.flatMap((path) => ['--exclude', escapeGlob(path)])
        : include.flatMap((path) => ['--include', escapeGlob(path)]);
    try {
      await this.restic(['restore', request.id, '--target', this.program.staged('.'), ...filters], {
        folders: request.folders,
        ...(request.signal && { signal: request.signal }),
        ...(request.onProgress && {
          onWritten: (bytes) =>
            request.onProgress?.({
              step: 'restore',
              done: Math.min(bytes, request.bytesExpected ?? bytes),
              ...(request.bytesExpected !== undefined && { total: request.bytesExpected }),
              unit: 'bytes',
            }),
        }),
      });
    } catch (error) {
      throw this.program.failure(error, 'RESTORE_FAILED', 'RESTORE_DISK_FULL');
    }
  }

  async forget(id: string): Promise<void> {
    try {
      await this.restic(['forget', id], { timeoutMs: quickMs });
    } catch (error) {
      if (!CodedError.is(error, 'BACKUP_NOT_FOUND')) throw error;
    }
  }

  async check(signal?: AbortSignal): Promise<void> {
    try {
      await this.restic(['check'], signal ? { signal } : {});
    } catch (error) {
      if (!CodedError.is(error, 'COMMAND_FAILED')) throw error;
      throw BackupErrors.REPOSITORY_DAMAGED(
        { repository: this.repository, reason: reasonOf(error) },
        { cause: error },
      );
    }
  }

  private async snapshots(args: readonly string[]): Promise<StoredBackup[]> {
    let text = '';
    await this.restic(['snapshots', '--json', '--no-lock', ...args], {
      timeoutMs: quickMs,
      onLine: (line) => (text += line),
    });
    const found = z.array(SnapshotJson).nullable().parse(parseJson(text)) ?? [];
    return found.map(toStored);
  }

  private restic(args: readonly string[], options: RunOptions): Promise<number> {
    return this.program.run([...this.base(), ...args], {
      ...options,
      // Removes locks of processes that are dead, or that have not refreshed theirs for half an hour.
      unlock: async () => {
        await this.exec.run([...this.base(), 'unlock'], this.quick()).catch(() => undefined);
      },
    });
  }

  private base(): string[] {
    const { program = 'restic', repository, passwordFile, workFolder } = this.options;
    return [
      ...[program, '--repo', repository, '--password-file', passwordFile],
      ...['--cache-dir', join(workFolder, 'cache')],
    ];
  }

  private quick(): { timeoutMs: number; env?: Readonly<Record<string, string>> } {
    return { timeoutMs: quickMs, ...(this.options.env && { env: this.options.env }) };
  }
}

function toStored(json: z.infer<typeof SnapshotJson>): StoredBackup {
  const { summary } = json;
  return {
    id: json.id,
    createdAt: Date.parse(json.time),
    host: json.hostname,
    tags: json.tags ?? [],
    ...(summary && {
      summary: {
        bytes: summary.total_bytes_processed,
        files: summary.total_files_processed,
        bytesAdded: summary.data_added,
        durationMs: Date.parse(summary.backup_end) - Date.parse(summary.backup_start),
      },
    }),
  };
}

/** restic matches with Go's path.Match, where a backslash takes the meaning from the next letter. */
function escapeGlob(path: string): string {
  return path.replace(/[\\*?[\]]/g, '\\$&');
}
