import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MemorySlice } from '../container.driver.js';
import { cgroupRoot, isUnified } from './cgroups.js';

/** Where projects begin to be slowed down and reclaimed from, before any of them is killed. */
const highPart = 0.95;

/**
 * Limits the cgroup that all containers of this host run under. When the projects together want
 * more, the kernel slows them down and then ends one of their programs, and no one else's: without
 * it the machine's memory runs out, and everything on it becomes slow first. Version 1 knows the
 * limit, without the slowing down.
 *
 * @param root where the hierarchies are mounted
 */
export async function setMemorySlice(
  name: string,
  bytes: number,
  root: string = cgroupRoot,
): Promise<MemorySlice> {
  if (bytes <= 0) return { kind: 'none', reason: 'the reserve is as large as the memory' };
  const unified = await isUnified(root);
  const folder = unified ? join(root, name) : join(root, 'memory', name);
  const steps = unified
    ? [
        // The soft limit first: what is above the hard one when that is set is killed for.
        { file: 'memory.high', value: Math.floor(bytes * highPart) },
        { file: 'memory.max', value: bytes },
      ]
    : [{ file: 'memory.limit_in_bytes', value: bytes }];
  try {
    if (unified) await writeFile(join(root, 'cgroup.subtree_control'), '+memory');
    // Not `recursive`: where a kernel's file system refuses with ENOENT, Node tries for ever.
    await mkdir(folder).catch(unlessThere);
    for (const { file, value } of steps) await writeFile(join(folder, file), String(value));
    return { kind: unified ? 'cgroup-v2' : 'cgroup-v1', bytes };
  } catch (error) {
    return { kind: 'none', reason: await reasonOf(error as NodeJS.ErrnoException, root, unified) };
  }
}

/** What an operator can do something about. */
async function reasonOf(
  { code, message }: NodeJS.ErrnoException,
  root: string,
  unified: boolean,
): Promise<string> {
  const version = unified ? 2 : 1;
  const controllers = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => '');
  const has = unified ? controllers.split(/\s+/).includes('memory') : code !== 'ENOENT';
  if (!has) return `cgroup v${version} has no memory controller here`;
  if (code === 'EROFS') return `cgroup v${version} is mounted read-only`;
  if (code === 'EBUSY' && !unified) return 'the projects use more than that already';
  return `cgroup v${version} is not delegated to this host (${code ?? message})`;
}

const unlessThere = (error: NodeJS.ErrnoException): void => {
  if (error.code !== 'EEXIST') throw error;
};
