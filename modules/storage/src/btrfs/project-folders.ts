import { closeSync, constants, fchmodSync, fchownSync } from 'node:fs';
import { mkdirAt, openBeneath } from '@rookery/core';
import { containerRootId, homeMode, rootOwnedMode } from '../layout.js';
import { StorageErrors } from '../storage.errors.js';

const folder = constants.O_RDONLY | constants.O_DIRECTORY;

/** Folders of a live subvolume, outermost first, and whose they are. */
const folders: readonly { path: string; owner: number; mode: number }[] = [
  { path: '', owner: 0, mode: rootOwnedMode },
  { path: '.snapshots', owner: 0, mode: rootOwnedMode },
  { path: '.local', owner: 0, mode: rootOwnedMode },
  { path: '.local/share', owner: 0, mode: rootOwnedMode },
  { path: '.local/share/overlay', owner: 0, mode: rootOwnedMode },
  { path: 'home', owner: containerRootId, mode: homeMode },
];

/**
 * Gives a live subvolume its folders with their owners and modes. It may come from another host's
 * stream: what stands in a folder's place, a link above all, is never followed.
 * @throws STREAM_INVALID
 */
export function ensureProjectFolders(root: string, options: { keepHome: boolean }): void {
  for (const { path, owner, mode } of folders) {
    const fd = openOrMake(root, path);
    try {
      if (path === 'home' && options.keepHome) continue;
      fchownSync(fd, owner, owner);
      fchmodSync(fd, mode);
    } finally {
      closeSync(fd);
    }
  }
}

function openOrMake(root: string, path: string): number {
  try {
    return openBeneath(root, path, folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw notAFolder(path, error);
  }
  const slash = path.lastIndexOf('/');
  const parent = openBeneath(root, path.slice(0, Math.max(slash, 0)), folder);
  try {
    mkdirAt(parent, path.slice(slash + 1), rootOwnedMode);
  } finally {
    closeSync(parent);
  }
  return openBeneath(root, path, folder);
}

function notAFolder(path: string, cause: unknown): Error {
  const reason = `${path} is not a folder in it`;
  return StorageErrors.STREAM_INVALID({ item: 'the live volume', reason }, { cause });
}
