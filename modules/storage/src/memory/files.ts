import { cp, lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { CoreErrors, parseInput } from '@rookery/core';
import { RelativePath, type ProjectId } from '@rookery/core/contract';
import { exists } from '../files.js';
import type { VolumeLayout } from '../layout.js';
import { StorageErrors } from '../storage.errors.js';

export async function copy(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true, verbatimSymlinks: true, preserveTimestamps: true });
}

/** Bytes of all files in a folder. */
export async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await lstat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

/** Replaces one path of a home by the snapshot's. */
export async function copyPath(
  snapshotHome: string,
  home: string,
  { name, path }: { name: string; path: string },
): Promise<void> {
  const relative = normalize(parseInput(RelativePath, path));
  if (relative === '.') throw CoreErrors.PATH_OUTSIDE({ path });
  const from = join(snapshotHome, relative);
  if (!(await exists(from))) throw StorageErrors.SNAPSHOT_PATH_NOT_FOUND({ name, path });
  const to = join(home, relative);
  await mkdir(dirname(to), { recursive: true });
  await rm(to, { recursive: true, force: true });
  await copy(from, to);
}

/** A picture holds no snapshots, as on btrfs, where they are subvolumes of their own. */
export async function copyLive(from: string, to: string): Promise<void> {
  await mkdir(join(to, '.snapshots'), { recursive: true });
  for (const part of ['home', '.local']) {
    await rm(join(to, part), { recursive: true, force: true });
    await copy(join(from, part), join(to, part));
  }
}

/** All folders of a project, with what it is made of. */
export async function layFolders(
  layout: VolumeLayout,
  id: ProjectId,
  { live, persistence }: { live?: string; persistence?: string },
): Promise<void> {
  if (live !== undefined) await copyLive(live, layout.live(id));
  if (persistence !== undefined) await copy(persistence, layout.persistence(id));
  for (const path of Object.values(layout.paths(id)) as string[]) {
    await mkdir(path, { recursive: true });
  }
}

export async function removeFolders(layout: VolumeLayout, id: ProjectId): Promise<void> {
  const paths = [layout.live(id), layout.persistence(id), layout.scratch(id)];
  for (const path of [...paths, layout.frozenFolder(id)]) {
    await rm(path, { recursive: true, force: true });
  }
}
