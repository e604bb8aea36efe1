import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import { GiB, ipRange, ipText, rangesOverlap } from '@rookery/core';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterFile, ClusterHost, HubOptions } from './cluster-file.js';

export interface ClusterLayoutOptions {
  readonly hosts?: number;
  readonly port?: number;
  readonly listen?: string;
  readonly publicUrl?: string;
  readonly volumeBytes?: number;
  readonly hub?: HubOptions;
}

const clusterDefaults = { hosts: 2, port: 7700, listen: '127.0.0.1' } as const;
/** Ports step by ten a host: ingress, SSH, agent. */
export const hostsMax = 16;
const portsPerHost = 10;

/** Networks come from 10.64.0.0/10 in steps of /20: 4094 projects a host, 1024 hosts a machine. */
const poolStart = ipRange('10.64.0.0')?.start ?? 0;
const networkSize = 2 ** 12;
const networkCount = 1024;

/** A network that the machine already uses, as `10.0.0.0/8`. */
export type TakenNetworks = readonly string[];

/**
 * Lays out a new cluster. Names and networks come from the data folder's path, so that clusters of
 * one machine hardly ever meet; `taken` settles the rest.
 */
export function planCluster(
  dataDir: string,
  wish: ClusterLayoutOptions,
  facts: { readonly taken: TakenNetworks; readonly freeBytes: number; readonly now: Date },
): ClusterFile {
  const { port = clusterDefaults.port, listen = clusterDefaults.listen } = wish;
  const empty: ClusterFile = {
    version: 1,
    id: createHash('sha256').update(dataDir).digest('hex').slice(0, 12),
    createdAt: facts.now.toISOString(),
    listen,
    port,
    publicUrl: wish.publicUrl ?? `http://${addressFor(listen)}:${port}`,
    volumeBytes:
      wish.volumeBytes ?? defaultVolumeBytes(facts.freeBytes, wish.hosts ?? clusterDefaults.hosts),
    hub: wish.hub ?? {},
    hosts: [],
  };
  return growCluster(empty, wish.hosts ?? clusterDefaults.hosts, facts.taken);
}

/** Adds hosts until there are `count`. */
export function growCluster(
  cluster: ClusterFile,
  count: number,
  taken: TakenNetworks,
): ClusterFile {
  const hosts = [...cluster.hosts];
  while (hosts.length < count) {
    const number = hosts.length + 1;
    const used = [...taken, ...hosts.map((host) => host.cidr)];
    hosts.push(planHost(cluster, number, used));
  }
  return { ...cluster, hosts };
}

function planHost(cluster: ClusterFile, number: number, taken: TakenNetworks): ClusterHost {
  const name = `host-${number}`;
  const port = cluster.port + portsPerHost * number;
  return {
    name,
    key: cluster.id.slice(0, 6) + number.toString(36),
    cidr: chooseNetwork(cluster.id, name, taken),
    port,
    sshPort: port + 1,
    agentPort: port + 2,
    joined: false,
  };
}

function chooseNetwork(clusterId: string, host: string, taken: TakenNetworks): string {
  const digest = createHash('sha256').update(`${clusterId} ${host}`).digest();
  const first = digest.readUInt32BE(0) % networkCount;
  for (let step = 0; step < networkCount; step += 1) {
    const start = poolStart + ((first + step) % networkCount) * networkSize;
    const cidr = `${ipText(start)}/20`;
    if (!taken.some((other) => rangesOverlap(cidr, other))) return cidr;
  }
  throw ClusterErrors.NETWORK_EXHAUSTED({ host });
}

const reservedBytes = 4 * GiB;
const volumeBytesMin = 6 * GiB;
const volumeBytesMax = 100 * GiB;

/**
 * Volumes are sparse files, but together they must fit: a file system that fills up under a mounted
 * volume costs it its writes. What is free is shared out, less a reserve for hub, logs and backups.
 */
function defaultVolumeBytes(freeBytes: number, hosts: number): number {
  const share = Math.floor((freeBytes - reservedBytes) / hosts / GiB) * GiB;
  return Math.min(Math.max(share, volumeBytesMin), volumeBytesMax);
}

/** An address that others can use: listening everywhere is no address. */
function addressFor(listen: string): string {
  if (listen === '0.0.0.0' || listen === '::') return hostname();
  return listen.includes(':') ? `[${listen}]` : listen;
}

/** Every port of a cluster and what it is for. */
export function portsOf(cluster: ClusterFile): { port: number; use: string }[] {
  return [
    { port: cluster.port, use: 'the hub' },
    ...cluster.hosts.flatMap((host) => [
      { port: host.port, use: `${host.name}, web` },
      { port: host.sshPort, use: `${host.name}, SSH` },
      { port: host.agentPort, use: `${host.name}, agent` },
    ]),
  ];
}
