import { access, chmod, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  CodedError,
  CoreErrors,
  type Exec,
  hostCgroup,
  hostTag,
  KeyedLock,
  type Logger,
  parseConfig,
  Reverter,
} from '@rookery/core';
import type { ProjectId, Quota } from '@rookery/core/contract';
import { z } from 'zod';
import {
  ContainerDriver,
  type ContainerCapabilities,
  type ContainerSpec,
  type ContainerStatus,
  type ExecSession,
} from '../container.driver.js';
import type { ContainerStats, ExecInput } from '../contract.js';
import { RunnerErrors } from '../runner.errors.js';
import { PodmanDriverOptions } from '../runner.options.js';
import { probeLimits, readStats, removeCgroupParent } from './cgroups.js';
import { labels, runArgs, updateArgs, type ContainerFiles } from './container-args.js';
import { readContainerLog, type LogOptions } from './container-log.js';
import { mountOverlay, mountPoints, unmount } from './overlay-mount.js';
import { PodmanCli } from './podman.cli.js';
import { isAlive } from './processes.js';
import { ProjectNetwork, systemResolvers } from './project-network.js';
import { overlayKey } from './runner-id.js';
import { endLeftSessions, execIn } from './runtime-exec.js';
import { chooseRuntime } from './runtime-probe.js';
import { seccompProfile } from './seccomp.js';

const strayGraceMs = 5000;
const startTimeoutMs = 60_000;

/** `podman ps --format json`, as far as it is used. */
const PodmanContainers = z.array(
  z.object({
    Id: z.string(),
    State: z.string(),
    Pid: z.number().default(0),
    ExitCode: z.number().default(0),
    StartedAt: z.number().default(0),
    Labels: z.record(z.string(), z.string()).nullish(),
  }),
);

/** What a machine needs to find a running container again without asking podman. */
interface ContainerHandle {
  readonly id: string;
  readonly pid: number;
}

/**
 * Runs containers with podman as root, each in the fixed user namespace.
 *
 * The driver keeps nothing in memory that matters: podman's labels say which container is whose,
 * links of the network carry the project's name, files under `runDir` are gone after a reboot as
 * the containers are. So a host that died continues where it was.
 */
export class PodmanDriver extends ContainerDriver {
  private readonly options: z.output<typeof PodmanDriverOptions>;
  private readonly tag: string;
  private readonly locks = new KeyedLock();
  private opened:
    { cli: PodmanCli; network: ProjectNetwork; resolvers: readonly string[] } | undefined;
  private limits = { memory: false, cpu: false, pids: false };

  constructor(
    private readonly commands: Exec,
    options: PodmanDriverOptions,
    private readonly log: Logger,
  ) {
    super();
    this.options = parseConfig(PodmanDriverOptions, options);
    this.tag = hostTag(this.options.hostKey);
  }

  get capabilities(): ContainerCapabilities {
    return { limits: this.limits, network: true };
  }

  /** For the image store, which pulls into the same podman root. */
  get podman(): PodmanCli {
    return this.parts.cli;
  }

  async open(): Promise<void> {
    const { stateDir, runDir, toolsDir, network } = this.options;
    await access(join(toolsDir, 'bin/rookery-init'));
    await assertWalkable(runDir);
    await mkdir(join(stateDir, 'logs'), { recursive: true, mode: 0o700 });
    await mkdir(join(runDir, 'projects'), { recursive: true, mode: 0o711 });
    await chmod(runDir, 0o711);
    const cli = new PodmanCli(
      this.commands,
      { stateDir, runDir },
      await chooseRuntime(this.commands, this.options.runtime),
    );
    await cli.prepare();
    await writeFile(join(stateDir, 'seccomp.json'), await seccompProfile());
    this.limits = await probeLimits(this.tag);
    const resolvers = network.resolvers ?? (await systemResolvers());
    const projectNetwork = new ProjectNetwork(this.commands, {
      ...network,
      tag: this.tag,
      resolvers,
    });
    await projectNetwork.open();
    this.opened = { cli, network: projectNetwork, resolvers };
    for (const id of await this.knownFolders()) await endLeftSessions(this.sessionDir(id));
    if (!this.limits.memory || !this.limits.cpu || !this.limits.pids) {
      this.log.warn({ limits: this.limits }, 'this machine does not enforce every limit');
    }
  }

  async close(): Promise<void> {
    this.opened = undefined;
  }

  async start(spec: ContainerSpec): Promise<ContainerStatus> {
    return this.locks.run(spec.projectId, async () => {
      const before = (await this.list()).find((status) => status.projectId === spec.projectId);
      if (before?.state === 'running' && before.generation === spec.generation) return before;
      await this.removeContainer(spec.projectId, 0);
      return this.startFresh(spec);
    });
  }

  async stop(id: ProjectId, options: { graceMs: number }): Promise<void> {
    await this.locks.run(id, () => this.removeContainer(id, options.graceMs));
  }

  async update(id: ProjectId, quota: Quota): Promise<void> {
    const handle = await this.handle(id);
    if (!handle) return;
    const args = updateArgs(quota, this.limits);
    if (args.length === 0) return;
    await this.commands.run([this.parts.cli.runtime, 'update', ...args, handle.id]);
  }

  async list(): Promise<ContainerStatus[]> {
    const { cli, network } = this.parts;
    const [{ stdout }, links] = await Promise.all([
      cli.run([
        'ps',
        '--all',
        '--format',
        'json',
        '--filter',
        `label=${labels.host}=${this.options.hostKey}`,
      ]),
      network.links(),
    ]);
    const linked = new Set(links.map((link) => link.projectId));
    const containers = PodmanContainers.parse(JSON.parse(stdout.trim() === '' ? '[]' : stdout));
    return Promise.all(
      containers.map(async (container): Promise<ContainerStatus> => {
        const own = container.Labels ?? {};
        const projectId = own[labels.project] ?? '';
        const address = own[labels.address];
        const common = { projectId, generation: Number(own[labels.generation] ?? 0) };
        if (container.State !== 'running') {
          const state = container.State === 'created' ? 'created' : 'exited';
          return { ...common, state, exit: container.ExitCode };
        }
        // Without its link it can be reached by nobody: a host died in the middle of its start.
        const whole = linked.has(projectId) && (await isAlive(container.Pid));
        return {
          ...common,
          state: whole ? 'running' : 'broken',
          startedAt: container.StartedAt * 1000,
          ...(address !== undefined && { address }),
        };
      }),
    );
  }

  async exec(input: ExecInput): Promise<ExecSession> {
    const handle = await this.handle(input.projectId);
    if (!handle) {
      throw RunnerErrors.PROJECT_NOT_RUNNING({ projectId: input.projectId, state: 'stopped' });
    }
    const target = {
      runtime: this.parts.cli.runtime,
      containerId: handle.id,
      sessionDir: this.sessionDir(input.projectId),
    };
    return execIn(this.commands, target, input);
  }

  logs(id: ProjectId, options: LogOptions): Readable {
    return readContainerLog(this.logFile(id), options);
  }

  async stats(id: ProjectId): Promise<ContainerStats> {
    const handle = await this.handle(id);
    if (!handle) throw RunnerErrors.PROJECT_NOT_RUNNING({ projectId: id, state: 'stopped' });
    return readStats(handle.pid);
  }

  async removeStrays(keep: readonly ProjectId[]): Promise<ProjectId[]> {
    const found = new Set([
      ...(await this.list()).map((status) => status.projectId),
      ...(await this.knownFolders()),
      ...(await this.parts.network.links()).map((link) => link.projectId),
    ]);
    const strays = [...found].filter((id) => id !== '' && !keep.includes(id));
    for (const id of strays) {
      await this.locks.run(id, () => this.removeContainer(id, strayGraceMs));
    }
    return strays;
  }

  /** Takes everything of this host off the machine: containers, rules, mounts, podman's storage. */
  async destroy(): Promise<void> {
    await this.removeStrays([]);
    await this.parts.network.destroy();
    await removeCgroupParent(this.cgroupName);
    const { stateDir, runDir } = this.options;
    const inside = (path: string): boolean =>
      path.startsWith(`${stateDir}/`) || path.startsWith(`${runDir}/`);
    for (const path of (await mountPoints()).filter(inside).reverse()) {
      await unmount(this.commands, path);
    }
    await rm(runDir, { recursive: true, force: true });
    await rm(stateDir, { recursive: true, force: true });
  }

  private async startFresh(spec: ContainerSpec): Promise<ContainerStatus> {
    await using revert = new Reverter();
    const files = this.files(spec.projectId);
    revert.add(() => this.removeContainer(spec.projectId, 0));
    try {
      const status = await this.makeContainer(spec, files);
      revert.success();
      return status;
    } catch (error) {
      throw startFailure(spec.projectId, error);
    }
  }

  private async makeContainer(
    spec: ContainerSpec,
    files: ContainerFiles,
  ): Promise<ContainerStatus> {
    const { network, cli } = this.parts;
    await this.writeFiles(spec.projectId, files);
    await mountOverlay(this.commands, {
      lower: spec.imagePath,
      layer: join(spec.volume.overlay, overlayKey(spec.imageRef)),
      merged: files.merged,
    });
    const address = await network.reserve(spec.projectId);
    const args = runArgs(spec, files, {
      name: this.containerName(spec.projectId),
      hostKey: this.options.hostKey,
      cgroupParent: `/${this.cgroupName}`,
      address,
      hostname: hostnameOf(spec.projectId),
      limits: this.limits,
      tmpBytes: this.options.tmpBytes,
      logBytesMax: this.options.logBytesMax,
    });
    await cli.run(args, { timeoutMs: startTimeoutMs });
    const handle = await this.handle(spec.projectId);
    if (!handle) {
      throw RunnerErrors.CONTAINER_START_FAILED({
        projectId: spec.projectId,
        reason: 'its first process ended at once; see its logs',
      });
    }
    await network.attach(spec.projectId, address, handle.pid);
    const { projectId, generation } = spec;
    return { projectId, generation, state: 'running', address, startedAt: Date.now() };
  }

  /** Ends the container and all that was made for it; what is not there is skipped. */
  private async removeContainer(id: ProjectId, graceMs: number): Promise<void> {
    const { cli, network } = this.parts;
    const seconds = String(Math.ceil(graceMs / 1000));
    const name = this.containerName(id);
    await cli.run(['rm', '--force', '--ignore', '--time', seconds, name], {
      timeoutMs: graceMs + startTimeoutMs,
    });
    await network.release(id);
    await unmount(this.commands, join(this.projectDir(id), 'merged'));
    await rm(this.projectDir(id), { recursive: true, force: true });
  }

  private async writeFiles(id: ProjectId, files: ContainerFiles): Promise<void> {
    await mkdir(this.projectDir(id), { recursive: true, mode: 0o711 });
    const hostname = hostnameOf(id);
    const { resolvers, network } = this.parts;
    await writeFile(
      files.resolvConf,
      resolvers.map((address) => `nameserver ${address}\n`).join(''),
    );
    await writeFile(
      files.hosts,
      `127.0.0.1 localhost ${hostname}\n::1 localhost ip6-localhost\n${network.gateway} host.rookery\n`,
    );
    await writeFile(files.hostname, `${hostname}\n`);
    await writeFile(files.containerEnv, '');
  }

  /** The running container of a project, found without podman; undefined when there is none. */
  private async handle(id: ProjectId): Promise<ContainerHandle | undefined> {
    const files = this.files(id);
    const [pidText, containerId] = await Promise.all([
      readFile(files.pidFile, 'utf8').catch(() => ''),
      readFile(files.idFile, 'utf8').catch(() => ''),
    ]);
    const pid = Number(pidText);
    if (!Number.isInteger(pid) || pid < 2 || containerId === '') return undefined;
    // The number could be another process by now: its cgroup tells.
    const cgroup = await readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => '');
    if (!cgroup.includes(containerId.trim()) || !(await isAlive(pid))) return undefined;
    return { id: containerId.trim(), pid };
  }

  private files(id: ProjectId): ContainerFiles {
    const folder = this.projectDir(id);
    return {
      merged: join(folder, 'merged'),
      pidFile: join(folder, 'pid'),
      idFile: join(folder, 'id'),
      logFile: this.logFile(id),
      resolvConf: join(folder, 'resolv.conf'),
      hosts: join(folder, 'hosts'),
      hostname: join(folder, 'hostname'),
      containerEnv: join(folder, 'containerenv'),
      seccomp: join(this.options.stateDir, 'seccomp.json'),
      toolsDir: this.options.toolsDir,
    };
  }

  private async knownFolders(): Promise<string[]> {
    return readdir(join(this.options.runDir, 'projects')).catch(() => []);
  }

  private projectDir(id: ProjectId): string {
    return join(this.options.runDir, 'projects', id);
  }

  private sessionDir(id: ProjectId): string {
    return join(this.projectDir(id), 'exec');
  }

  private logFile(id: ProjectId): string {
    return join(this.options.stateDir, 'logs', `${id}.log`);
  }

  private containerName(id: ProjectId): string {
    return `rk-${this.tag}-${id}`;
  }

  private get cgroupName(): string {
    return hostCgroup(this.options.hostKey);
  }

  private get parts(): NonNullable<PodmanDriver['opened']> {
    if (!this.opened) throw new Error('the podman driver is not open');
    return this.opened;
  }
}

/** Container root, no one on the host, walks to its root filesystem: every folder must let it. */
async function assertWalkable(runDir: string): Promise<void> {
  await mkdir(runDir, { recursive: true, mode: 0o711 });
  for (let path = dirname(runDir); path !== '/'; path = dirname(path)) {
    const { mode } = await stat(path);
    if ((mode & 0o001) !== 0) continue;
    throw CoreErrors.INVALID_CONFIG({
      reason: `runDir: ${path} is closed to others; let them through (chmod o+x) or choose another`,
    });
  }
}

/** A container's host name: the project's id, short as people read it. */
function hostnameOf(id: ProjectId): string {
  return id.slice(0, 8);
}

function startFailure(projectId: ProjectId, error: unknown): CodedError {
  if (CodedError.is(error) && !error.code.startsWith('COMMAND_')) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return RunnerErrors.CONTAINER_START_FAILED({ projectId, reason }, { cause: error });
}
