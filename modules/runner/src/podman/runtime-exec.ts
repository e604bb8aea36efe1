import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import {
  newId,
  spawnPty,
  waitFor,
  type Exec,
  type PtyProcess,
  type SpawnedProcess,
} from '@rookery/core';
import type { ExecSession } from '../container.driver.js';
import type { ExecInput } from '@rookery/fleet/contract';
import { containerHome } from './runner-id.js';
import { killSession, signalGroup } from './processes.js';

/** How long a session has to end by itself after its terminal or caller went away. */
const hangupGraceMs = 1000;
const pidFileWaitMs = 5000;
const statusWhenLost = 255;

export interface ExecTarget {
  /** `runc` or `crun`: a third of the time that `podman exec` takes, and the same confinement. */
  readonly runtime: string;
  readonly containerId: string;
  /** The OCI configuration that the container was made from. */
  readonly configuration: string;
  /** Holds one pid file a session, so that a restarted host finds sessions nobody listens to. */
  readonly sessionDir: string;
}

interface SessionFiles {
  readonly pid: string;
  readonly process: string;
}

/** Starts a command inside a running container. */
export async function execIn(
  exec: Exec,
  target: ExecTarget,
  input: ExecInput,
): Promise<ExecSession> {
  await mkdir(target.sessionDir, { recursive: true, mode: 0o700 });
  const session = join(target.sessionDir, newId());
  const files = { pid: `${session}.pid`, process: `${session}.json` };
  await writeProcess(target, input, files.process);
  const argv = execArgv(target, input, files);
  if (input.tty) return new TerminalSession(spawnPty(argv, { size: input.tty }), files);
  return new PipeSession(exec.spawn(argv), files);
}

/** Ends sessions that an earlier process of this host left behind. */
export async function endLeftSessions(sessionDir: string): Promise<void> {
  const files = await readdir(sessionDir).catch(() => []);
  for (const file of files) {
    const path = join(sessionDir, file);
    const pid = await readPid(path);
    // A number may belong to someone else by now; only processes with a runtime's cgroup are ours.
    if (pid !== undefined && (await isContained(pid))) await killSession(pid);
    await rm(path, { force: true });
  }
}

/**
 * What the runtime is told goes by a file that only the host's root reads: every user of the host
 * sees a command's arguments. The container's own process says what the rest of it is confined to.
 */
async function writeProcess(target: ExecTarget, input: ExecInput, path: string): Promise<void> {
  const configuration = JSON.parse(await readFile(target.configuration, 'utf8')) as {
    process: { env?: string[] };
  };
  const { process } = configuration;
  const env = { ...(input.tty && { TERM: 'xterm-256color' }), ...input.env };
  const added = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const more = {
    terminal: input.tty !== undefined,
    cwd: '/',
    env: [...(process.env ?? []), ...added],
    args: commandLine(input),
  };
  await writeFile(path, JSON.stringify({ ...process, ...more }), { mode: 0o600 });
}

function execArgv(target: ExecTarget, input: ExecInput, files: SessionFiles): string[] {
  return [
    target.runtime,
    'exec',
    '--process',
    files.process,
    '--pid-file',
    files.pid,
    ...(input.tty ? ['--tty'] : []),
    target.containerId,
  ];
}

/**
 * A shell of our own changes the folder and looks the command up, so that a missing folder or
 * command is an exit status (1, 126, 127) and a line on stderr, as people know it.
 */
function commandLine(input: ExecInput): string[] {
  return [
    '/opt/rookery/bin/busybox',
    'sh',
    '-c',
    startCommand,
    'exec',
    join(containerHome, input.cwd ?? '.'),
    ...input.command,
  ];
}

/** busybox would run its own applet in place of the image's program, so PATH is walked by hand. */
const startCommand = `cd "$1" || exit 1
shift
case $1 in */*) exec "$@" ;; esac
IFS=:
for dir in $PATH; do
  if [ -f "$dir/$1" ] && [ -x "$dir/$1" ]; then
    file=$dir/$1
    shift
    exec "$file" "$@"
  fi
done
echo "$1: command not found" >&2
exit 127`;

abstract class RuntimeSession {
  private ended = false;
  private hungUp = false;

  protected constructor(private readonly files: SessionFiles) {}

  protected abstract killRuntime(): void;

  protected track(end: Promise<{ exit: number | null }>): Promise<number> {
    return end.then(async ({ exit }) => {
      this.ended = true;
      await rm(this.files.pid, { force: true });
      await rm(this.files.process, { force: true });
      return exit ?? statusWhenLost;
    });
  }

  signal(signal: NodeJS.Signals): void {
    void this.pid().then((pid) => {
      if (pid !== undefined && !this.ended) signalGroup(pid, signal);
    });
  }

  /** Ends everything that the command has started in its session. */
  kill(): void {
    if (this.ended || this.hungUp) return;
    this.hungUp = true;
    void this.hangUp();
  }

  private async hangUp(): Promise<void> {
    const pid = await this.pid();
    if (pid === undefined) return this.killRuntime();
    signalGroup(pid, 'SIGHUP');
    await waitFor('the session has ended', () => this.ended, { timeoutMs: hangupGraceMs }).catch(
      () => undefined,
    );
    await killSession(pid);
    if (!this.ended) this.killRuntime();
  }

  /** The command's process as the host sees it; the runtime writes it once the command runs. */
  private async pid(): Promise<number | undefined> {
    return waitFor('the command runs', async () => this.ended || readPid(this.files.pid), {
      timeoutMs: pidFileWaitMs,
      everyMs: 5,
    }).then(
      (pid) => (pid === true ? undefined : pid),
      () => undefined,
    );
  }
}

class PipeSession extends RuntimeSession implements ExecSession {
  readonly stdin;
  readonly stdout;
  readonly stderr;
  readonly exit;

  constructor(
    private readonly process: SpawnedProcess,
    files: SessionFiles,
  ) {
    super(files);
    this.stdin = process.stdin;
    this.stdout = process.stdout;
    this.stderr = process.stderr;
    this.exit = this.track(process.ended);
  }

  resize(): void {
    // No terminal, no size.
  }

  protected killRuntime(): void {
    this.process.kill('SIGKILL');
  }
}

class TerminalSession extends RuntimeSession implements ExecSession {
  readonly stdin;
  readonly stdout;
  readonly stderr = new PassThrough().end();
  readonly exit;

  constructor(
    private readonly process: PtyProcess,
    files: SessionFiles,
  ) {
    super(files);
    this.stdin = process.input;
    this.stdout = process.output;
    this.exit = this.track(process.ended);
  }

  resize(size: { columns: number; rows: number }): void {
    this.process.resize(size);
  }

  protected killRuntime(): void {
    this.process.kill('SIGKILL');
  }
}

async function readPid(path: string): Promise<number | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return /^\d+$/.test(text.trim()) ? Number(text) : undefined;
}

async function isContained(pid: number): Promise<boolean> {
  const cgroup = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
  return cgroup.includes('/libpod-');
}
