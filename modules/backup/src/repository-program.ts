import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { stripVTControlCharacters } from 'node:util';
import {
  backoffMs,
  CodedError,
  CoreErrors,
  SystemClock,
  toCodedError,
  type Clock,
  type Exec,
  oomScore,
} from '@rookery/core';
import type { BackupFolders } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';

/** How a repository is reached; the same for every program. */
export interface RepositoryOptions {
  /** Folder or address as the program understands it. */
  readonly repository: string;
  readonly passwordFile: string;
  /** Shown and recorded in place of the address. Default: the address without credentials. */
  readonly repositoryName?: string;
  /** Holds the cache and the mount points; survives restarts, may be lost. */
  readonly workFolder: string;
  /** Added to the program's environment: credentials of S3, REST and the like. */
  readonly env?: Readonly<Record<string, string>>;
  /** How long a foreign lock is waited for. Default 60 s. */
  readonly lockWaitMs?: number;
}

/**
 * Mounts folders under fixed names in a mount namespace of the program's own, so that every backup
 * holds `/project`, `/persistence` … wherever they were, and the next run recognizes unchanged
 * files. The namespace ends with the program: no mount can be left behind. Overlays and network
 * namespaces that came along are unmounted there first, so that this copy does not keep a
 * container's upper busy after the container stopped.
 */
const stageScript = [
  'umount -n -a -t overlay,nsfs 2>/dev/null',
  'stage=$1; shift',
  'while [ "$1" != -- ]; do mount --bind "$2" "$stage/$1" || exit 101; shift 2; done; shift',
  'cd "$stage" && exec "$@"',
].join('\n');
const mountFailedExit = 101;

const lockRetry = { firstMs: 500, maxMs: 10_000 };
const stderrKeptChars = 4000;
const lineCharsMax = 1024 * 1024;

export interface RunOptions {
  readonly folders?: BackupFolders;
  readonly okExits?: readonly number[];
  /** What it says on stderr when it failed in part and yet ends with a good status. */
  readonly failedIf?: RegExp;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly onLine?: (line: string) => void;
  /** Called about twice a second with the bytes the program has written. */
  readonly onWritten?: (bytes: number) => void;
  /** Ends locks whose owners are dead, before another try. */
  readonly unlock?: () => Promise<void>;
}

/** Runs a backup program: stage, lines of output, progress, lock retries, coded errors. */
export class RepositoryProgram {
  readonly repository: string;
  private readonly stage: string;

  constructor(
    private readonly exec: Exec,
    private readonly options: RepositoryOptions,
    private readonly clock: Clock = new SystemClock(),
  ) {
    this.repository = options.repositoryName ?? withoutCredentials(options.repository);
    this.stage = join(options.workFolder, 'stage');
  }

  /** Path of a folder of the backup while the program runs. */
  staged(name: string): string {
    return join(this.stage, name);
  }

  /** @returns the exit status, one of `okExits`. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<number> {
    const deadline = this.clock.now() + (this.options.lockWaitMs ?? 60_000);
    for (let n = 0; ; n += 1) {
      try {
        return await this.once(argv, options);
      } catch (error) {
        if (!CodedError.is(error, 'REPOSITORY_LOCKED') || this.clock.now() >= deadline) throw error;
        await options.unlock?.();
        await this.clock.delay(backoffMs(n, lockRetry), options.signal);
      }
    }
  }

  /** Gives a failed command its meaning: no room, or else what was asked for failed. */
  failure(
    error: unknown,
    failed: 'BACKUP_FAILED' | 'RESTORE_FAILED',
    full: 'REPOSITORY_FULL' | 'RESTORE_DISK_FULL',
  ): CodedError {
    if (!CodedError.is(error, 'COMMAND_FAILED')) return toCodedError(error);
    const reason = reasonOf(error);
    if (failed === 'BACKUP_FAILED' && /read-only file system/i.test(reason)) {
      return BackupErrors.REPOSITORY_READ_ONLY(
        { repository: this.repository, reason },
        { cause: error },
      );
    }
    const code = /no space left|disk quota exceeded/i.test(reason) ? full : failed;
    return BackupErrors[code]({ repository: this.repository, reason }, { cause: error });
  }

  private async once(argv: readonly string[], options: RunOptions): Promise<number> {
    const { signal } = options;
    if (signal?.aborted) throw CoreErrors.CANCELED();
    // The program dies with this process: a half-done backup without an owner would only hold locks.
    const whole = [
      'setpriv',
      '--pdeathsig',
      'KILL',
      ...(options.folders ? await this.staging(options.folders) : []),
      ...argv,
    ];
    const timeout = new AbortController();
    const timeoutMs = options.timeoutMs ?? 24 * 3_600_000;
    const timer = setTimeout(() => timeout.abort(), timeoutMs);
    const hopeless = new AbortController();
    const child = this.exec.spawn(whole, {
      env: { ...this.options.env, RESTIC_PROGRESS_FPS: '2' },
      // It is run again: better than a project's end.
      oomScoreAdj: oomScore.expendable,
      signal: AbortSignal.any([timeout.signal, hopeless.signal, ...(signal ? [signal] : [])]),
    });
    const meter = options.onWritten && child.pid && watchWritten(child.pid, options.onWritten);
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString('utf8')).slice(-stderrKeptChars);
      // restic would try for a quarter of an hour.
      if (cannotWrite.test(stderr)) hopeless.abort();
    });
    child.stdin.end();
    const lines = createInterface({ input: child.stdout, crlfDelay: Infinity });
    lines.on('line', (line) => line.length <= lineCharsMax && options.onLine?.(line));
    const end = await child.ended.finally(() => {
      clearTimeout(timer);
      if (meter) clearInterval(meter);
    });
    if (end.error)
      throw CoreErrors.COMMAND_MISSING({ command: argv[0] ?? '' }, { cause: end.error });
    // One that was killed leaves its lock behind, which nobody else may take away for half an hour.
    if (end.exit === null && !hopeless.signal.aborted) await options.unlock?.();
    if (signal?.aborted) throw CoreErrors.CANCELED();
    if (timeout.signal.aborted) {
      // It may have said why: restic from 0.17 on tries for a quarter of an hour.
      throw this.knownError(stderr) ?? CoreErrors.TIMEOUT({ what: argv[0] ?? '', timeoutMs });
    }
    const failed = options.failedIf?.test(stderr) === true;
    if (!failed && end.exit !== null && (options.okExits ?? [0]).includes(end.exit)) {
      return end.exit;
    }
    throw this.errorOf(argv[0] ?? '', end.exit ?? end.signal ?? 'not started', stderr);
  }

  private async staging(folders: BackupFolders): Promise<string[]> {
    for (const name of Object.keys(folders)) await mkdir(this.staged(name), { recursive: true });
    const mounts = Object.entries(folders).flatMap(([name, path]) => [name, path]);
    return [
      'unshare',
      '--mount',
      '--propagation',
      'slave',
      '--',
      'sh',
      '-c',
      stageScript,
      'stage',
      this.stage,
      ...mounts,
      '--',
    ];
  }

  private errorOf(command: string, exit: string | number, stderr: string): CodedError {
    const cause = CoreErrors.COMMAND_FAILED({ command, exit, stderr: stderr.trim() });
    if (exit === mountFailedExit) return cause;
    return this.knownError(stderr, cause) ?? cause;
  }

  private knownError(stderr: string, cause?: CodedError): CodedError | undefined {
    const code = patterns.find(([pattern]) => pattern.test(stderr))?.[1];
    if (!code) return undefined;
    const reason = reasonOf(cause ?? stderr) || 'it says nothing';
    return BackupErrors[code]({ repository: this.repository, reason }, { ...(cause && { cause }) });
  }
}

/** The repository's server did not answer: whether a repository is there is not known. */
export const noConnection = /connection refused|no such host|dial tcp|i\/o timeout/i;

/** restic cannot leave its lock: nobody holds another, there is only no writing there. */
const cannotWrite =
  /(Save\(<lock|unable to create lock)[^\n]*(read-only file system|permission denied|operation not permitted)/i;

/** What the programs say, in the words of restic 0.14 to 0.18 and rustic 0.9 to 0.11. */
const patterns: readonly (readonly [
  RegExp,
  (keyof typeof BackupErrors & `REPOSITORY_${string}`) | 'BACKUP_NOT_FOUND',
])[] = [
  [
    /wrong password|no key found|No suitable key found|password is incorrect/i,
    'REPOSITORY_PASSWORD',
  ],
  [cannotWrite, 'REPOSITORY_READ_ONLY'],
  [/already locked|unable to create lock/i, 'REPOSITORY_LOCKED'],
  [
    // The last: rustic, and restic from 0.17 on, read the file of a full id at once.
    /no matching ID|no snapshot found|No suitable id found|snapshot .* not found|failed to find snapshot|\/snapshots\/[0-9a-f]{64}[\s:][\s\S]*(no such file|not ?found)/i,
    'BACKUP_NOT_FOUND',
  ],
  [
    /unable to open config file|unable to open repository|No repository config file found/i,
    'REPOSITORY_UNREACHABLE',
  ],
  [noConnection, 'REPOSITORY_UNREACHABLE'],
];

/** A program that writes to disk tells how far it is by the kernel's count of its writes. */
function watchWritten(pid: number, report: (bytes: number) => void): NodeJS.Timeout {
  const timer = setInterval(() => {
    readFile(`/proc/${pid}/io`, 'utf8').then(
      (text) => report(Number(/^wchar: (\d+)$/m.exec(text)?.[1] ?? 0)),
      () => undefined, // it has just ended
    );
  }, 500);
  return timer.unref();
}

/** `rest:https://user:secret@host/x` → `rest:https://host/x`. */
function withoutCredentials(repository: string): string {
  return repository.replace(/(:\/\/)[^/@]*@/, '$1');
}

/** One line of a program's output; undefined when it is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The end of what a program said on stderr, without rustic's list of addresses. */
export function reasonOf(error: unknown): string {
  const stderr = CodedError.is(error) ? (error.details['stderr'] ?? error.message) : error;
  const [said = ''] = String(stderr).split(/\n+(?:Some additional details \.\.\.\s*)?Backtrace:/);
  const lines = stripVTControlCharacters(said).split('\n');
  return lines
    .filter((line) => line.trim() !== '')
    .slice(-6)
    .join('; ');
}
