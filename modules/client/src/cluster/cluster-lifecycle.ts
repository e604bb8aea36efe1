import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isProcessAlive, SystemExec, waitFor, type Exec } from '@rookery/core';
import { ClusterErrors } from './cluster.errors.js';
import {
  prepareDataDir,
  readCluster,
  realDataDir,
  clusterPaths,
  writeCluster,
  type ClusterFile,
  type ClusterPaths,
} from './cluster-file.js';
import { growCluster, planCluster, type ClusterWish } from './cluster-plan.js';
import { signal } from './cluster-processes.js';
import { clearMachine } from './cluster-supervisor.js';
import { clusterMounts } from './machine-sweep.js';
import { checkPorts, checkSpace, checkWayIn, takenNetworks } from './preflight.js';
import { readRuntime, runningSupervisor } from './runtime-file.js';

/** A supervisor stops its parts one after the other; afterwards it is killed. */
const supervisorStopMs = 150_000;

/**
 * Opens the cluster of a folder, or lays out a new one; adds hosts when more are wished.
 * @throws CLUSTER_RUNNING, CLUSTER_FIXED, DATA_DIR_NOT_EMPTY, DATA_DIR_UNUSABLE, DISK_TOO_FULL,
 *   PORT_IN_USE for a new one
 */
export async function openCluster(
  dataDir: string,
  wish: ClusterWish,
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
  const present = await readCluster(paths);
  if (present) refuseChanges(paths.dataDir, present, wish);
  if (present && present.hosts.length >= (wish.hosts ?? 0)) return { paths, cluster: present };
  const taken = await takenNetworks(exec);
  const cluster = present
    ? growCluster(present, wish.hosts ?? present.hosts.length, taken)
    : planCluster(paths.dataDir, wish, { taken, freeBytes, now: new Date() });
  // Before it is written: what is written keeps its ports for ever.
  if (!present) await checkPorts(cluster);
  await writeCluster(paths, cluster);
  return { paths, cluster };
}

/** Hosts and browsers know the old addresses, so these stay as they were made. */
function refuseChanges(dataDir: string, present: ClusterFile, wish: ClusterWish): void {
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
 * @returns whether anything ran
 */
export async function stopCluster(
  paths: ClusterPaths,
  onStep: (text: string) => void,
  exec: Exec = new SystemExec(),
): Promise<boolean> {
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
  await clearMachine(exec, paths, await readCluster(paths).catch(() => undefined));
  await rm(paths.runtime, { force: true });
  return running !== undefined || crashed;
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
