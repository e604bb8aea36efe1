import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import {
  identifyProcess,
  isProcessAlive,
  readMounts,
  type Exec,
  type Mount,
  type ProcessIdentity,
} from '@rookery/core';

/** A process that is none of a cluster's, and has something of it. */
export interface Holder {
  readonly identity: ProcessIdentity;
  readonly command: string;
}

/** `bash (process 1234)` */
export const holderText = ({ identity, command }: Holder): string =>
  `${command} (process ${identity.pid})`;

/** A mount namespace that is not this process's, seen through a process that lives in it. */
export interface MountNamespace {
  readonly pid: number;
  /** It sees the files that we see, so that paths mean the same. */
  readonly sharesRoot: boolean;
  readonly mounts: readonly Mount[];
}

/**
 * All others of this machine: a shell of `unshare`, a service with private mounts, a container. Each
 * began with a copy of its maker's mounts, and where `/` is private it keeps them whatever happens here.
 */
export async function otherMountNamespaces(): Promise<MountNamespace[]> {
  const own = await readlink('/proc/self/ns/mnt');
  const found = new Map<string, MountNamespace & { readonly isWhole: boolean }>();
  for (const pid of await processIds()) {
    const namespace = await readlink(`/proc/${pid}/ns/mnt`).catch(() => own);
    if (namespace === own || found.get(namespace)?.isWhole) continue;
    try {
      const mounts = await readMounts(pid);
      // A process in a chroot is shown the mounts beneath it only.
      const isWhole = mounts.some((mount) => mount.path === '/');
      const one = { pid, mounts, isWhole, sharesRoot: await sharesRoot(pid) };
      if (isWhole || !found.has(namespace)) found.set(namespace, one);
    } catch {
      // It has ended meanwhile.
    }
  }
  return [...found.values()];
}

/** Whether a process's root folder is ours. */
export async function sharesRoot(pid: number): Promise<boolean> {
  const [ours, theirs] = await Promise.all([
    stat('/', { bigint: true }),
    stat(`/proc/${pid}/root/`, { bigint: true }),
  ]);
  return ours.dev === theirs.dev && ours.ino === theirs.ino;
}

/**
 * Unmounts in that namespace, from the inside out; what is in use there is detached and goes with its
 * last user. What cannot be unmounted stays: whoever needs it gone looks again.
 */
export async function unmountWithin(
  exec: Exec,
  { pid }: MountNamespace,
  mounts: readonly Mount[],
): Promise<void> {
  const inside = ['nsenter', '--target', String(pid), '--mount', '--root', '--wd=/', '--'];
  for (const { path } of [...mounts].reverse()) {
    const { exit } = await exec.run([...inside, 'umount', '-n', path], { okExits: anyExit });
    if (exit === 0) continue;
    await exec.run([...inside, 'umount', '-n', '--lazy', path], { okExits: anyExit });
  }
}

/** umount(8) ends with up to 64, nsenter(1) with 126 or 127 where there is no such program. */
const anyExit: readonly number[] = Array.from({ length: 128 }, (_, status) => status);

/** Processes that stand in one of these folders, or have something open there. */
export async function holdersOf(folders: readonly string[]): Promise<Holder[]> {
  const found: Holder[] = [];
  if (folders.length === 0) return found;
  for (const pid of await processIds()) {
    if (!(await usedBy(pid)).some((path) => folders.some((one) => isWithin(path, one)))) continue;
    const identity = await identifyProcess(pid);
    const command = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    if (identity && pid !== process.pid) found.push({ identity, command: command.trim() });
  }
  return found;
}

export async function stillAlive(holders: readonly Holder[]): Promise<Holder[]> {
  const alive = await Promise.all(holders.map((one) => isProcessAlive(one.identity)));
  return holders.filter((_, index) => alive[index]);
}

async function usedBy(pid: number): Promise<string[]> {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = ['cwd', 'root', 'exe', ...descriptors.map((fd) => `fd/${fd}`)];
  return Promise.all(links.map((link) => readlink(`/proc/${pid}/${link}`).catch(() => '')));
}

const isWithin = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(`${folder}/`);

const processIds = async (): Promise<number[]> =>
  (await readdir('/proc')).map(Number).filter((pid) => Number.isInteger(pid));
