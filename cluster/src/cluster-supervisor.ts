import { readFile, rm } from 'node:fs/promises';
import {
  CodedError,
  CoreErrors,
  newSecret,
  protectFromOom,
  Supervisor,
  SystemExec,
  waitFor,
  type Exec,
  type SupervisedCommand,
  type SupervisorEvent,
} from '@rookery/core';
import { RookeryClient } from '@rookery/client';
import { ClusterErrors } from './cluster.errors.js';
import {
  readJsonFile,
  writeCluster,
  writeJsonFile,
  type ClusterFile,
  type ClusterHost,
  type ClusterPaths,
} from './cluster-file.js';
import { dialAddress, type ClusterCommands } from './cluster-parts.js';
import { endClusterProcesses } from './cluster-processes.js';
import { checkPorts } from './preflight.js';
import { ensureFirstProject } from './first-project.js';
import { ensureSecret } from './secret-file.js';
import { protectMemory } from './service-cgroup.js';
import { leftoverText, sweepMachine, type Leftovers } from './machine-sweep.js';
import { claimRuntime, type RuntimeFile } from './runtime-file.js';
import { Login, type ClusterSummary } from './cluster-summary.js';

/** A part that ended this often without ever having been ready will not come up. */
const exitsBeforeReadyMax = 4;
const timeouts = {
  hubReadyMs: 180_000,
  hostReadyMs: 180_000,
  partStopMs: 60_000,
  leftoverMs: 20_000,
  projectStopMs: 12_000,
  monitorMs: 8000,
} as const;

export interface ClusterSupervisorOptions {
  readonly paths: ClusterPaths;
  readonly cluster: ClusterFile;
  readonly commands: ClusterCommands;
  /** Hears what goes on, in a few words. */
  readonly onStep: (text: string) => void;
  readonly exec?: Exec;
}

/**
 * Runs one local cluster: a hub and its hosts, each a supervised process.
 *
 * `start` claims the folder, takes away what a crashed run left, starts the hub, joins hosts that
 * are new, and waits until all of them serve. `stop` is a shutdown of the machine on a small scale:
 * hosts, hub, then the projects' containers, mounts and network; what should run is remembered by
 * the hub, so the next start brings it back. A crash stops nothing but the hub and the hosts.
 */
export class ClusterSupervisor {
  private cluster: ClusterFile;
  private runtime: RuntimeFile | undefined;
  private readonly parts = new Map<string, Part>();
  private readonly exec: Exec;
  private readonly stopping = new AbortController();
  private writing: Promise<void> = Promise.resolve();
  private stopped: Promise<void> | undefined;

  constructor(private readonly options: ClusterSupervisorOptions) {
    this.cluster = options.cluster;
    this.exec = options.exec ?? new SystemExec();
  }

  /** Brings everything up. On failure what was started is stopped again. */
  async start(): Promise<ClusterSummary> {
    const { paths } = this.options;
    // Hub and hosts have it from here; what they start has not.
    protectFromOom();
    this.runtime = await claimRuntime(paths, new Date());
    let client: RookeryClient | undefined;
    try {
      await this.takeOver();
      await checkPorts(this.cluster);
      await ensureSecret(paths.backupPassword, () => newSecret('rbk'));
      client = await this.startHub();
      await this.startHosts(client);
      await this.makeFirstRepository(client);
      const project = await ensureFirstProject({
        client,
        cluster: this.cluster,
        signal: this.stopping.signal,
        onStep: this.options.onStep,
        remember: (firstProjectId) => this.remember({ ...this.cluster, firstProjectId }),
      });
      this.record({ state: 'ready' });
      await this.writing;
      return await this.summary(client, project);
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      // Its messaging connection would otherwise look for the hub for ever.
      await client?.close();
    }
  }

  /**
   * The very first time only. Later a repository that is gone is a fault to be seen, and not to be
   * covered by an empty one.
   */
  private async makeFirstRepository(client: RookeryClient): Promise<void> {
    if (this.cluster.firstProjectId !== undefined) return;
    const { items } = await client.listHosts({});
    for (const { id } of items) await client.initBackupRepository({ hostId: id, adopt: false });
  }

  /** Stops everything in order; runs once, however often it is asked. */
  stop(): Promise<void> {
    this.stopped ??= this.stopOnce();
    return this.stopped;
  }

  private async stopOnce(): Promise<void> {
    const { paths, onStep } = this.options;
    this.stopping.abort(CoreErrors.CANCELED());
    this.record({ state: 'stopping' });
    onStep('stopping');
    const hosts = [...this.parts.values()].filter((part) => part.name !== 'hub');
    await Promise.all(hosts.map((part) => part.supervisor.stop(timeouts.partStopMs)));
    await this.parts.get('hub')?.supervisor.stop(timeouts.partStopMs);
    for (const text of leftoverText(await clearMachine(this.exec, paths, this.cluster))) {
      onStep(text);
    }
    await this.writing;
    await rm(paths.runtime, { force: true });
  }

  /** After a crash the old parts may still be ending: their supervisor's channel has just closed. */
  private async takeOver(): Promise<void> {
    const ended = await endClusterProcesses(
      this.options.paths.dataDir,
      ['service'],
      timeouts.leftoverMs,
    );
    if (ended > 0) this.options.onStep(`ended what an earlier run had left running (${ended})`);
  }

  private async startHub(): Promise<RookeryClient> {
    const { commands, paths, onStep } = this.options;
    onStep(`starting the hub on port ${this.cluster.port}`);
    const part = await this.startPart(commands.hub(this.cluster));
    const url = `http://${dialAddress(this.cluster.listen)}:${this.cluster.port}`;
    const probe = new RookeryClient({ url, attempts: 1, requestTimeoutMs: 5000 });
    await this.until(part, 'the hub answers', timeouts.hubReadyMs, async () => {
      const health = await probe.getHealth().catch(() => undefined);
      return health?.status === 'ok';
    });
    const login = await readJsonFile(paths.credentials, Login);
    if (!login) {
      const reason = `it has not written ${paths.credentials}`;
      throw ClusterErrors.PART_FAILED({ name: 'hub', reason, log: paths.log('hub') });
    }
    part.ready = true;
    return new RookeryClient({ url, token: login.token });
  }

  private async startHosts(client: RookeryClient): Promise<void> {
    const { commands, onStep } = this.options;
    const before = new Date();
    for (const host of this.cluster.hosts) {
      onStep(`starting ${host.name} on ports ${host.port} to ${host.agentPort}`);
      const token = host.joined ? undefined : (await client.createJoinToken()).token;
      await this.startPart(commands.host(this.cluster, host, token));
    }
    await Promise.all(this.cluster.hosts.map((host) => this.hostReady(client, host, before)));
  }

  private async hostReady(client: RookeryClient, host: ClusterHost, since: Date): Promise<void> {
    const part = this.parts.get(host.name);
    if (!part) return;
    await this.until(part, `${host.name} has joined`, timeouts.hostReadyMs, async () => {
      for await (const view of client.each('listHosts')) {
        if (view.name !== host.name || view.status !== 'online') continue;
        if (view.lastSeenAt !== null && new Date(view.lastSeenAt) >= since) return true;
      }
      return false;
    });
    part.ready = true;
    this.options.onStep(`${host.name} is ready`);
    const hosts = this.cluster.hosts.map((one) =>
      one.name === host.name ? { ...one, joined: true } : one,
    );
    await this.remember({ ...this.cluster, hosts });
  }

  private async startPart(command: SupervisedCommand): Promise<Part> {
    const supervisor = new Supervisor(command, {
      stopTimeoutMs: timeouts.partStopMs,
      onEvent: (event) => this.hear(event),
    });
    const part: Part = { name: command.name, supervisor, ready: false, exits: 0 };
    this.parts.set(command.name, part);
    this.stopping.signal.throwIfAborted();
    await supervisor.start();
    return part;
  }

  /** Waits for a level, and gives up at once when the part cannot reach it. */
  private async until(
    part: Part,
    what: string,
    timeoutMs: number,
    probe: () => Promise<boolean>,
  ): Promise<void> {
    const { signal } = this.stopping;
    await waitFor(
      what,
      async () => {
        signal.throwIfAborted();
        if (part.supervisor.state === 'failed' || part.exits >= exitsBeforeReadyMax) {
          throw await this.failureOf(part);
        }
        return probe();
      },
      { timeoutMs, everyMs: 100, signal },
    ).catch(async (error: unknown) => {
      throw CodedError.is(error, 'TIMEOUT') ? await this.failureOf(part, what) : error;
    });
  }

  private async failureOf(part: Part, waitedFor?: string): Promise<CodedError> {
    const log = this.options.paths.log(part.name);
    const last = lastComplaint(await readFile(log, 'utf8').catch(() => ''));
    const reason = waitedFor === undefined ? last : `waited in vain until ${waitedFor}; ${last}`;
    return ClusterErrors.PART_FAILED({ name: part.name, reason, log });
  }

  private hear(event: SupervisorEvent): void {
    if (event.kind === 'started') {
      void protectMemory(event.identity.pid, this.options.paths.dataDir);
    }
    const part = this.parts.get(event.name);
    if (part && event.kind === 'exited') {
      part.exits += 1;
      if (part.ready && !this.stopping.signal.aborted) {
        const why = event.signal ?? `status ${event.exit}`;
        this.options.onStep(`${event.name} ended (${why}) and is started again`);
      }
    }
    this.record({});
  }

  private async remember(cluster: ClusterFile): Promise<void> {
    this.cluster = cluster;
    // One after the other: two hosts may be ready at once.
    this.writing = this.writing.then(() => writeCluster(this.options.paths, this.cluster));
    await this.writing;
  }

  private record(change: Partial<Pick<RuntimeFile, 'state'>>): void {
    if (!this.runtime) return;
    this.runtime = {
      ...this.runtime,
      ...change,
      parts: [...this.parts.values()].map(({ supervisor }) => ({
        name: supervisor.name,
        identity: supervisor.identity ?? null,
        restarts: supervisor.restarts,
        log: this.options.paths.log(supervisor.name),
      })),
    };
    const { runtime } = this;
    this.writing = this.writing
      .then(() => writeJsonFile(this.options.paths.runtime, runtime))
      // A full disk must not end the cluster; `status` then shows what was true before.
      .catch((error: unknown) => this.options.onStep(`cannot record the state: ${String(error)}`));
  }

  private async summary(
    client: RookeryClient,
    project: ClusterSummary['project'],
  ): Promise<ClusterSummary> {
    const hosts: ClusterSummary['hosts'] = [];
    for await (const host of client.each('listHosts')) hosts.push(host);
    hosts.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    const next = project ? `${new URL(project.url).pathname}8080/` : '/';
    const { url: loginUrl } = await client.createLoginTicket({ next });
    return {
      url: this.cluster.publicUrl,
      dataDir: this.options.paths.dataDir,
      loginUrl,
      hosts,
      project,
    };
  }
}

interface Part {
  readonly name: string;
  readonly supervisor: Supervisor;
  ready: boolean;
  exits: number;
}

/**
 * Ends what is left of a stopped cluster: services, projects, mounts, loop devices, network.
 * Safe to repeat, also without any record of what ran.
 */
export async function clearMachine(
  exec: Exec,
  paths: ClusterPaths,
  cluster: ClusterFile | undefined,
): Promise<Leftovers> {
  const { dataDir } = paths;
  await endClusterProcesses(dataDir, ['service'], timeouts.leftoverMs);
  await endClusterProcesses(dataDir, ['container'], timeouts.projectStopMs);
  // conmon sees its container end, takes its mounts away and ends too; what hangs is killed.
  await endClusterProcesses(dataDir, ['monitor'], timeouts.monitorMs);
  return sweepMachine(exec, dataDir, cluster);
}

/** The last error that a log (one JSON object a line, or a crash) tells of, else its last line. */
function lastComplaint(log: string): string {
  const lines = log.trimEnd().split('\n').slice(-200).reverse();
  for (const line of lines) {
    const entry = parseLine(line);
    if (entry && entry.level >= errorLevel) return entry.err?.message ?? entry.msg ?? line;
    // As Node prints an uncaught error, above its stack and its own version.
    if (/^(\w*Error\b.*|Uncaught .*): /.test(line)) return line.slice(0, 500);
  }
  const [last = ''] = lines;
  return last === '' ? 'it said nothing' : last.slice(0, 500);
}

const errorLevel = 50;

function parseLine(
  line: string,
): { level: number; msg?: string; err?: { message?: string } } | undefined {
  try {
    const entry = JSON.parse(line) as { level?: unknown };
    return typeof entry.level === 'number' ? (entry as { level: number }) : undefined;
  } catch {
    return undefined;
  }
}
