import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  idsPerProject,
  type SupervisedCommand,
  machineMemoryBytes,
  projectMemoryBytes,
} from '@rookery/core';
import { ClusterErrors } from './cluster.errors.js';
import type { ClusterFile, ClusterHost, ClusterPaths } from './cluster-file.js';

/** Programs and archives that a cluster runs on. */
export interface ClusterDependencies {
  readonly hubMain: string;
  readonly applianceMain: string;
  /** Archive of `localhost/rookery/debian:13`. */
  readonly baseImage: string;
  readonly toolsDir: string;
  readonly btrfsProgram: string;
}

const uidsFirst = 2 ** 20;
/** Projects that one local host can hold at a time. */
const uidRanges = 1024;
/** As many hosts fit below 2^31; those beyond share with the first ones. */
const uidHostsMax = 31;
const baseImageRef = 'localhost/rookery/debian:13';

/**
 * Finds what the entry script has built. The apps are packages that this one depends on.
 * @throws PART_MISSING
 */
export async function findParts(
  cacheDir: string,
  overrides: Partial<ClusterDependencies> = {},
): Promise<ClusterDependencies> {
  const parts: ClusterDependencies = {
    hubMain:
      overrides.hubMain ??
      programOf('@rookery/hub', () => import.meta.resolve('@rookery/hub/main')),
    applianceMain:
      overrides.applianceMain ??
      programOf('@rookery/appliance', () => import.meta.resolve('@rookery/appliance/main')),
    baseImage: join(cacheDir, 'images/debian-13.tar'),
    toolsDir: join(cacheDir, 'tools'),
    btrfsProgram: await firstOf(join(cacheDir, 'bin/btrfs'), 'btrfs'),
    ...overrides,
  };
  for (const path of [parts.hubMain, parts.applianceMain, parts.baseImage, parts.toolsDir]) {
    if (!(await exists(path))) throw ClusterErrors.PART_MISSING({ path });
  }
  return parts;
}

function programOf(name: string, find: () => string): string {
  try {
    return fileURLToPath(find());
  } catch (error) {
    throw ClusterErrors.PART_MISSING({ path: name }, { cause: error });
  }
}

const firstOf = async (wanted: string, otherwise: string): Promise<string> =>
  (await exists(wanted)) ? wanted : otherwise;

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );

/** What the parts are started with: this cluster's settings and none of our own caller's. */
export class ClusterCommands {
  private readonly withoutOurs: Readonly<Record<string, undefined>>;

  constructor(
    private readonly parts: ClusterDependencies,
    private readonly paths: ClusterPaths,
    environment: NodeJS.ProcessEnv,
  ) {
    const names = Object.keys(environment).filter((name) => name.startsWith('ROOKERY_'));
    this.withoutOurs = Object.fromEntries(names.map((name) => [name, undefined]));
  }

  hub(cluster: ClusterFile): SupervisedCommand {
    return this.command('hub', this.parts.hubMain, {
      ROOKERY_DATA: this.paths.hub,
      ROOKERY_PORT: String(cluster.port),
      ROOKERY_LISTEN: cluster.listen,
      ROOKERY_PUBLIC_URL: cluster.publicUrl,
      ROOKERY_APPS_URL: cluster.hub.appsUrl,
      ROOKERY_PATH_ORIGIN: cluster.hub.pathOrigin,
      ROOKERY_TRUSTED_PROXIES: cluster.hub.trustedProxies,
      ROOKERY_BOOTSTRAP_FILE: this.paths.credentials,
    });
  }

  host(cluster: ClusterFile, host: ClusterHost, joinToken: string | undefined): SupervisedCommand {
    const { paths, parts } = this;
    const web = new URL(cluster.publicUrl);
    return this.command(host.name, parts.applianceMain, {
      ROOKERY_DATA: paths.hostData(host),
      ROOKERY_HUB_URL: `http://${dialAddress(cluster.listen)}:${cluster.port}`,
      ROOKERY_JOIN_TOKEN: joinToken,
      ROOKERY_HOST_NAME: host.name,
      ROOKERY_PORT: String(host.port),
      ROOKERY_SSH_PORT: String(host.sshPort),
      ROOKERY_AGENT_PORT: String(host.agentPort),
      ROOKERY_LISTEN: cluster.listen,
      ROOKERY_PUBLIC_URL: `http://${web.hostname}:${host.port}`,
      ROOKERY_INTERNAL_URL: `http://${dialAddress(cluster.listen)}:${host.port}`,
      ROOKERY_VOLUME_BYTES: String(cluster.volumeBytes),
      ROOKERY_MEMORY_RESERVE_BYTES: String(memoryReserveBytes(cluster.hosts.length)),
      ROOKERY_PROJECT_CIDR: host.cidr,
      ROOKERY_UID_BASE: String(uidBaseOf(cluster, host)),
      ROOKERY_UID_RANGES: String(uidRanges),
      ROOKERY_HOST_KEY: host.key,
      ROOKERY_LOCAL_IMAGES: JSON.stringify({ [baseImageRef]: parts.baseImage }),
      ROOKERY_TOOLS_DIR: parts.toolsDir,
      ROOKERY_BTRFS_PROGRAM: parts.btrfsProgram,
      ROOKERY_BACKUP_REPOSITORY: paths.backups,
      ROOKERY_BACKUP_PASSWORD_FILE: paths.backupPassword,
    });
  }

  /** A host of its own, for a hub elsewhere: its settings may come from the caller's environment, too. */
  static joining(
    applianceMain: string,
    name: string,
    settings: Readonly<Record<string, string>>,
  ): SupervisedCommand {
    const own = ['URL', 'TOKEN', 'CONTEXT', 'HUB_MAIN', 'APPLIANCE_MAIN'];
    const without = Object.fromEntries(own.map((one) => [`ROOKERY_${one}`, undefined]));
    const argv = [process.execPath, '--enable-source-maps', applianceMain];
    return { name, argv, env: { ...without, ...settings } };
  }

  private command(
    name: string,
    main: string,
    env: Readonly<Record<string, string | undefined>>,
  ): SupervisedCommand {
    return {
      name,
      argv: [process.execPath, '--enable-source-maps', main],
      env: { ...this.withoutOurs, ...env },
      logFile: this.paths.log(name),
    };
  }
}

/** The hosts of a machine run their projects as different users. */
function uidBaseOf(cluster: ClusterFile, host: ClusterHost): number {
  const index = cluster.hosts.findIndex(({ name }) => name === host.name);
  return uidsFirst + (index % uidHostsMax) * uidRanges * idsPerProject;
}

/** The hosts of a machine share what its projects may use: each leaves the others their parts. */
function memoryReserveBytes(hosts: number): number {
  return machineMemoryBytes() - Math.floor(projectMemoryBytes() / hosts);
}

/** Where this machine dials what listens there. */
export function dialAddress(listen: string): string {
  if (listen === '0.0.0.0') return '127.0.0.1';
  if (listen === '::') return '[::1]';
  return listen.includes(':') ? `[${listen}]` : listen;
}
