import { CoreErrors, GiB, parseConfig } from '@rookery/core';
import { TrustedProxyList } from '@rookery/proxy';
import { EgressMode, EgressTarget, egressTargetsMax } from '@rookery/core/contract';
import { z } from 'zod';
import { machineParts } from './machine-parts.js';

const Port = z.coerce.number().int().min(0).max(65535);
const WebUrl = z.url({ protocol: /^https?$/ }).transform((url) => url.replace(/\/+$/, ''));
const AbsolutePath = z.string().regex(/^\/[^\0]*$/, 'must be an absolute path');

const LocalImages = z
  .string()
  .transform((text, context) => {
    try {
      return JSON.parse(text) as unknown;
    } catch {
      context.addIssue({ code: 'custom', message: 'is not JSON' });
      return z.NEVER;
    }
  })
  .pipe(z.record(z.string().min(1), AbsolutePath));

const List = z.string().transform((text) =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== ''),
);

/** Every setting of the host; the environment is read here and nowhere else. */
const HostEnvironment = z.object({
  /** Data folder: volume, database, keys. Whatever is not in it belongs to nobody. */
  ROOKERY_DATA: AbsolutePath,
  ROOKERY_HUB_URL: WebUrl,
  /** Needed until the host has joined. */
  ROOKERY_JOIN_TOKEN: z.string().min(1).optional(),
  ROOKERY_HOST_NAME: z.string().trim().min(1).max(100),
  ROOKERY_REGION: z.string().trim().min(1).max(60).default('default'),
  /** HTTP and WebSocket of projects. */
  ROOKERY_PORT: Port.default(7710),
  ROOKERY_SSH_PORT: Port.default(7711),
  /** The host's own broker for projects, and its health. */
  ROOKERY_AGENT_PORT: Port.default(7712),
  ROOKERY_LISTEN: z.string().min(1).default('127.0.0.1'),
  /** How browsers reach the host directly; default `http://<listen>:<port>`. */
  ROOKERY_PUBLIC_URL: WebUrl.optional(),
  /** How the hub and other hosts reach it; default the public one. */
  ROOKERY_INTERNAL_URL: WebUrl.optional(),
  /** TLS terminators before this host, whose X-Forwarded-* are believed. */
  ROOKERY_TRUSTED_PROXIES: TrustedProxyList.default([]),
  /** `shared`: browsers may come directly; all projects here share the origin. */
  ROOKERY_PATH_ORIGIN: z.enum(['own', 'shared']).default('own'),
  /** Size of the loopback volume; 0: the data folder's own btrfs is used. */
  ROOKERY_VOLUME_BYTES: z.coerce
    .number()
    .int()
    .min(0)
    .default(50 * GiB),
  ROOKERY_STORAGE_DRIVER: z.enum(['auto', 'btrfs', 'directory']).default('auto'),
  /** Default: the entry script's, else the machine's. */
  ROOKERY_BTRFS_PROGRAM: z.string().min(1).optional(),
  /** Network of the containers; hosts that share a machine need different ones. */
  ROOKERY_PROJECT_CIDR: z.cidrv4().default('10.88.0.0/16'),
  /** What projects may reach outside; each may be held to less. */
  ROOKERY_EGRESS: EgressMode.default('internet'),
  /** Comma-separated, as 10.0.0.5:5432/tcp; what else is open, or all with `allow-list`. */
  ROOKERY_EGRESS_ALLOW: List.pipe(z.array(EgressTarget).max(egressTargetsMax)).prefault(''),
  /** Names nets, containers and rules on a machine that several hosts share. */
  ROOKERY_HOST_KEY: z
    .string()
    .regex(/^[a-z0-9]{1,8}$/, 'use 1 to 8 lower case letters and digits')
    .default('r0'),
  /**
   * Each project runs as 65,536 user ids of this machine that nobody else has, from this one on;
   * hosts that share a machine need ranges that do not meet.
   */
  ROOKERY_UID_BASE: z.coerce
    .number()
    .int()
    .min(2 ** 20)
    .max(2 ** 31)
    .default(2 ** 20),
  /** How many projects get ids. */
  ROOKERY_UID_RANGES: z.coerce.number().int().min(1).max(32_752).default(4096),
  /** JSON: image reference → archive file on this machine. Default: the entry script's base image. */
  ROOKERY_LOCAL_IMAGES: LocalImages.optional(),
  /** The tools bundle that every project gets read-only. Default: /opt/rookery, else the entry script's. */
  ROOKERY_TOOLS_DIR: AbsolutePath.optional(),
  /** Folder or address as restic understands it; absent: no backups here. */
  ROOKERY_BACKUP_REPOSITORY: z.string().min(1).optional(),
  ROOKERY_BACKUP_PASSWORD_FILE: AbsolutePath.optional(),
  /** A backup or restore that takes longer is ended. */
  ROOKERY_BACKUP_HOURS: z.coerce.number().min(0.1).max(240).default(12),
  /** Days for which this host remembers backups, restores and moves that have ended. */
  ROOKERY_KEEP_JOBS_DAYS: z.coerce.number().int().min(1).max(3650).default(30),
  /** Seconds for which people already known may go on when the hub is away. */
  ROOKERY_OFFLINE_TTL: z.coerce
    .number()
    .min(1)
    .max(30 * 86_400)
    .default(86_400),
  /** Shown by whoever reads /metrics; absent: only this machine may. */
  ROOKERY_METRICS_TOKEN: z
    .string()
    .regex(/^\S{16,200}$/)
    .optional(),
  /** Comma-separated image patterns; absent: every image. */
  ROOKERY_IMAGE_ALLOWLIST: List.optional(),
  /** Where the entry script puts what a machine lacks. */
  ROOKERY_CACHE: AbsolutePath.default('/var/cache/rookery'),
  /** What all projects together can never use of the machine's memory. Default: see the runner's options. */
  ROOKERY_MEMORY_RESERVE_BYTES: z.coerce.number().int().min(0).optional(),
  /** What all projects together can never use of the volume. Default: see StorageOptions. */
  ROOKERY_DISK_RESERVE_BYTES: z.coerce.number().int().min(0).optional(),
  /** Images that no project here has used for so long are deleted when room is short. */
  ROOKERY_IMAGE_UNUSED_HOURS: z.coerce.number().min(0).max(87_600).default(24),
  /** Room is short when less than this part of the volume is free, in per cent. */
  ROOKERY_IMAGE_FREE_PERCENT: z.coerce.number().min(0).max(100).default(20),
  ROOKERY_LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info'),
});

export interface HostConfig {
  readonly dataDir: string;
  readonly hubUrl: string;
  readonly joinToken: string | undefined;
  readonly hostName: string;
  readonly region: string;
  readonly port: number;
  readonly sshPort: number;
  readonly agentPort: number;
  readonly listen: string;
  readonly publicUrl: string;
  readonly internalUrl: string;
  readonly trustedProxies: readonly string[];
  readonly pathOrigin: 'own' | 'shared';
  readonly volumeBytes: number;
  readonly diskReserveBytes: number | undefined;
  readonly memoryReserveBytes: number | undefined;
  readonly storageDriver: 'auto' | 'btrfs' | 'directory';
  readonly btrfsProgram: string;
  readonly projectCidr: string;
  readonly egress: { readonly mode: EgressMode; readonly allow: readonly string[] };
  readonly hostKey: string;
  /** User ids of the projects: `count` ranges from `first` on. */
  readonly ids: { readonly first: number; readonly count: number };
  readonly localImages: Readonly<Record<string, string>>;
  readonly toolsDir: string;
  readonly backup: { readonly repository: string; readonly passwordFile: string } | undefined;
  /** How long a backup or restore may take. */
  readonly backupMsMax: number;
  /** How long backups, restores and moves that have ended are remembered. */
  readonly keepJobsMs: number;
  readonly offlineMs: number;
  readonly imageAllowlist: readonly string[] | undefined;
  /** Which images are deleted when nobody uses them. */
  readonly imageCollect: { readonly unusedMs: number; readonly freePart: number };
  readonly metricsToken: string | undefined;
  readonly logLevel: string;
  readonly paths: HostPaths;
}

/** Injection token of the parsed settings. */
export const CONFIG = Symbol('HOST_CONFIG');

/** Where things lie in the data folder. */
interface HostPaths {
  readonly volume: string;
  readonly volumeFile: string;
  readonly database: string;
  readonly keys: string;
  /** pid and start time of the supervisor and its children. */
  readonly processes: string;
  /** Containers' storage and logs. */
  readonly containers: string;
  readonly images: string;
  /** A tmpfs of the host's own. */
  readonly run: string;
  /** In it: mounts, pids and locks of containers, gone after a reboot as they are. */
  readonly containersRun: string;
  /** In it: what each running container alone may know. */
  readonly projectTokens: string;
  readonly backupWork: string;
}

/**
 * Parses the environment once.
 * @throws INVALID_CONFIG naming everything that is wrong, unknown ROOKERY_ names included.
 */
export function configFromEnvironment(env: NodeJS.ProcessEnv = process.env): HostConfig {
  const ours = Object.fromEntries(
    Object.entries(env).filter(([name]) => name.startsWith('ROOKERY_')),
  );
  const unknown = Object.keys(ours).filter((name) => !(name in HostEnvironment.shape));
  if (unknown.length > 0) {
    throw CoreErrors.INVALID_CONFIG({ reason: `unknown names: ${unknown.sort().join(', ')}` });
  }
  const parsed = parseConfig(HostEnvironment, ours);
  const { ROOKERY_LISTEN: listen, ROOKERY_PORT: port, ROOKERY_DATA: dataDir } = parsed;
  const publicUrl =
    parsed.ROOKERY_PUBLIC_URL ?? `http://${listen.includes(':') ? `[${listen}]` : listen}:${port}`;
  const brought = machineParts(parsed.ROOKERY_CACHE);
  return Object.freeze({
    dataDir,
    hubUrl: parsed.ROOKERY_HUB_URL,
    joinToken: parsed.ROOKERY_JOIN_TOKEN,
    hostName: parsed.ROOKERY_HOST_NAME,
    region: parsed.ROOKERY_REGION,
    port,
    sshPort: parsed.ROOKERY_SSH_PORT,
    agentPort: parsed.ROOKERY_AGENT_PORT,
    listen,
    publicUrl,
    internalUrl: parsed.ROOKERY_INTERNAL_URL ?? publicUrl,
    trustedProxies: parsed.ROOKERY_TRUSTED_PROXIES,
    pathOrigin: parsed.ROOKERY_PATH_ORIGIN,
    volumeBytes: parsed.ROOKERY_VOLUME_BYTES,
    diskReserveBytes: parsed.ROOKERY_DISK_RESERVE_BYTES,
    memoryReserveBytes: parsed.ROOKERY_MEMORY_RESERVE_BYTES,
    storageDriver: parsed.ROOKERY_STORAGE_DRIVER,
    btrfsProgram: parsed.ROOKERY_BTRFS_PROGRAM ?? brought.btrfsProgram,
    projectCidr: parsed.ROOKERY_PROJECT_CIDR,
    egress: { mode: parsed.ROOKERY_EGRESS, allow: parsed.ROOKERY_EGRESS_ALLOW },
    hostKey: parsed.ROOKERY_HOST_KEY,
    ids: { first: parsed.ROOKERY_UID_BASE, count: parsed.ROOKERY_UID_RANGES },
    localImages: parsed.ROOKERY_LOCAL_IMAGES ?? brought.localImages,
    toolsDir: parsed.ROOKERY_TOOLS_DIR ?? brought.toolsDir,
    backup: backupOf(parsed),
    backupMsMax: parsed.ROOKERY_BACKUP_HOURS * 3_600_000,
    keepJobsMs: parsed.ROOKERY_KEEP_JOBS_DAYS * 86_400_000,
    offlineMs: parsed.ROOKERY_OFFLINE_TTL * 1000,
    imageAllowlist: parsed.ROOKERY_IMAGE_ALLOWLIST,
    imageCollect: {
      unusedMs: parsed.ROOKERY_IMAGE_UNUSED_HOURS * 3_600_000,
      freePart: parsed.ROOKERY_IMAGE_FREE_PERCENT / 100,
    },
    metricsToken: parsed.ROOKERY_METRICS_TOKEN,
    logLevel: parsed.ROOKERY_LOG_LEVEL,
    paths: pathsIn(dataDir, parsed.ROOKERY_HOST_KEY),
  });
}

function backupOf(parsed: z.output<typeof HostEnvironment>): HostConfig['backup'] {
  const repository = parsed.ROOKERY_BACKUP_REPOSITORY;
  const passwordFile = parsed.ROOKERY_BACKUP_PASSWORD_FILE;
  if (repository === undefined && passwordFile === undefined) return undefined;
  if (repository !== undefined && passwordFile !== undefined) return { repository, passwordFile };
  throw CoreErrors.INVALID_CONFIG({
    reason: 'ROOKERY_BACKUP_REPOSITORY and ROOKERY_BACKUP_PASSWORD_FILE belong together',
  });
}

// podman takes no longer path than 50 characters for its run files, so these are not in the data folder.
function pathsIn(dataDir: string, hostKey: string): HostPaths {
  const run = `/run/rookery/${hostKey}`;
  return {
    volume: `${dataDir}/volume`,
    volumeFile: `${dataDir}/volume.btrfs`,
    database: `${dataDir}/books/host.sqlite`,
    keys: `${dataDir}/keys`,
    processes: `${dataDir}/processes.json`,
    containers: `${dataDir}/containers`,
    images: `${dataDir}/images`,
    run,
    containersRun: `${run}/c`,
    projectTokens: `${run}/t`,
    backupWork: `${dataDir}/backup`,
  };
}
