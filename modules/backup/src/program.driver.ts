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
  reasonOf,
  RepositoryProgram,
  type RepositoryOptions,
  type RunOptions,
} from './repository-program.js';

/** For what reads or writes a few small files of the repository. */
export const quickMs = 60_000;

/** restic before 0.17 goes on after what it cannot read, and then ends as if all were well. */
const restoreFailed = /^ignoring error for |^There were \d+ errors/im;

export interface ProgramDriverOptions extends RepositoryOptions {
  /** Name or path of the program. Default: the driver's name, found by PATH. */
  readonly program?: string;
}

/** What both programs' snapshots have in common: they come from one repository format. */
export const SnapshotJson = z.object({
  id: z.string(),
  time: z.string(),
  hostname: z.string().default(''),
  tags: z.array(z.string()).nullish(),
});
export const SummaryJson = z.object({
  data_added: z.number(),
  total_files_processed: z.number(),
  total_bytes_processed: z.number(),
});

/** The programs that speak restic's repository format, as far as they are called alike. */
export abstract class ProgramDriver extends BackupDriver {
  protected readonly program: RepositoryProgram;
  /** Opening derives a key, which takes half a second: once is enough. */
  private opened = false;

  constructor(
    protected readonly options: ProgramDriverOptions,
    protected readonly exec: Exec = new SystemExec(),
  ) {
    super();
    this.program = new RepositoryProgram(exec, options);
  }

  /** The program's argument that makes it print its version. */
  protected abstract readonly versionArg: string;
  /** Opens the repository, or makes one; another host may make it at the same time. */
  protected abstract connect(): Promise<void>;
  protected abstract makeBackup(request: BackupRequest): Promise<StoredBackup>;
  /** Of the folders' staged names, numeric owners, filters. */
  protected abstract restoreArgs(request: RestoreRequest): readonly string[];
  /** Runs the program with the repository's arguments before these. */
  protected abstract call(args: readonly string[], options: RunOptions): Promise<number>;

  get repository(): string {
    return this.program.repository;
  }

  async available(): Promise<boolean> {
    try {
      await this.exec.run([this.command, this.versionArg], { timeoutMs: 10_000 });
      return true;
    } catch (error) {
      if (CodedError.is(error, 'COMMAND_MISSING')) return false;
      throw error;
    }
  }

  async open(): Promise<void> {
    if (this.opened) return;
    await this.connect();
    this.opened = true;
  }

  async backup(request: BackupRequest): Promise<StoredBackup> {
    try {
      return await this.makeBackup(request);
    } catch (error) {
      throw this.program.failure(error, 'BACKUP_FAILED', 'REPOSITORY_FULL');
    }
  }

  async restore(request: RestoreRequest): Promise<void> {
    const { bytesExpected: total } = request;
    try {
      const cache = request.fresh === true ? ['--no-cache'] : [];
      await this.call([...this.restoreArgs(request), ...cache], {
        folders: request.folders,
        failedIf: restoreFailed,
        ...(request.signal && { signal: request.signal }),
        ...(request.onProgress && {
          onWritten: (bytes) =>
            request.onProgress?.({
              step: 'restore',
              done: Math.min(bytes, total ?? bytes),
              ...(total !== undefined && { total }),
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
      await this.call(['forget', id], { timeoutMs: quickMs });
    } catch (error) {
      if (!CodedError.is(error, 'BACKUP_NOT_FOUND')) throw error;
    }
  }

  async check(signal?: AbortSignal): Promise<void> {
    try {
      await this.call(['check'], signal ? { signal } : {});
    } catch (error) {
      if (!CodedError.is(error, 'COMMAND_FAILED')) throw error;
      throw BackupErrors.REPOSITORY_DAMAGED(
        { repository: this.repository, reason: reasonOf(error) },
        { cause: error },
      );
    }
  }

  protected get command(): string {
    return this.options.program ?? this.name;
  }
}

/** @param summary of the run that made it, and how long that took. */
export function storedOf(
  json: z.infer<typeof SnapshotJson>,
  summary: z.infer<typeof SummaryJson> | null | undefined,
  durationMs: () => number,
): StoredBackup {
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
        durationMs: Math.round(durationMs()),
      },
    }),
  };
}
