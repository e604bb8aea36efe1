import { readdir, rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { waitFor } from '@rookery/core';

const cgroupRoot = '/sys/fs/cgroup';

/**
 * Removes a cgroup and what is in it, in every hierarchy of versions 1 and 2. The kernel lets only empty ones
 * go; a process that has just ended may hold its own for a moment.
 */
export async function sweepCgroups(name: string): Promise<void> {
  const hierarchies = (await folders(cgroupRoot)).map((one) => join(cgroupRoot, one));
  for (const hierarchy of [cgroupRoot, ...hierarchies]) {
    if (!(await folders(hierarchy)).includes(name)) continue;
    await waitFor(`the cgroup ${name} is empty`, () => removeTree(join(hierarchy, name)), {
      timeoutMs: 10_000,
      everyMs: 100,
    });
  }
}

/** Depth first. @returns false when something is still in use */
async function removeTree(path: string): Promise<boolean> {
  for (const child of await folders(path)) await removeTree(join(path, child));
  try {
    await rmdir(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
}

async function folders(path: string): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
