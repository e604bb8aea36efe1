import { constants, type Stats } from 'node:fs';
import { lstat, readlink } from 'node:fs/promises';
import { fdPath, openPathFlags, withBeneath } from '@rookery/core';
import { RunnerErrors } from '../runner.errors.js';

export interface RootLayers {
  /** The project's changes: what it wins over the image with. */
  readonly upper: string;
  readonly lower: string;
  /** Folders that lie over the root filesystem in the container: first part of the path → folder. */
  readonly mounts: Readonly<Record<string, string>>;
}

/** What the OCI runtime opens inside a container, whoever it is that starts there. */
const openedAtStart = ['etc/passwd', 'etc/group'];
/** As the kernel follows at most. */
const linksMax = 40;
/** What lies there is the kernel's; a way there may end at what never answers. */
const kernelFolders = ['proc', 'sys', 'dev'];

interface Entry {
  readonly stats: Stats;
  readonly link: string | undefined;
}

/**
 * Looks whether what the runtime opens at a start is a file or missing: a pipe would hold the start
 * up for ever, and podman's lock with it. Nothing is opened, nothing outside of the project followed.
 * @throws ROOTFS_UNUSABLE
 */
export async function checkRoot(projectId: string, layers: RootLayers): Promise<void> {
  for (const path of openedAtStart) {
    const reason = await whatHoldsUp(path, layers);
    if (reason !== undefined) {
      throw RunnerErrors.ROOTFS_UNUSABLE({ projectId, path: `/${path}`, reason });
    }
  }
}

async function whatHoldsUp(path: string, layers: RootLayers): Promise<string | undefined> {
  let pending = path.split('/');
  let at: string[] = [];
  for (let links = 0; links <= linksMax;) {
    const name = pending.shift();
    if (name === undefined) return undefined;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at = at.slice(0, -1);
      continue;
    }
    if (at.length === 0 && kernelFolders.includes(name)) return `a link to /${name}`;
    const entry = await entryAt(at, name, layers);
    if (!entry) return undefined;
    if (entry.link !== undefined) {
      links += 1;
      pending = [...entry.link.split('/'), ...pending];
      if (entry.link.startsWith('/')) at = [];
      continue;
    }
    const { stats } = entry;
    if (stats.isFIFO()) return 'a pipe';
    if (stats.isSocket()) return 'a socket';
    if (stats.isCharacterDevice() || stats.isBlockDevice()) return 'a device';
    at = [...at, name];
  }
  return 'a circle of links';
}

/** @param at folders that were looked at one by one: none of them is a link */
async function entryAt(
  at: readonly string[],
  name: string,
  layers: RootLayers,
): Promise<Entry | undefined> {
  const [first, ...rest] = at;
  const mount = first === undefined ? undefined : layers.mounts[first];
  if (mount !== undefined) return entryIn(mount, rest, name);
  const upper = await entryIn(layers.upper, at, name);
  if (!upper) return entryIn(layers.lower, at, name);
  // Overlayfs notes a deletion as a device with the number 0.
  return upper.stats.isCharacterDevice() && upper.stats.rdev === 0 ? undefined : upper;
}

async function entryIn(
  root: string,
  folders: readonly string[],
  name: string,
): Promise<Entry | undefined> {
  try {
    const flags = openPathFlags | constants.O_DIRECTORY;
    return await withBeneath(root, folders.join('/'), flags, async (fd) => {
      const path = `${fdPath(fd)}/${name}`;
      const stats = await lstat(path);
      return { stats, link: stats.isSymbolicLink() ? await readlink(path) : undefined };
    });
  } catch (error) {
    const { code } = error as { code?: unknown };
    // PATH_OUTSIDE: a link in this layer where another has a folder, which is what counts.
    if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'PATH_OUTSIDE'].includes(String(code)))
      return undefined;
    throw error;
  }
}
