import { chmod, mkdir, open, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { toCodedError, writeFileAtomic } from '@rookery/core';
import { z } from 'zod';
import { ClusterErrors } from './cluster.errors.js';

const Port = z.int().min(1).max(65535);

/** One local host as it was laid out when it was added; nothing of it changes later. */
export const ClusterHost = z.object({
  name: z.string(),
  /** Names nets, containers and rules of this host on this machine. */
  key: z.string(),
  cidr: z.string(),
  port: Port,
  sshPort: Port,
  agentPort: Port,
  /** Told once: its own identity brings it back later. */
  joined: z.boolean().default(false),
});
export type ClusterHost = z.infer<typeof ClusterHost>;

/** Settings of the hub that `up` takes; the hub checks what they say. */
const HubOptions = z.object({
  appsUrl: z.string().optional(),
  pathOrigin: z.enum(['own', 'shared']).optional(),
  trustedProxies: z.string().optional(),
});
export type HubOptions = z.infer<typeof HubOptions>;

/** `cluster.json`: what this folder is. All that `up`, `down` and `status` need to begin with. */
export const ClusterFile = z.object({
  version: z.literal(1),
  id: z.string(),
  createdAt: z.iso.datetime(),
  listen: z.string(),
  port: Port,
  publicUrl: z.url(),
  /** What the operator said of the hub’s settings beyond the addresses; absent: the hub’s defaults. */
  hub: HubOptions.default({}),
  volumeBytes: z.int().min(0),
  hosts: z.array(ClusterHost).min(1),
  /** The project of the first start, once it was made. */
  firstProjectId: z.uuid().optional(),
});
export type ClusterFile = z.infer<typeof ClusterFile>;

/** Where things lie in a cluster's data folder. */
export interface ClusterPaths {
  readonly dataDir: string;
  readonly file: string;
  /** Who supervises, and what runs; gone after a clean stop. */
  readonly runtime: string;
  readonly credentials: string;
  readonly hub: string;
  readonly backups: string;
  readonly backupPassword: string;
  hostData(host: ClusterHost): string;
  log(name: string): string;
}

export function clusterPaths(dataDir: string): ClusterPaths {
  return {
    dataDir,
    file: join(dataDir, 'cluster.json'),
    runtime: join(dataDir, 'supervisor.json'),
    credentials: join(dataDir, 'credentials.json'),
    hub: join(dataDir, 'hub'),
    backups: join(dataDir, 'backups'),
    backupPassword: join(dataDir, 'backup-password'),
    hostData: (host) => join(dataDir, 'hosts', host.name),
    log: (name) => join(dataDir, 'log', `${name}.log`),
  };
}

/** The folder without symbolic links: what mount tables and processes show. It may not exist yet. */
export async function realDataDir(dataDir: string): Promise<string> {
  const absolute = resolve(dataDir);
  return realpath(absolute).catch(() => absolute);
}

/** Undefined when the folder holds no cluster. @throws CLUSTER_FILE_INVALID */
export async function readCluster(paths: ClusterPaths): Promise<ClusterFile | undefined> {
  return readJsonFile(paths.file, ClusterFile);
}

export const writeCluster = (paths: ClusterPaths, cluster: ClusterFile): Promise<void> =>
  writeJsonFile(paths.file, cluster);

/** @throws CLUSTER_UNKNOWN */
export async function requireCluster(paths: ClusterPaths): Promise<ClusterFile> {
  const cluster = await readCluster(paths);
  if (!cluster) throw ClusterErrors.CLUSTER_UNKNOWN({ dataDir: paths.dataDir });
  return cluster;
}

/**
 * Makes the folder when it is not there. Others may enter it: Postgres runs as another user.
 * @throws DATA_DIR_UNUSABLE, DATA_DIR_NOT_EMPTY
 */
export async function prepareDataDir(paths: ClusterPaths): Promise<void> {
  const { dataDir } = paths;
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o711 });
    const entries = await readdir(dataDir);
    if (entries.length > 0 && !entries.includes('cluster.json')) {
      throw ClusterErrors.DATA_DIR_NOT_EMPTY({ dataDir });
    }
    const probe = join(dataDir, '.writable');
    await (await open(probe, 'w', 0o600)).close();
    await rm(probe);
  } catch (error) {
    const coded = toCodedError(error);
    if (coded.code !== 'INTERNAL') throw coded;
    const reason = (error as Error).message;
    throw ClusterErrors.DATA_DIR_UNUSABLE({ dataDir, reason }, { cause: error });
  }
}

/** Closes the folder of logs to the machine's other users, also one that was left open. */
export async function prepareLogs(paths: ClusterPaths): Promise<void> {
  const folder = dirname(paths.log('hub'));
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
}

export async function readJsonFile<T extends z.ZodType>(
  path: string,
  schema: T,
): Promise<z.output<T> | undefined> {
  try {
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : String(error);
    throw ClusterErrors.CLUSTER_FILE_INVALID({ path, reason }, { cause: error });
  }
}

/** Written whole or not at all, and on disk when this resolves. */
export async function writeJsonFile(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}
