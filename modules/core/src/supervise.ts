import { spawn, type ChildProcess } from 'node:child_process';
import { mkdir, open, rename, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SystemClock, type Clock } from './clock.js';
import { CoreErrors } from './errors.js';
import { identifyProcess, type ProcessIdentity } from './process-identity.js';
import { backoffMs } from './retry.js';

/** A log file larger than this is moved to `<name>.1` when its process starts. */
export const supervisedLogBytesMax = 16 * 1024 * 1024;

/** Exit status (EX_CONFIG of sysexits) of a child that a restart cannot help; it stays down. */
export const exitUnrecoverable = 78;

export interface SupervisedCommand {
  readonly name: string;
  /** Program and arguments; no shell. */
  readonly argv: readonly string[];
  readonly cwd?: string;
  /** Over this process's environment; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** stdout and stderr are appended here; absent: they go to this process's stderr. */
  readonly logFile?: string;
}

export interface SupervisorOptions {
  /** Wait before the first restart; doubles with every quick exit. Default 200 ms. */
  readonly restartFirstMs?: number;
  /** Default 30 s. */
  readonly restartMaxMs?: number;
  /** A child that ran this long was healthy: its next restart waits `restartFirstMs` again. */
  readonly healthyMs?: number;
  /** Default of `stop`: SIGKILL follows SIGTERM after this. Default 15 s. */
  readonly stopTimeoutMs?: number;
  /**
   * Once the child has ended, kill what it left in its process group (helpers such as `restic` or
   * `btrfs send`), so that a restart meets no leftovers. What called setsid, as containers'
   * monitors do, is not touched. Default true.
   */
  readonly killGroup?: boolean;
  readonly onEvent?: (event: SupervisorEvent) => void;
  /** Messages that the child sent over its channel. */
  readonly onMessage?: (message: unknown) => void;
  readonly clock?: Clock;
  readonly random?: () => number;
}

export type SupervisorEvent =
  | { readonly kind: 'started'; readonly name: string; readonly identity: ProcessIdentity }
  | {
      readonly kind: 'exited';
      readonly name: string;
      readonly exit: number | null;
      readonly signal: NodeJS.Signals | null;
      /** Absent: it stays down. */
      readonly restartInMs?: number;
      /** Set when the program could not be started at all. */
      readonly error?: Error;
    };

export type SupervisorState = 'idle' | 'running' | 'waiting' | 'stopping' | 'stopped' | 'failed';

/** How a supervised process ended. */
export interface ChildEnd {
  readonly exit: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly error?: Error;
}

const defaults = {
  restartFirstMs: 200,
  restartMaxMs: 30_000,
  healthyMs: 10_000,
  stopTimeoutMs: 15_000,
  killGroup: true,
} as const;

/**
 * Keeps one long-lived child process running.
 *
 * `idle` → `start()` → `running`. When the child ends by itself the supervisor is `waiting` for the
 * backoff and then starts it again, without end; only exit status 78 makes it `failed`, as does a
 * program that cannot be executed on the first start. `stop()` leads through `stopping` to
 * `stopped` from any state, and `start()` begins again.
 *
 * The child leads a process group of its own (a terminal's Ctrl-C reaches the supervisor alone) and
 * holds an IPC channel: when the supervisor dies, even by SIGKILL, the channel closes and the child
 * ends itself, see {@link onSupervisorGone}.
 */
export class Supervisor {
  private current: SupervisorState = 'idle';
  private child: ChildProcess | undefined;
  private terminated: ChildProcess | undefined;
  private childEnded: Promise<ChildEnd> = Promise.resolve({ exit: null, signal: null });
  private loop: Promise<void> = Promise.resolve();
  private stopRequested = new AbortController();
  private quickExits = 0;
  private restartCount = 0;
  private childIdentity: ProcessIdentity | undefined;
  private readonly clock: Clock;

  constructor(
    readonly command: SupervisedCommand,
    private readonly options: SupervisorOptions = {},
  ) {
    this.clock = options.clock ?? new SystemClock();
  }

  get state(): SupervisorState {
    return this.current;
  }

  get name(): string {
    return this.command.name;
  }

  /** The running child, if one runs. */
  get identity(): ProcessIdentity | undefined {
    return this.childIdentity;
  }

  /** Restarts since `start()`. */
  get restarts(): number {
    return this.restartCount;
  }

  /**
   * Starts the child; resolves when it runs (not when it is ready: it says so by a message or a
   * port). Started already: nothing to do.
   * @throws COMMAND_MISSING when the program is not there.
   */
  async start(): Promise<void> {
    while (this.current === 'stopping') await this.loop;
    if (this.current === 'running' || this.current === 'waiting') return;
    this.stopRequested = new AbortController();
    this.quickExits = 0;
    this.restartCount = 0;
    this.current = 'running';
    const spawned = this.spawnChild();
    this.loop = spawned.then(
      () => this.keepRunning(),
      () => {
        this.current = 'failed';
      },
    );
    await spawned;
  }

  /**
   * SIGTERM, and SIGKILL for the whole group when the child has not ended after `timeoutMs`.
   * Resolves when it has ended; nothing is started any more.
   */
  async stop(timeoutMs = this.options.stopTimeoutMs ?? defaults.stopTimeoutMs): Promise<void> {
    if (this.current === 'idle') this.current = 'stopped';
    if (this.current === 'stopped' || this.current === 'failed') return this.loop;
    this.current = 'stopping';
    this.stopRequested.abort();
    this.terminateChild();
    const done = new AbortController();
    void this.clock.delay(timeoutMs, done.signal).then(
      () =>
        this.options.killGroup === false ? this.child?.kill('SIGKILL') : killGroupOf(this.child),
      () => undefined,
    );
    await this.loop;
    done.abort();
    this.current = 'stopped';
  }

  /** Ends the child gracefully and starts it again at once. */
  async restart(timeoutMs?: number): Promise<void> {
    await this.stop(timeoutMs);
    await this.start();
  }

  /** Sends to the child; false when there is none or its channel is closed. */
  send(message: object): boolean {
    return this.child?.connected === true && this.child.send(message, () => undefined);
  }

  /** Once a child: some programs take a second SIGTERM as "at once". */
  private terminateChild(): void {
    if (this.child === undefined || this.child === this.terminated) return;
    this.terminated = this.child;
    this.child.kill('SIGTERM');
  }

  private async keepRunning(): Promise<void> {
    for (;;) {
      // A stop that came while the child was being made did not see it.
      if (this.stopRequested.signal.aborted) this.terminateChild();
      const startedAt = this.clock.now();
      const end = await this.childEnded;
      this.childIdentity = undefined;
      if (this.options.killGroup !== false) killGroupOf(this.child);
      const restartInMs = this.restartDelay(end, this.clock.now() - startedAt);
      if (restartInMs === undefined) {
        if (!this.stopRequested.signal.aborted) this.current = 'failed';
      } else this.current = 'waiting';
      this.emit({
        kind: 'exited',
        name: this.name,
        ...end,
        ...(restartInMs !== undefined && { restartInMs }),
      });
      if (restartInMs === undefined || !(await this.respawnAfter(restartInMs))) return;
    }
  }

  /** Undefined: the child stays down. */
  private restartDelay(end: ChildEnd, ranMs: number): number | undefined {
    if (this.stopRequested.signal.aborted || end.exit === exitUnrecoverable) return undefined;
    this.quickExits = ranMs >= (this.options.healthyMs ?? defaults.healthyMs) ? 0 : this.quickExits;
    const firstMs = this.options.restartFirstMs ?? defaults.restartFirstMs;
    const maxMs = this.options.restartMaxMs ?? defaults.restartMaxMs;
    const ceilingMs = Math.min(maxMs, firstMs * 2 ** this.quickExits);
    // Half fixed, half random: never a hot loop, and many children do not come back in step.
    const jitterMs = backoffMs(this.quickExits, { firstMs, maxMs }, this.options.random);
    this.quickExits += 1;
    return Math.round(ceilingMs / 2 + jitterMs / 2);
  }

  private async respawnAfter(ms: number): Promise<boolean> {
    const { signal } = this.stopRequested;
    try {
      await this.clock.delay(ms, signal);
    } catch {
      return false;
    }
    this.restartCount += 1;
    try {
      await this.spawnChild();
    } catch (error) {
      // The program or its log cannot be opened just now (an upgrade, a full disk): try again later.
      const failed = error instanceof Error ? error : new Error(String(error));
      this.childEnded = Promise.resolve({ exit: null, signal: null, error: failed });
    }
    return true;
  }

  private async spawnChild(): Promise<void> {
    this.child = undefined;
    const { child, ended, identity } = await spawnLeader(this.command, (made) => {
      if (this.options.onMessage) made.on('message', this.options.onMessage);
    });
    this.child = child;
    this.childEnded = ended;
    this.childIdentity = identity;
    if (!this.stopRequested.signal.aborted) this.current = 'running';
    this.emit({ kind: 'started', name: this.name, identity: this.childIdentity });
  }

  private emit(event: SupervisorEvent): void {
    this.options.onEvent?.(event);
  }
}

/**
 * In a supervised child: calls back once when the supervisor is gone, so that the child ends
 * itself. Does not keep the process alive; does nothing in a process without a supervisor.
 */
export function onSupervisorGone(callback: () => void): void {
  if (process.send === undefined) return;
  if (!process.connected) {
    callback();
    return;
  }
  process.once('disconnect', callback);
  process.channel?.unref();
}

/** In a supervised child: sends to the supervisor's `onMessage`; without a supervisor it is dropped. */
export function tellSupervisor(message: object): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

export interface DetachedProcess {
  readonly identity: ProcessIdentity;
  /** Resolves when it ends while we still watch. */
  readonly ended: Promise<ChildEnd>;
  /** Stops watching; the process goes on alone. */
  release(): void;
}

/**
 * Starts a process that outlives this one: a session of its own, output to its log file. Until
 * `release` it is watched, and its `tellSupervisor` messages are heard.
 * @throws COMMAND_MISSING
 */
export async function startDetached(
  command: SupervisedCommand,
  onMessage: (message: unknown) => void,
): Promise<DetachedProcess> {
  const { child, ended, identity } = await spawnLeader(command, (made) => {
    made.on('message', onMessage);
  });
  return {
    identity,
    ended,
    release() {
      child.removeAllListeners('message');
      if (child.connected) child.disconnect();
      child.unref();
    },
  };
}

/** Spawns the leader of a new session with an IPC channel. */
async function spawnLeader(
  command: SupervisedCommand,
  prepare: (child: ChildProcess) => void,
): Promise<{ child: ChildProcess; ended: Promise<ChildEnd>; identity: ProcessIdentity }> {
  const [file, ...args] = command.argv;
  if (file === undefined) throw CoreErrors.INVALID_INPUT({ reason: 'an empty command' });
  const log = await openLog(command.logFile);
  try {
    const child = spawn(file, args, {
      cwd: command.cwd,
      env: { ...process.env, ...command.env },
      detached: true,
      stdio: ['ignore', log?.fd ?? 2, log?.fd ?? 2, 'ipc'],
    });
    const ended = endOf(child);
    const { pid } = child;
    if (pid === undefined) {
      const { error } = await ended;
      throw CoreErrors.COMMAND_MISSING({ command: file }, { cause: error });
    }
    prepare(child);
    const identity = (await identifyProcess(pid)) ?? { pid, startTicks: 0, bootId: '' };
    return { child, ended, identity };
  } finally {
    await log?.close();
  }
}

function endOf(child: ChildProcess): Promise<ChildEnd> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ exit: null, signal: null, error }));
    // 'exit', not 'close': a grandchild that keeps the log open must not delay the restart.
    child.once('exit', (exit, signal) => resolve({ exit, signal }));
  });
}

function killGroupOf(child: ChildProcess | undefined): void {
  if (child?.pid === undefined) return;
  try {
    process.kill(-child.pid, 'SIGKILL');
  } catch {
    // Nobody is left in the group.
  }
}

async function openLog(path: string | undefined): Promise<FileHandle | undefined> {
  if (path === undefined) return undefined;
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  );
  if (size > supervisedLogBytesMax) await rename(path, `${path}.1`);
  return open(path, 'a', 0o600);
}
