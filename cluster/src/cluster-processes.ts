import { readdir, readFile, readlink } from 'node:fs/promises';
import {
  identifyProcess,
  isProcessAlive,
  readMounts,
  SystemClock,
  waitFor,
  type ProcessIdentity,
} from '@rookery/core';
import { sharesRoot } from './mount-namespaces.js';

/**
 * `service`: hub, hosts and what they started. `monitor`: podman's conmon.
 * `container`: everything inside a project.
 */
export type ProcessKind = 'service' | 'monitor' | 'container';

export interface ClusterProcess {
  readonly identity: ProcessIdentity;
  readonly parent: number;
  readonly kind: ProcessKind;
  readonly command: string;
}

const killWaitMs = 15_000;

/**
 * Finds a cluster's processes on this machine, whoever started them and whatever became of their
 * parents. What a process is comes from what it cannot easily lose: the data folder in its first
 * environment, Postgres' working folder, conmon's arguments, and for a project's processes the
 * overlay that is their root. A shell that stands in the folder is none of them.
 */
export async function findClusterProcesses(
  dataDir: string,
  kinds: readonly ProcessKind[] = ['service', 'monitor', 'container'],
): Promise<ClusterProcess[]> {
  const ours = await readlink('/proc/self/ns/mnt');
  const folders = [`${dataDir}/`, ...(await runFolders(dataDir))];
  const found: ClusterProcess[] = [];
  for (const entry of await readdir('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    const kind = await kindOf(pid, folders, ours).catch(() => undefined);
    if (kind === undefined || !kinds.includes(kind)) continue;
    const identity = await identifyProcess(pid);
    const facts = await factsOf(pid).catch(() => undefined);
    if (identity && facts) found.push({ identity, kind, ...facts });
  }
  return found;
}

/** Of the cluster's hosts: in them the layers of a project's root were mounted for its start. */
async function runFolders(dataDir: string): Promise<string[]> {
  return (await readMounts())
    .filter(({ source }) => source.startsWith(`rookery:${dataDir}/`))
    .map(({ path }) => `${path}/`);
}

/** @param folders the data folder, then the hosts' run folders */
async function kindOf(
  pid: number,
  folders: readonly string[],
  ownMounts: string,
): Promise<ProcessKind | undefined> {
  const [inside = ''] = folders;
  if ((await readlink(`/proc/${pid}/ns/mnt`)) !== ownMounts) {
    // Daemons with private mounts see copies of ours; of all roots only a container's is our overlay.
    const mounts = await readFile(`/proc/${pid}/mountinfo`, 'utf8');
    const root = mounts.split('\n').filter((line) => line.split(' ')[4] === '/');
    if (root.some((line) => folders.some((folder) => line.includes(folder)))) return 'container';
    // A backup's program has mounts of its own; with another root it is another machine's.
    return (await sharesRoot(pid)) && (await startedFor(pid, inside)) ? 'service' : undefined;
  }
  const command = (await readFile(`/proc/${pid}/comm`, 'utf8')).trim();
  if (command === 'conmon') {
    const argv = (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
    return argv.some((word) => word.startsWith(inside)) ? 'monitor' : undefined;
  }
  if (command === 'postgres') {
    return (await readlink(`/proc/${pid}/cwd`)).startsWith(inside) ? 'service' : undefined;
  }
  return (await startedFor(pid, inside)) ? 'service' : undefined;
}

async function startedFor(pid: number, inside: string): Promise<boolean> {
  const environment = (await readFile(`/proc/${pid}/environ`, 'utf8')).split('\0');
  return environment.some((one) => one.startsWith(`ROOKERY_DATA=${inside}`));
}

async function factsOf(pid: number): Promise<{ parent: number; command: string }> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const end = stat.lastIndexOf(')');
  return {
    parent: Number(stat.slice(end + 2).split(' ')[1]),
    command: stat.slice(stat.indexOf('(') + 1, end),
  };
}

/**
 * Ends all processes of these kinds: SIGTERM, and SIGKILL after the grace.
 * In a project only its first process is asked; it asks the others.
 */
export async function endClusterProcesses(
  dataDir: string,
  kinds: readonly ProcessKind[],
  graceMs: number,
): Promise<number> {
  const first = await findClusterProcesses(dataDir, kinds);
  if (first.length === 0) return 0;
  const pids = new Set(first.map((one) => one.identity.pid));
  for (const one of first) {
    if (one.kind !== 'container' || !pids.has(one.parent)) await signal(one.identity, 'SIGTERM');
  }
  const gone = async (): Promise<boolean> =>
    (await findClusterProcesses(dataDir, kinds)).length === 0;
  const clock = new SystemClock();
  const deadline = clock.now() + graceMs;
  while (!(await gone()) && clock.now() < deadline) await clock.delay(100);
  await waitFor(
    `the processes of ${dataDir} are gone`,
    async () => {
      const left = await findClusterProcesses(dataDir, kinds);
      for (const one of left) await signal(one.identity, 'SIGKILL');
      return left.length === 0;
    },
    { timeoutMs: killWaitMs, everyMs: 100 },
  );
  return first.length;
}

/** Signals exactly that process; one that is gone meanwhile is no error. */
export async function signal(identity: ProcessIdentity, name: NodeJS.Signals): Promise<void> {
  if (!(await isProcessAlive(identity))) return;
  try {
    process.kill(identity.pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
