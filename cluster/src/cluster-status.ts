import { isProcessAlive } from '@rookery/core';
import type { HostView, ProjectView } from '@rookery/api';
import { RookeryClient } from '@rookery/client';
import type { ClusterFile, ClusterHost, ClusterPaths } from './cluster-file.js';
import { requireCluster, readJsonFile } from './cluster-file.js';
import { dialAddress } from './cluster-parts.js';
import { Login } from './cluster-summary.js';
import { readRuntime, type PartStatus } from './runtime-file.js';

const requestTimeoutMs = 5000;

interface ProcessStatus {
  readonly name: string;
  readonly pid: number | null;
  readonly running: boolean;
  readonly restarts: number;
  readonly log: string;
}

/** What `status` shows. `hub` is null when it does not answer. */
export interface ClusterStatus {
  readonly dataDir: string;
  readonly url: string;
  /** A supervisor runs. */
  readonly running: boolean;
  /** Everything has come up. */
  readonly ready: boolean;
  readonly startedAt: string | null;
  readonly processes: ProcessStatus[];
  readonly hub: { readonly port: number; readonly version: string } | null;
  readonly hosts: (Pick<ClusterHost, 'name' | 'port' | 'sshPort' | 'agentPort'> & {
    readonly host: HostView | null;
  })[];
  readonly projects: ProjectView[];
}

/** @throws CLUSTER_UNKNOWN */
export async function clusterStatus(paths: ClusterPaths): Promise<ClusterStatus> {
  const cluster = await requireCluster(paths);
  const runtime = await readRuntime(paths);
  const running = runtime !== undefined && (await isProcessAlive(runtime.supervisor));
  const supervisor = runtime && {
    name: 'supervisor',
    identity: runtime.supervisor,
    restarts: 0,
    log: paths.log('supervisor'),
  };
  const parts = supervisor ? [supervisor, ...runtime.parts] : [];
  const seen = await askHub(paths, cluster);
  return {
    dataDir: paths.dataDir,
    url: cluster.publicUrl,
    running,
    ready: running && runtime.state === 'ready',
    startedAt: running ? runtime.startedAt : null,
    processes: await Promise.all(parts.map(processStatus)),
    hub: seen && { port: cluster.port, version: seen.version },
    hosts: cluster.hosts.map(({ name, port, sshPort, agentPort }) => ({
      name,
      port,
      sshPort,
      agentPort,
      host: seen?.hosts.find((host) => host.name === name) ?? null,
    })),
    projects: seen?.projects ?? [],
  };
}

async function processStatus(part: PartStatus): Promise<ProcessStatus> {
  const { name, identity, restarts, log } = part;
  const running = identity !== null && (await isProcessAlive(identity));
  return { name, pid: running ? identity.pid : null, running, restarts, log };
}

interface HubSight {
  readonly version: string;
  readonly hosts: HostView[];
  readonly projects: ProjectView[];
}

/** Null when the hub does not answer, or does not know us. */
async function askHub(paths: ClusterPaths, cluster: ClusterFile): Promise<HubSight | null> {
  const login = await readJsonFile(paths.credentials, Login).catch(() => undefined);
  const client = new RookeryClient({
    url: `http://${dialAddress(cluster.listen)}:${cluster.port}`,
    ...(login && { token: login.token }),
    attempts: 1,
    requestTimeoutMs,
  });
  try {
    const { version } = await client.getHealth();
    const hosts: HostView[] = [];
    const projects: ProjectView[] = [];
    for await (const host of client.each('listHosts')) hosts.push(host);
    for await (const project of client.each('listProjects')) projects.push(project);
    return { version, hosts, projects };
  } catch {
    return null;
  }
}
