import {
  spawn as nodeSpawn,
  type ChildProcess,
  type ChildProcessWithoutNullStreams,
} from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { execa, type Options } from 'execa';
import { CoreErrors } from './errors.js';
import { spawnWithScore } from './oom-score.js';

/** Output of one command beyond this is an error: a command that is read whole must be short. */
const execOutputBytesMax = 16 * 1024 * 1024;
const stderrKeptChars = 2000;

export interface ExecOptions {
  /** The command is killed (SIGTERM, 5 s later SIGKILL) after this. Default 60 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly input?: string | Uint8Array;
  readonly cwd?: string;
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Exit statuses that are results, not failures. Default [0]. */
  readonly okExits?: readonly number[];
  /** Of `oomScore`, at least; a command is no more protected than others unless this says so. */
  readonly oomScoreAdj?: number;
}

export interface ExecResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exit: number;
}

/** Runs commands; a port so that tests can inject faults. */
export abstract class Exec {
  /**
   * Runs `argv` without a shell and reads its output whole.
   * @throws COMMAND_MISSING, COMMAND_FAILED (with exit and stderr), TIMEOUT, CANCELED
   */
  abstract run(argv: readonly string[], options?: ExecOptions): Promise<ExecResult>;

  /** Starts `argv` with piped stdio, for streams. The caller owns the process. */
  abstract spawn(argv: readonly string[], options?: SpawnOptions): SpawnedProcess;
}

export interface SpawnOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
  /** SIGKILL follows the signal's SIGTERM after this. Default 5 s. */
  readonly killAfterMs?: number;
  /** See {@link ExecOptions.oomScoreAdj}. */
  readonly oomScoreAdj?: number;
}

export interface SpawnedProcess {
  readonly pid: number | undefined;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when the process has ended and its streams are closed; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  kill(signal?: NodeJS.Signals): void;
}

export interface ProcessEnd {
  /** Exit status; null when a signal ended it or it never started. */
  readonly exit: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The last part of stderr. */
  readonly stderr: string;
  /** Set when the process could not be started. */
  readonly error?: Error;
}

export class SystemExec extends Exec {
  async run(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const [file, ...args] = argv;
    if (file === undefined) throw CoreErrors.INVALID_INPUT({ reason: 'an empty command' });
    const timeoutMs = options.timeoutMs ?? 60_000;
    const base: Options = {
      reject: false,
      timeout: timeoutMs,
      forceKillAfterDelay: 5000,
      maxBuffer: execOutputBytesMax,
      stripFinalNewline: false,
      ...(options.signal && { cancelSignal: options.signal }),
      ...(options.cwd !== undefined && { cwd: options.cwd }),
      ...(options.env && { env: options.env }),
      ...(options.input !== undefined ? { input: options.input } : { stdin: 'ignore' as const }),
    };
    const result = await spawnWithScore(() => execa(file, args, base), options.oomScoreAdj);
    const stdout = typeof result.stdout === 'string' ? result.stdout : '';
    const stderr = typeof result.stderr === 'string' ? result.stderr : '';
    if (result.isCanceled) throw CoreErrors.CANCELED({}, { cause: result });
    if (result.timedOut) {
      throw CoreErrors.TIMEOUT({ what: commandName(argv), timeoutMs }, { cause: result });
    }
    if (result.code === 'ENOENT') throw CoreErrors.COMMAND_MISSING({ command: file });
    const exit = result.exitCode;
    if (exit === undefined || !(options.okExits ?? [0]).includes(exit)) {
      throw CoreErrors.COMMAND_FAILED(
        {
          command: commandName(argv),
          exit: exit ?? result.signal ?? 'not started',
          stderr: stderr.trim().slice(-stderrKeptChars),
        },
        { cause: result },
      );
    }
    return { stdout, stderr, exit };
  }

  spawn(argv: readonly string[], options: SpawnOptions = {}): SpawnedProcess {
    const [file, ...args] = argv;
    if (file === undefined) throw CoreErrors.INVALID_INPUT({ reason: 'an empty command' });
    options.signal?.throwIfAborted();
    const spawned = (): ChildProcessWithoutNullStreams =>
      nodeSpawn(file, args, {
        stdio: ['pipe', 'pipe', 'pipe'],
        cwd: options.cwd,
        env: options.env ? { ...process.env, ...options.env } : process.env,
      });
    const child = spawnWithScore(spawned, options.oomScoreAdj);
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => {
      stderr = (stderr + chunk.toString('utf8')).slice(-stderrKeptChars);
    });
    // A reader that went away shows as the process's exit, not as an unhandled EPIPE.
    child.stdin.on('error', () => undefined);
    const stop = (): void => {
      child.kill('SIGTERM');
      setTimeout(() => child.kill('SIGKILL'), options.killAfterMs ?? 5000).unref();
    };
    options.signal?.addEventListener('abort', stop, { once: true });
    const ended = endOf(child, () => stderr).finally(() =>
      options.signal?.removeEventListener('abort', stop),
    );
    return {
      pid: child.pid,
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: child.stderr,
      ended,
      kill: (signal = 'SIGTERM') => void child.kill(signal),
    };
  }
}

function endOf(child: ChildProcess, stderr: () => string): Promise<ProcessEnd> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ exit: null, signal: null, stderr: stderr(), error }));
    child.once('close', (exit, signal) => resolve({ exit, signal, stderr: stderr() }));
  });
}

/** The program and its first two words: enough to know what ran, without secrets in arguments. */
function commandName(argv: readonly string[]): string {
  return argv.slice(0, 3).join(' ');
}
