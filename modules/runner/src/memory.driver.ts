import { PassThrough, Readable } from 'node:stream';
import type { ProjectId, Quota } from '@rookery/core/contract';
import {
  ContainerDriver,
  isWhatRuns,
  type ContainerCapabilities,
  type ContainerEnd,
  type ContainerSpec,
  type ContainerStatus,
  type ExecSession,
} from './container.driver.js';
import type { ContainerStats, ExecInput } from '@rookery/fleet/contract';
import { RunnerErrors } from './runner.errors.js';

interface MemoryContainer {
  readonly spec: ContainerSpec;
  quota: Quota;
  status: ContainerStatus;
  end: ContainerEnd;
  readonly sessions: Set<ExecSession>;
}

const statusOfSignal: Partial<Record<NodeJS.Signals, number>> = {
  SIGHUP: 129,
  SIGINT: 130,
  SIGQUIT: 131,
  SIGKILL: 137,
  SIGUSR1: 138,
  SIGUSR2: 140,
  SIGTERM: 143,
};

/**
 * Containers that exist in memory alone, for tests of those who drive one. A command of theirs is
 * one of: `cat`, `echo WORD…`, `true`, `false`, `sleep`, `sh -c 'exit N'`.
 */
export class MemoryDriver extends ContainerDriver {
  readonly capabilities: ContainerCapabilities = {
    limits: { memory: false, cpu: false, pids: false },
    network: false,
    isolation: { kind: 'shared', reason: 'these containers have no processes' },
    memorySlice: { kind: 'none', reason: 'these containers have no processes' },
  };

  private readonly containers = new Map<ProjectId, MemoryContainer>();
  private readonly ports = new Map<ProjectId, readonly number[]>();
  private readonly output = new Map<ProjectId, string[]>();

  async open(): Promise<void> {}

  async close(): Promise<void> {}

  async start(spec: ContainerSpec): Promise<ContainerStatus> {
    const before = this.containers.get(spec.projectId);
    if (before?.status.state === 'running' && isWhatRuns(spec, before.status)) {
      return before.status;
    }
    const { projectId, generation, quota } = spec;
    const address = '127.0.0.1';
    const rescue = spec.rescue === true;
    const common = { projectId, generation, address, rescue };
    const status = { ...common, state: 'running', startedAt: 0 } as const;
    const end = { outOfMemory: false };
    this.containers.set(projectId, { spec, quota, status, end, sessions: new Set() });
    return status;
  }

  async rootIdOf(): Promise<number> {
    return process.getuid?.() ?? 0;
  }

  async memoryKills(): Promise<number> {
    return 0;
  }

  async known(): Promise<ProjectId[]> {
    return [...this.containers.keys()];
  }

  async forget(id: ProjectId): Promise<void> {
    await this.stop(id);
    this.containers.delete(id);
    this.output.delete(id);
  }

  async stop(id: ProjectId): Promise<void> {
    for (const session of this.containers.get(id)?.sessions ?? []) session.signal('SIGKILL');
    this.containers.delete(id);
    this.ports.delete(id);
  }

  async update(id: ProjectId, quota: Quota): Promise<void> {
    const container = this.containers.get(id);
    if (container) container.quota = quota;
  }

  async list(): Promise<ContainerStatus[]> {
    return [...this.containers.values()].map(({ status }) => status);
  }

  async endOf(id: ProjectId): Promise<ContainerEnd> {
    return this.containers.get(id)?.end ?? { outOfMemory: false };
  }

  async exec(input: ExecInput): Promise<ExecSession> {
    const container = this.running(input.projectId);
    const session = memorySession(input.command);
    container.sessions.add(session);
    void session.exit.finally(() => container.sessions.delete(session));
    return session;
  }

  logs(id: ProjectId, options: { tailLines?: number }): Readable {
    const lines = this.output.get(id) ?? [];
    const { tailLines = lines.length } = options;
    return Readable.from(tailLines === 0 ? [] : lines.slice(-tailLines), { objectMode: false });
  }

  async stats(id: ProjectId): Promise<ContainerStats> {
    const { quota, sessions } = this.running(id);
    const memoryLimitBytes = quota.memoryBytes;
    return { cpuSeconds: 0, memoryBytes: 0, memoryLimitBytes, pids: 1 + sessions.size };
  }

  async listeningPorts(id: ProjectId): Promise<number[] | undefined> {
    const runs = this.containers.get(id)?.status.state === 'running';
    return runs ? [...(this.ports.get(id) ?? [])] : undefined;
  }

  async removeStrays(keep: readonly ProjectId[]): Promise<ProjectId[]> {
    const strays = [...this.containers.keys()].filter((id) => !keep.includes(id));
    for (const id of strays) await this.stop(id);
    return strays;
  }

  async setEgress(): Promise<void> {}

  async repairNetwork(): Promise<string[]> {
    return [];
  }

  /** Lets a container end by itself, as a crash would. */
  die(id: ProjectId, exit = 137, outOfMemory = false): void {
    const container = this.running(id);
    const { projectId, generation } = container.spec;
    container.status = { projectId, generation, state: 'exited' };
    container.end = { exit, outOfMemory };
    this.ports.delete(id);
  }

  /** What a container's processes listen on. */
  listen(id: ProjectId, ports: readonly number[]): void {
    this.running(id);
    this.ports.set(id, ports);
  }

  /** What a container's processes print. */
  print(id: ProjectId, line: string): void {
    this.output.set(id, [...(this.output.get(id) ?? []), `${line}\n`]);
  }

  private running(id: ProjectId): MemoryContainer {
    const container = this.containers.get(id);
    if (container?.status.state === 'running') return container;
    throw RunnerErrors.PROJECT_NOT_RUNNING({ projectId: id, state: 'stopped' });
  }
}

function memorySession(command: readonly string[]): ExecSession {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  let end!: (exit: number) => void;
  const exit = new Promise<number>((resolve) => {
    end = (status) => {
      if (!stdout.writableEnded) stdout.end();
      stderr.end();
      resolve(status);
    };
  });
  run(command, { stdin, stdout, stderr, end });
  const signal = (name: NodeJS.Signals): void => end(statusOfSignal[name] ?? 143);
  return { stdin, stdout, stderr, exit, signal, resize: () => {}, kill: () => signal('SIGHUP') };
}

interface Streams {
  readonly stdin: PassThrough;
  readonly stdout: PassThrough;
  readonly stderr: PassThrough;
  readonly end: (exit: number) => void;
}

function run([name = '', ...args]: readonly string[], streams: Streams): void {
  const { stdin, stdout, stderr, end } = streams;
  switch (name) {
    case 'true':
      return end(0);
    case 'false':
      return end(1);
    case 'echo':
      stdout.write(`${args.join(' ')}\n`);
      return end(0);
    case 'cat':
      stdin.pipe(stdout);
      stdout.once('finish', () => end(0));
      return;
    case 'sleep':
      return;
    case 'sh':
      return end(Number(/^exit (\d+)$/.exec(args[1] ?? '')?.[1] ?? 0));
    default:
      stderr.write(`${name}: command not found\n`);
      return end(127);
  }
}
