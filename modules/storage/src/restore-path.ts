import { closeSync, constants } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  CodedError,
  newId,
  openBeneath,
  openPathFlags,
  toCodedError,
  type Exec,
} from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import { copyTree } from './copy-tree.js';
import { homePath, type PathStagings } from './path-staging.js';
import { spaceErrorOf } from './space.js';
import { StorageErrors } from './storage.errors.js';

const folder = constants.O_RDONLY | constants.O_DIRECTORY;

interface SnapshotPath {
  readonly projectId: ProjectId;
  readonly snapshotName: string;
  readonly snapshotHome: string;
  readonly path: string;
}

/**
 * Copies one path of a snapshot's home into the live home: staged first, then put in place.
 * @throws DISK_FULL, QUOTA_EXCEEDED
 */
export async function restorePath(
  exec: Exec,
  stagings: PathStagings,
  options: SnapshotPath & { readonly volume: string },
): Promise<void> {
  try {
    await copyPath(exec, stagings, options);
  } catch (error) {
    const text = String(toCodedError(error).details['stderr'] ?? (error as Error).message);
    throw spaceErrorOf(text, options.volume, error) ?? error;
  }
}

async function copyPath(exec: Exec, stagings: PathStagings, options: SnapshotPath): Promise<void> {
  const path = homePath(options.path);
  const source = openSource(options, dirname(path), basename(path));
  try {
    await using staging = await stagings.open(options.projectId, newId());
    // By our pid: the child has no copy of the descriptor.
    const from = `/proc/${process.pid}/fd/${source}/${basename(path)}`;
    const to = join(staging.folder, 'item');
    await copyTree(exec, from, to);
    await staging.place('item', path, { like: options.snapshotHome });
  } finally {
    closeSync(source);
  }
}

function openSource(
  options: { snapshotName: string; snapshotHome: string; path: string },
  parent: string,
  name: string,
): number {
  let fd: number | undefined;
  try {
    fd = openBeneath(options.snapshotHome, parent, folder);
    closeSync(openBeneath(fd, name, openPathFlags));
    return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (CodedError.is(error)) throw error;
    const { snapshotName, path } = options;
    throw StorageErrors.SNAPSHOT_PATH_NOT_FOUND({ name: snapshotName, path }, { cause: error });
  }
}
