import { access, mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  CodedError,
  CoreErrors,
  type Exec,
  hostCgroup,
  hostTag,
  projectMemoryBytes,
  KeyedLock,
  type Logger,
  parseConfig,
  Reverter,
} from '@rookery/core';
import type { Egress, ProjectId, Quota } from '@rookery/core/contract';
import type { z } from 'zod';
import {
  ContainerDriver,
  isWhatRuns,
  type ContainerCapabilities,
  type ContainerEnd,
  type ContainerSpec,
  type ContainerStatus,
  type EgressOf,
  type ExecSession,
  type MemorySlice,
} from '../container.driver.js';
import type { ContainerStats, ExecInput } from '@rookery/fleet/contract';
import { RunnerErrors } from '../runner.errors.js';
import { PodmanDriverOptions } from '../runner.options.js';
import { probeLimits, readMemoryKills, readStats, removeCgroupParent } from './cgroups.js';
import { runArgs, updateArgs, type ContainerFiles } from './container-args.js';
import { ContainerFolders, hostnameOf } from './container-files.js';
import { prepareRoot } from './container-root.js';
import { ContainerIds, rootIdOfProcess } from './container-ids.js';
import { readContainerLog, type LogOptions } from './container-log.js';
import { readHandle, readStatus, writeNote, type ContainerHandle } from './container-notes.js';
import { listeningPortsOf } from './listening-ports.js';
import { detachMapped } from './mapped-mounts.js';
import type { ProjectLink } from './network.plan.js';
import { PodmanCli } from './podman.cli.js';
import { writePrivateRuntime } from './private-runtime.js';
import { setMemorySlice } from './memory-slice.js';
import { ProjectNetwork, systemResolvers, type ContainersNetwork } from './project-network.js';
import { endLeftSessions, execIn } from './runtime-exec.js';
import { chooseRuntime } from './runtime-probe.js';
import { seccompProfile } from './seccomp.js';

const strayGraceMs = 5000;
/** podman's own part of a start or a stop: others wait for their turn behind it. */
const startTimeoutMs = 30_000;
/** Of how a container ended, podman is asked while it may still be at it. */
const endTimeoutMs = 10_000;

interface OpenedDependencies {
  readonly cli: PodmanCli;
  /** `runc` or `crun`, without what the host adds to a start. */
  readonly runtime: string;
  readonly network: ProjectNetwork;
  readonly resolvers: readonly string[];
}

/**
 * Runs containers with podman as root, each in a user namespace of its own.
 *
 * The driver keeps nothing in memory that matters: files under `runDir` say what each container was
 * made as and are gone after a reboot as the containers are, links of the network carry the
 * project's name. So a host that died continues where it was, and no list of containers waits for
 * podman, which may be held up by one of them.
 */
export class PodmanDriver extends ContainerDriver {
  private readonly options: z.output<typeof PodmanDriverOptions>;
  private readonly tag: string;
  private readonly locks = new KeyedLock();
  private readonly folders: ContainerFolders;
  private readonly ids: ContainerIds;
  private opened: OpenedDependencies | undefined;
  private limits = { memory: false, cpu: false, pids: false };
  private memorySlice: MemorySlice = { kind: 'none', reason: 'not opened yet' };

  constructor(
    private readonly commands: Exec,
    options: PodmanDriverOptions,
    private readonly log: Logger,
  ) {
    super();
    this.options = parseConfig(PodmanDriverOptions, options);
    this.tag = hostTag(this.options.hostKey);
    this.folders = new ContainerFolders(this.options);
    const { ids, stateDir, volumeDir = stateDir } = this.options;
    this.ids = new ContainerIds(commands, {
      folder: this.folders.idRanges,
      firstId: ids.first,
      count: ids.count,
      claimsDir: ids.claimsDir,
      volumeDir,
      log,
    });
  }

  get capabilities(): ContainerCapabilities {
    const { egress } = this.options.network;
    const { limits, memorySlice } = this;
    return { limits, network: true, isolation: this.ids.isolation, egress, memorySlice };
  }

  /** For the image store, which pulls into the same podman root. */
  get podman(): PodmanCli {
    return this.parts.cli;
  }

  async open(): Promise<void> {
    const { stateDir, runDir, rootDir, toolsDir, network } = this.options;
    await access(join(toolsDir, 'bin/rookery-init'));
    await assertWalkable(rootDir);
    await this.folders.open();
    const runtime = await chooseRuntime(this.commands, this.options.runtime);
    const privateRuntime = await writePrivateRuntime(stateDir, runtime, rootDir);
    const cli = new PodmanCli(this.commands, { stateDir, runDir }, privateRuntime);
    await cli.prepare();
    await this.ids.open();
    await writeFile(this.folders.seccomp, await seccompProfile());
    this.limits = await probeLimits(this.tag);
    await this.limitAll();
    const resolvers = network.resolvers ?? (await systemResolvers());
    const { hostKey } = this.options;
    const projectNetwork = new ProjectNetwork(
      this.commands,
      {
        ...network,
        hostKey,
        stateDir,
        resolvers,
        egress: { mode: network.egress, allow: network.egressAllow },
      },
      this.locks,
    );
    await projectNetwork.open();
    this.opened = { cli, runtime, network: projectNetwork, resolvers };
    for (const id of await this.folders.known()) {
      await endLeftSessions(this.folders.sessions(id));
    }
    if (!this.limits.memory || !this.limits.cpu || !this.limits.pids) {
      this.log.warn({ limits: this.limits }, 'this machine does not enforce every limit');
    }
  }

  async close(): Promise<void> {
    this.opened = undefined;
  }

  async start(spec: ContainerSpec): Promise<ContainerStatus> {
    return this.locks.run(spec.projectId, async () => {
      const links = await this.parts.network.links();
      const link = links.find(({ projectId }) => projectId === spec.projectId);
      const before = await this.status(spec.projectId, link);
      if (before?.state === 'running' && isWhatRuns(spec, before)) {
        await this.parts.network.setPolicy(spec.projectId, spec.egress);
        return before;
      }
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
    await this.commands.run([this.parts.runtime, 'update', ...args, handle.id]);
  }

  async list(): Promise<ContainerStatus[]> {
    const links = new Map((await this.parts.network.links()).map((link) => [link.projectId, link]));
    const ids = await this.folders.known();
    const statuses = await Promise.all(ids.map((id) => this.status(id, links.get(id))));
    return statuses.filter((status) => status !== undefined);
  }

  async endOf(id: ProjectId): Promise<ContainerEnd> {
    const format = '{{.Id}} {{.State.Running}} {{.State.ExitCode}}';
    const inspect = ['inspect', '--type', 'container', '--format', format, this.containerName(id)];
    const { stdout } = await this.parts.cli.run(inspect, { timeoutMs: endTimeoutMs });
    const [containerId = '', running, exit] = stdout.trim().split(' ');
    const outOfMemory = await this.folders.ranOutOfMemory(id, containerId);
    return running === 'true' ? { outOfMemory } : { exit: Number(exit), outOfMemory };
  }

  async exec(input: ExecInput): Promise<ExecSession> {
    const handle = await this.handle(input.projectId);
    if (!handle) {
      throw RunnerErrors.PROJECT_NOT_RUNNING({ projectId: input.projectId, state: 'stopped' });
    }
    const target = {
      runtime: this.parts.runtime,
      containerId: handle.id,
      configuration: this.folders.configuration(handle.id),
      sessionDir: this.folders.sessions(input.projectId),
    };
    return execIn(this.commands, target, input);
  }

  logs(id: ProjectId, options: LogOptions): Readable {
    return readContainerLog(this.folders.log(id), options);
  }

  async listeningPorts(id: ProjectId): Promise<number[] | undefined> {
    const handle = await this.handle(id);
    return handle && listeningPortsOf(handle.pid);
  }

  async stats(id: ProjectId): Promise<ContainerStats> {
    const handle = await this.handle(id);
    if (!handle) throw RunnerErrors.PROJECT_NOT_RUNNING({ projectId: id, state: 'stopped' });
    return readStats(handle.pid);
  }

  async memoryKills(id: ProjectId): Promise<number> {
    const handle = await this.handle(id);
    return handle ? readMemoryKills(handle.pid) : 0;
  }

  async removeStrays(keep: readonly ProjectId[]): Promise<ProjectId[]> {
    const strays = (await this.onMachine()).filter((id) => !keep.includes(id));
    for (const id of strays) await this.forget(id, { graceMs: strayGraceMs });
    for (const id of this.ids.known()) if (!keep.includes(id)) await this.ids.release(id);
    return strays;
  }

  async known(): Promise<ProjectId[]> {
    const logged = await this.folders.logged();
    return [...new Set([...(await this.onMachine()), ...this.ids.known(), ...logged])];
  }

  /** Projects of which there is a folder, which outlives container and mounts, or a link. */
  private async onMachine(): Promise<ProjectId[]> {
    const found = new Set([
      ...(await this.folders.known()),
      ...(await this.parts.network.links()).map((link) => link.projectId),
    ]);
    return [...found].filter((id) => id !== '');
  }

  async forget(id: ProjectId, options: { graceMs: number }): Promise<void> {
    await this.locks.run(id, async () => {
      await this.removeContainer(id, options.graceMs);
      await this.ids.release(id);
      // Last: as long as it is there, the project is known and forgotten again.
      await rm(this.folders.log(id), { force: true });
    });
  }

  async rootIdOf(id: ProjectId): Promise<number> {
    const handle = await this.handle(id);
    const running = handle && (await rootIdOfProcess(handle.pid));
    return running ?? (await this.ids.claim(id)).firstId;
  }

  async setEgress(id: ProjectId, egress: Egress | undefined): Promise<void> {
    await this.parts.network.setPolicy(id, egress);
  }

  async repairNetwork(egressOf: EgressOf): Promise<string[]> {
    const wanted = async (): Promise<ContainersNetwork> => {
      const [statuses, egress] = [await this.list(), await egressOf()];
      const addresses = new Map<ProjectId, string>();
      for (const { projectId, address } of statuses) {
        if (address !== undefined) addresses.set(projectId, address);
      }
      return { addresses, egress };
    };
    return (await this.parts.network.repair(wanted)).map(({ kind }) => kind);
  }

  /** Takes everything of this host off the machine: containers, rules, mounts, podman's storage. */
  async destroy(): Promise<void> {
    await this.removeStrays([]);
    await this.parts.network.destroy();
    await removeCgroupParent(this.cgroupName);
    const { stateDir, runDir } = this.options;
    for (const folder of [stateDir, runDir]) await detachMapped(this.commands, folder);
    await rm(runDir, { recursive: true, force: true });
    await rm(stateDir, { recursive: true, force: true });
  }

  private async startFresh(spec: ContainerSpec): Promise<ContainerStatus> {
    await using revert = new Reverter();
    const files = this.folders.files(spec.projectId);
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
    const { network, cli, resolvers } = this.parts;
    const { projectId, generation } = spec;
    await this.folders.write(projectId, { resolvers, gateway: network.gateway });
    const volume = await prepareRoot(this.commands, spec, {
      range: await this.ids.claim(projectId),
      mounts: this.folders.mounts(projectId),
      startFolder: files.startFolder,
    });
    const address = await network.reserve(spec.projectId);
    const rescue = spec.rescue === true;
    await writeNote(files.startFolder, { generation, address, rescue });
    const args = runArgs(spec, files, {
      name: this.containerName(spec.projectId),
      volume,
      hostKey: this.options.hostKey,
      cgroupParent: `/${this.cgroupName}`,
      address,
      hostname: hostnameOf(spec.projectId),
      limits: this.limits,
      tmpBytes: this.options.tmpBytes,
      logBytesMax: this.options.logBytesMax,
    });
    // Its cgroup goes with the last container, and its limit with it.
    await this.limitAll();
    await cli.runContainer(args, {
      timeoutMs: startTimeoutMs,
      cwd: files.startFolder,
      name: this.containerName(projectId),
      beforeRun: spec.beforeRun,
    });
    await detachMapped(this.commands, this.folders.mounts(projectId));
    const handle = await this.handle(spec.projectId);
    if (!handle) {
      throw RunnerErrors.CONTAINER_START_FAILED({
        projectId: spec.projectId,
        reason: 'its first process ended at once; see its logs',
      });
    }
    const linkIndex = await network.attach(spec.projectId, address, handle.pid, spec.egress);
    const startedAt = Date.now();
    await writeNote(files.startFolder, { generation, address, rescue, startedAt });
    return { projectId, generation, state: 'running', rescue, address, linkIndex, startedAt };
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
    const folder = this.folders.project(id);
    await detachMapped(this.commands, folder);
    await rm(folder, { recursive: true, force: true });
  }

  /** The running container of a project, found without podman; undefined when there is none. */
  private handle(id: ProjectId): Promise<ContainerHandle | undefined> {
    return readHandle(this.folders.files(id));
  }

  private status(
    id: ProjectId,
    link: ProjectLink | undefined,
  ): Promise<ContainerStatus | undefined> {
    return readStatus(id, this.folders.project(id), this.folders.files(id), link);
  }

  private containerName(id: ProjectId): string {
    return `rk-${this.tag}-${id}`;
  }

  private async limitAll(): Promise<void> {
    const bytes = projectMemoryBytes(this.options.memoryReserveBytes);
    this.memorySlice = await setMemorySlice(this.cgroupName, bytes);
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
async function assertWalkable(rootDir: string): Promise<void> {
  await mkdir(rootDir, { recursive: true, mode: 0o755 });
  for (let path = rootDir; path !== '/'; path = dirname(path)) {
    const { mode } = await stat(path);
    if ((mode & 0o001) !== 0) continue;
    throw CoreErrors.INVALID_CONFIG({
      reason: `rootDir: ${path} is closed to others; let them through (chmod o+x) or choose another`,
    });
  }
}

function startFailure(projectId: ProjectId, error: unknown): CodedError {
  if (CodedError.is(error) && !error.code.startsWith('COMMAND_')) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return RunnerErrors.CONTAINER_START_FAILED({ projectId, reason }, { cause: error });
}
