import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hostTag, machineMemoryBytes, projectMemoryBytes } from '@rookery/core';

const cgroupRoot = '/sys/fs/cgroup';

/** Name of the cgroup of a cluster's hub and hosts; their projects' containers are in others. */
export const serviceCgroup = (dataDir: string): string => `rookery-services-${hostTag(dataDir)}`;

/**
 * Puts a process, and what it starts from now on, where the kernel takes no memory away for others as
 * long as all there use no more than what projects leave. Version 2 of cgroups alone can; where it
 * cannot be delegated, the process stays where it is.
 *
 * @param root where the hierarchies are mounted
 * @returns whether it is protected
 */
export async function protectMemory(
  pid: number,
  dataDir: string,
  root: string = cgroupRoot,
): Promise<boolean> {
  const controllers = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => '');
  if (!controllers.split(/\s+/).includes('memory')) return false;
  const folder = join(root, serviceCgroup(dataDir));
  const bytes = String(machineMemoryBytes() - projectMemoryBytes());
  try {
    await writeFile(join(root, 'cgroup.subtree_control'), '+memory');
    await mkdir(folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    // Some kernels give `low` to whom they refuse `min`: taken away only when nothing else is left.
    await writeFile(join(folder, 'memory.min'), bytes).catch(() =>
      writeFile(join(folder, 'memory.low'), bytes),
    );
    await writeFile(join(folder, 'cgroup.procs'), String(pid));
    return true;
  } catch {
    return false;
  }
}
