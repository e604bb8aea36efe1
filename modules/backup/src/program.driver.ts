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
  noConnection,
  parseJson,
  reasonOf,
  RepositoryProgram,
  type RepositoryOptions,
  type RunOptions,
} from './repository-program.js';

/** For what reads or writes a few small files of the repository. */
export const quickMs = 60_000;

/** restic before 0.17 goes on after what it cannot read, and then ends as if all were well. */
const restoreFailed = /^ignoring error for |^There were \d+ errors/im;

const RepositoryConfig = z.object({ id: z.string().regex(/^[0-9a-f]{8,64}$/) });
/** Where the place of a repository answered, and none is there. */
const notThere = /no such file|does not exist|No repository config file|not ?found|NoSuch|\b404\b/i;

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

  constructor(
    protected readonly options: ProgramDriverOptions,
    protected readonly exec: Exec = new SystemExec(),
  ) {
    super();
    this.program = new RepositoryProgram(exec, options);
  }

  /** The program's argument that makes it print its version. */
  protected abstract readonly versionArg: string;
  /** Makes the program print the repository's configuration. */
  protected abstract readonly configArgs: readonly string[];
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

  /** Each time anew: the folder may lie on a disk that is not mounted any more. */
  async open(): Promise<string> {
    let text = '';
    try {
      await this.call(this.configArgs, {
        timeoutMs: quickMs,
        onLine: (line) => (text += `${line}\n`),
      });
    } catch (error) {
      const isMissing =
        CodedError.is(error, 'REPOSITORY_UNREACHABLE') &&
        notThere.test(error.message) &&
        !noConnection.test(error.message);
      if (!isMissing) throw error;
      const { repository } = this;
      throw BackupErrors.REPOSITORY_MISSING({ repository }, { cause: error });
    }
    return RepositoryConfig.parse(parseJson(text)).id;
  }

  async init(): Promise<string> {
    try {
      return await this.open();
    } catch (error) {
      if (!CodedError.is(error, 'REPOSITORY_MISSING')) throw error;
    }
    let failure: unknown;
    // Another host may make it at the same time: what counts is that it opens afterwards.
    await this.call(['init'], { timeoutMs: quickMs }).catch((error: unknown) => (failure = error));
    return this.open().catch((error: unknown) => {
      throw failure ?? error;
    });
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
