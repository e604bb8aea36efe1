import { closeSync, openSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import {
  attachMount,
  cloneMount,
  CoreErrors,
  idsPerProject,
  mapMountIds,
  readMounts,
  type Exec,
} from '@rookery/core';
import type { Isolation } from '../container.driver.js';
import { unmount } from './overlay-mount.js';
import { diskRootId, sharedRange, type IdRange } from './runner-id.js';
import { withUserNamespace } from './user-namespace.js';

/** Since this one overlayfs takes layers whose owners a mount maps. */
const kernelSince = [5, 19] as const;

/**
 * Finds out by trying whether mounts of a file system can show other owners.
 * @param folder on the file system that holds the projects
 */
export async function probeIsolation(exec: Exec, folder: string): Promise<Isolation> {
  const version = release();
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  if (major < kernelSince[0] || (major === kernelSince[0] && minor < kernelSince[1])) {
    const reason = `the kernel ${version} is older than ${kernelSince.join('.')}`;
    return { kind: 'shared', reason };
  }
  try {
    const range = { firstId: diskRootId + idsPerProject };
    await withUserNamespace(exec, mountMap(range), async (namespace) => {
      closeSync(mappedMount(folder, namespace));
    });
    return { kind: 'idmapped' };
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    return { kind: 'shared', reason: `the file system of the projects cannot map owners: ${text}` };
  }
}

/**
 * Makes mounts beneath `folder` in which the owners on disk are the range's. They are for the time
 * of a container's start: it has its own copies then.
 * @param sources name → folder
 * @returns name → where it is mounted; in the shared range the sources themselves
 */
export async function attachMapped<Name extends string>(
  exec: Exec,
  folder: string,
  sources: Readonly<Record<Name, string>>,
  range: IdRange,
): Promise<Readonly<Record<Name, string>>> {
  if (range.firstId === sharedRange.firstId) return sources;
  const entries = Object.entries<string>(sources);
  await detachMapped(exec, folder);
  await withUserNamespace(exec, mountMap(range), async (namespace) => {
    for (const [name, source] of entries) {
      const target = join(folder, name);
      await mkdir(target, { recursive: true, mode: 0o700 });
      const fd = mappedMount(source, namespace);
      try {
        attachMount(fd, target);
      } finally {
        closeSync(fd);
      }
    }
  });
  const mounted = entries.map(([name]) => [name, join(folder, name)]);
  return Object.fromEntries(mounted) as Record<Name, string>;
}

/**
 * Takes away what {@link attachMapped} has made; containers keep theirs.
 * @throws when something stays mounted: who removes the folder would remove a project's files
 */
export async function detachMapped(exec: Exec, folder: string): Promise<void> {
  const inside = async (): Promise<string[]> =>
    (await readMounts()).map(({ path }) => path).filter((path) => path.startsWith(`${folder}/`));
  for (const path of (await inside()).reverse()) await unmount(exec, path);
  const left = await inside();
  if (left.length > 0) throw CoreErrors.INTERNAL({ reason: `still mounted: ${left.join(', ')}` });
}

function mappedMount(source: string, namespace: string): number {
  const usernsFd = openSync(namespace, 'r');
  try {
    const fd = cloneMount(source);
    try {
      mapMountIds(fd, usernsFd);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  } finally {
    closeSync(usernsFd);
  }
}

/** The host's own root stays itself: overlayfs writes its work folder as root. */
function mountMap({ firstId }: IdRange): string {
  return `0 0 1\n${diskRootId} ${firstId} ${idsPerProject}\n`;
}
