import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  isProcessAlive,
  IdClaims,
  NetworkClaims,
  SystemExec,
  waitFor,
  type Exec,
  type LockedClaims,
} from '@rookery/core';
import { ClusterErrors } from './cluster.errors.js';
import {
  prepareDataDir,
  prepareLogs,
  readCluster,
  realDataDir,
  clusterPaths,
  writeCluster,
  type ClusterFile,
  type ClusterPaths,
  type HubOptions,
} from './cluster-file.js';
import {
  growCluster,
  planCluster,
  type ClusterLayoutOptions,
  type TakenNetworks,
} from './cluster-plan.js';
import { signal } from './cluster-processes.js';
import { clearMachine } from './cluster-supervisor.js';
import { clusterMounts, leftoverText, type Leftovers } from './machine-sweep.js';
import { checkPorts, checkSpace, checkWayIn, takenNetworks } from './preflight.js';
import { readRuntime, runningSupervisor } from './runtime-file.js';

/** A supervisor stops its parts one after the other; afterwards it is killed. */
const supervisorStopMs = 150_000;

/**
 * Opens the cluster of a folder, or lays out a new one; adds hosts when more are wished. Its hosts'
 * networks are claimed on the machine.
 * @throws NETWORK_TAKEN, CLUSTER_RUNNING, CLUSTER_FIXED, DATA_DIR_NOT_EMPTY, DATA_DIR_UNUSABLE, DISK_TOO_FULL,
 *   PORT_IN_USE for a new one
 */
export async function openCluster(
  dataDir: string,
  wish: ClusterLayoutOptions,
  exec: Exec = new SystemExec(),
): Promise<{ paths: ClusterPaths; cluster: ClusterFile }> {
  await prepareDataDir(clusterPaths(await realDataDir(dataDir)));
  const paths = clusterPaths(await realDataDir(dataDir));
  const running = await runningSupervisor(paths);
  if (running) {
    const { pid } = running.supervisor;
    throw ClusterErrors.CLUSTER_RUNNING({ dataDir: paths.dataDir, pid });
  }
  await checkWayIn(paths.dataDir);
  const freeBytes = await checkSpace(paths.dataDir);
  const found = await readCluster(paths);
  if (found) refuseChanges(paths.dataDir, found, wish);
  const present = found && (await withHubSettings(paths, found, wish.hub ?? {}));
  const { dataDir: folder } = paths;
  // From what is taken to what is claimed nobody else on the machine chooses.
  const cluster = await new NetworkClaims().exclusively(async (locked) => {
    const enough = present && present.hosts.length >= (wish.hosts ?? 0);
    const chosen = enough ? present : await layOut(await claimedNetworks(locked));
    for (const { key, cidr } of chosen.hosts) {
      await locked.claim(cidr, { hostKey: key, folder });
    }
    return chosen;
  });
  await prepareLogs(paths);
  return { paths, cluster };

  async function layOut(claimed: TakenNetworks): Promise<ClusterFile> {
    const taken = [...claimed, ...(await takenNetworks(exec))];
    const laidOut = present
      ? growCluster(present, wish.hosts ?? present.hosts.length, taken)
      : planCluster(folder, wish, { taken, freeBytes, now: new Date() });
    // Before it is written: what is written keeps its ports for ever.
    if (!present) await checkPorts(laidOut);
    await writeCluster(paths, laidOut);
    return laidOut;
  }
}

const claimedNetworks = async (locked: LockedClaims): Promise<TakenNetworks> =>
  (await locked.list()).map((claim) => claim.cidr);

/** These may change from one start to the next. */
async function withHubSettings(
  paths: ClusterPaths,
  found: ClusterFile,
  wish: HubOptions,
): Promise<ClusterFile> {
  if (Object.keys(wish).length === 0) return found;
  const changed = { ...found, hub: { ...found.hub, ...wish } };
  await writeCluster(paths, changed);
  return changed;
}

/** Hosts and browsers know the old addresses, so these stay as they were made. */
function refuseChanges(dataDir: string, present: ClusterFile, wish: ClusterLayoutOptions): void {
  const refuse = (what: string, now: string | number, wanted: string | number): void => {
    if (now !== wanted) {
      throw ClusterErrors.CLUSTER_FIXED({ dataDir, what, present: now, wanted });
    }
  };
  refuse('port', present.port, wish.port ?? present.port);
  refuse('listen address', present.listen, wish.listen ?? present.listen);
  refuse('public URL', present.publicUrl, wish.publicUrl ?? present.publicUrl);
  refuse('volume size', present.volumeBytes, wish.volumeBytes ?? present.volumeBytes);
  const { length } = present.hosts;
  if (wish.hosts !== undefined && wish.hosts < length) refuse('hosts', length, wish.hosts);
}

/**
 * Stops a cluster, whatever is left of it: asks the supervisor, and does the rest itself.
 * @returns whether anything ran, and what somebody else keeps
 */
export async function stopCluster(
  paths: ClusterPaths,
  onStep: (text: string) => void,
  exec: Exec = new SystemExec(),
): Promise<{ stopped: boolean; leftovers: Leftovers }> {
  const running = await runningSupervisor(paths);
  if (running) {
    const { supervisor } = running;
    onStep(`stopping the cluster in ${paths.dataDir} (process ${supervisor.pid})`);
    await signal(supervisor, 'SIGTERM');
    const gone = async (): Promise<boolean> => !(await isProcessAlive(supervisor));
    await waitFor('the supervisor has ended', gone, { timeoutMs: supervisorStopMs }).catch(() =>
      signal(supervisor, 'SIGKILL'),
    );
  }
  const crashed = (await readRuntime(paths).catch(() => undefined)) !== undefined;
  if (crashed) onStep('clearing what a crashed run has left');
  const cluster = await readCluster(paths).catch(() => undefined);
  const leftovers = await clearMachine(exec, paths, cluster);
  for (const text of leftoverText(leftovers)) onStep(text);
  await rm(paths.runtime, { force: true });
  return { stopped: running !== undefined || crashed, leftovers };
}

/**
 * Deletes a stopped cluster's folder. What says that it is a cluster goes last, so that a destroy
 * that was interrupted can be repeated.
 * @throws STILL_MOUNTED
 */
export async function deleteData(
  paths: ClusterPaths,
  exec: Exec = new SystemExec(),
): Promise<void> {
  const [mount] = await clusterMounts(exec, paths.dataDir);
  if (mount) throw ClusterErrors.STILL_MOUNTED({ path: mount.path });
  const cluster = await readCluster(paths).catch(() => undefined);
  const claims = new NetworkClaims();
  for (const { key } of cluster?.hosts ?? []) {
    await claims.release({ hostKey: key, folder: paths.dataDir });
  }
  await new IdClaims().releaseWithin(paths.dataDir);
  for (const entry of await readdir(paths.dataDir)) {
    const path = join(paths.dataDir, entry);
    if (path !== paths.file) await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }
  await rm(paths.file, { force: true });
  await rm(paths.dataDir, { recursive: true, force: true });
}

/** True when there is nothing at all at that path. */
export const isAbsent = (path: string): Promise<boolean> =>
  lstat(path).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  );
