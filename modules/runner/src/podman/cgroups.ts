import { access, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { parseMounts } from '@rookery/core';
import type { ContainerStats } from '@rookery/fleet/contract';
import { RunnerErrors } from '../runner.errors.js';

export interface CgroupLimits {
  readonly memory: boolean;
  readonly cpu: boolean;
  readonly pids: boolean;
}

export const cgroupRoot = '/sys/fs/cgroup';

/** The files of version 1 and 2 that hold the same thing. */
const limitFiles = {
  memory: { v1: ['memory', 'memory.limit_in_bytes'], v2: 'memory.max', value: '67108864' },
  cpu: { v1: ['cpu', 'cpu.cfs_quota_us'], v2: 'cpu.max', value: '50000' },
  pids: { v1: ['pids', 'pids.max'], v2: 'pids.max', value: '100' },
} as const;

/**
 * Finds out by trying which limits this machine enforces: a controller may be missing, mounted
 * read-only or not delegated, and podman then refuses to start a container that asks for it.
 *
 * @param root where the hierarchies are mounted
 * @throws CGROUPS_MISSING
 */
export async function probeLimits(tag: string, root: string = cgroupRoot): Promise<CgroupLimits> {
  const v2 = await isUnified(root);
  if (!v2 && !(await hasHierarchies(root))) throw RunnerErrors.CGROUPS_MISSING({ root });
  const probe = `rookery-probe-${tag}`;
  const works = async (name: keyof typeof limitFiles): Promise<boolean> => {
    const file = limitFiles[name];
    const folder = v2 ? join(root, probe) : join(root, file.v1[0], probe);
    try {
      if (v2) await writeFile(join(root, 'cgroup.subtree_control'), `+${name}`);
      // Not `recursive`: where a kernel's file system refuses with ENOENT, Node tries for ever.
      await mkdir(folder).catch(unlessThere);
      await writeFile(join(folder, v2 ? file.v2 : file.v1[1]), file.value);
      return true;
    } catch {
      return false;
    } finally {
      await rmdir(folder).catch(() => undefined);
    }
  };
  return { memory: await works('memory'), cpu: await works('cpu'), pids: await works('pids') };
}

const unlessThere = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'EEXIST') throw error;
};

/** Whether any controller of version 1 is mounted: its root says which processes are in it. */
async function hasHierarchies(root: string): Promise<boolean> {
  const found = await Promise.all(
    Object.values(limitFiles).map(({ v1: [controller] }) =>
      access(join(root, controller, 'cgroup.procs')).then(
        () => true,
        () => false,
      ),
    ),
  );
  return found.includes(true);
}

/** One hierarchy (version 2) as against one a controller (version 1, hybrid). */
export async function isUnified(root: string = cgroupRoot): Promise<boolean> {
  return readFile(join(root, 'cgroup.controllers'), 'utf8').then(
    () => true,
    () => false,
  );
}

/** Reads what the container of process `pid` uses, straight from its cgroups. */
export async function readStats(pid: number): Promise<ContainerStats> {
  const [cgroups, mounts] = await Promise.all([
    readFile(`/proc/${pid}/cgroup`, 'utf8'),
    readFile('/proc/self/mountinfo', 'utf8'),
  ]);
  const unified = await isUnified();
  const read = async (controller: string, file: string): Promise<string> => {
    const folder = cgroupFolder(cgroups, mounts, unified ? '' : controller);
    return folder ? readFile(join(folder, file), 'utf8').catch(() => '') : '';
  };
  if (unified) {
    const usec = /usage_usec (\d+)/.exec(await read('cpu', 'cpu.stat'))?.[1];
    return {
      cpuSeconds: Number(usec ?? 0) / 1e6,
      memoryBytes: count(await read('memory', 'memory.current')),
      memoryLimitBytes: count(await read('memory', 'memory.max')),
      pids: count(await read('pids', 'pids.current')),
    };
  }
  return {
    cpuSeconds: count(await read('cpuacct', 'cpuacct.usage')) / 1e9,
    memoryBytes: count(await read('memory', 'memory.usage_in_bytes')),
    memoryLimitBytes: count(await read('memory', 'memory.limit_in_bytes')),
    pids: count(await read('pids', 'pids.current')),
  };
}

/** How many processes of its container the kernel has killed for want of memory. */
export async function readMemoryKills(pid: number): Promise<number> {
  const [cgroups, mounts] = await Promise.all([
    readFile(`/proc/${pid}/cgroup`, 'utf8').catch(() => ''),
    readFile('/proc/self/mountinfo', 'utf8'),
  ]);
  const unified = await isUnified();
  const folder = cgroupFolder(cgroups, mounts, unified ? '' : 'memory');
  if (folder === null) return 0;
  const file = join(folder, unified ? 'memory.events' : 'memory.oom_control');
  const text = await readFile(file, 'utf8').catch(() => '');
  return Number(/^oom_kill (\d+)$/m.exec(text)?.[1] ?? 0);
}

/**
 * Where the cgroup of a process lies among the mounts. A host that is itself a container sees
 * only its part of a hierarchy mounted, while the kernel names paths from the hierarchy's root.
 *
 * @param cgroups `/proc/<pid>/cgroup`, as cgroups(7) has it
 * @param mounts `/proc/self/mountinfo`, as proc_pid_mountinfo(5) has it
 * @param controller of version 1; empty for the one hierarchy of version 2
 * @returns null when that part of the hierarchy is not mounted here
 */
export function cgroupFolder(cgroups: string, mounts: string, controller: string): string | null {
  const path = cgroups
    .split('\n')
    .map((line) => /^\d+:([^:]*):(.*)$/.exec(line))
    .find((match) => match?.[1]?.split(',').includes(controller))?.[2];
  if (path === undefined) return null;
  for (const mount of parseMounts(mounts)) {
    const holds =
      controller === ''
        ? mount.fsType === 'cgroup2'
        : mount.fsType === 'cgroup' && mount.superOptions.split(',').includes(controller);
    if (!holds) continue;
    const below = relative(mount.root, path);
    if (below !== '..' && !below.startsWith('../')) return join(mount.path, below);
  }
  return null;
}

/** `max` and the kernel's "no limit" number become 0. */
function count(text: string): number {
  const value = Number(text.trim());
  return Number.isSafeInteger(value) ? value : 0;
}

/** Removes the empty cgroups that a host leaves behind, in every hierarchy. */
export async function removeCgroupParent(name: string): Promise<void> {
  const hierarchies = (await isUnified()) ? ['.'] : await readdir(cgroupRoot);
  for (const hierarchy of hierarchies) await removeTree(join(cgroupRoot, hierarchy, name));
}

/** The files in a cgroup cannot be removed; the folders can, from the leaves. */
async function removeTree(path: string): Promise<void> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  for (const entry of entries) if (entry.isDirectory()) await removeTree(join(path, entry.name));
  await rmdir(path).catch(() => undefined);
}
