import { closeSync, constants, fstatSync } from 'node:fs';
import { chown, chmod, mkdir } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import { RelativePath } from '@rookery/core/contract';
import {
  CodedError,
  CoreErrors,
  fdPath,
  mkdirAt,
  newId,
  openBeneath,
  openPathFlags,
  parseInput,
  renameAt,
  renameExchange,
  type Exec,
} from '@rookery/core';
import { privateMode } from './layout.js';
import { StorageErrors } from './storage.errors.js';

const folder = constants.O_RDONLY | constants.O_DIRECTORY;
const copyTimeoutMs = 60 * 60_000;
/** Someone in the project makes and removes the target while we put the new one there. */
const swapAttemptsMax = 8;
/** In a live subvolume's root, which is the host root's: no project sees or reaches it. */
export const restoreStagingPrefix = '.restore-';

/**
 * Copies one path of a snapshot's home into the live home. The project may run and change any name
 * under our hands, so the copy is made where it cannot reach and put in place by one rename beneath
 * an open folder.
 */
export async function restorePath(
  exec: Exec,
  options: { snapshotName: string; snapshotHome: string; liveRoot: string; path: string },
): Promise<void> {
  const path = normalize(parseInput(RelativePath, options.path)).replace(/\/+$/, '');
  if (path === '.' || path === '') throw CoreErrors.PATH_OUTSIDE({ path: options.path });
  const staging = join(options.liveRoot, `${restoreStagingPrefix}${newId()}`);
  const open: number[] = [];
  const opened = (fd: number): number => {
    open.push(fd);
    return fd;
  };
  try {
    const source = opened(openSource(options, dirname(path), basename(path)));
    await mkdir(staging, { mode: privateMode });
    // By our pid: the child has no copy of the descriptor.
    const from = `/proc/${process.pid}/fd/${source}/${basename(path)}`;
    await exec.run(['cp', '-a', '--reflink=auto', '-T', '--', from, join(staging, 'item')], {
      timeoutMs: copyTimeoutMs,
    });
    const home = join(options.liveRoot, 'home');
    const target = opened(await openTarget(home, options.snapshotHome, dirname(path)));
    const staged = opened(openBeneath(staging, '.', folder));
    putInPlace(staged, 'item', target, basename(path));
  } finally {
    for (const fd of open) closeSync(fd);
    // What was there before now lies here; `rm` walks by descriptors, so a process that still sits
    // inside cannot lead it elsewhere.
    await exec.run(['rm', '-rf', '--one-file-system', '--', staging], { timeoutMs: copyTimeoutMs });
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

/** Opens the folder under home, making what is missing as it is in the snapshot. */
async function openTarget(home: string, snapshotHome: string, parent: string): Promise<number> {
  let fd = openBeneath(home, '.', folder);
  let walked = '';
  for (const part of parent.split('/').filter((name) => name !== '.')) {
    walked = join(walked, part);
    const outer = fd;
    try {
      fd = await openOrMake(outer, part, snapshotHome, walked);
    } finally {
      closeSync(outer);
    }
  }
  return fd;
}

async function openOrMake(
  outer: number,
  part: string,
  snapshotHome: string,
  walked: string,
): Promise<number> {
  try {
    return openBeneath(outer, part, folder);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOTDIR') throw CoreErrors.PATH_OUTSIDE({ path: walked }, { cause: error });
    if (code !== 'ENOENT') throw error;
  }
  mkdirAt(outer, part, privateMode);
  const fd = openBeneath(outer, part, folder);
  const like = openBeneath(snapshotHome, walked, folder);
  try {
    const { uid, gid, mode } = fstatSync(like);
    await chown(fdPath(fd), uid, gid);
    await chmod(fdPath(fd), mode & 0o7777);
  } finally {
    closeSync(like);
  }
  return fd;
}

function putInPlace(fromFd: number, from: string, toFd: number, to: string): void {
  for (let attempt = 1; ; attempt += 1) {
    try {
      renameExchange(fromFd, from, toFd, to);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    try {
      renameAt(fromFd, from, toFd, to);
      return;
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? '';
      const raced = ['ENOTEMPTY', 'EEXIST', 'EISDIR', 'ENOTDIR'].includes(code);
      if (!raced || attempt >= swapAttemptsMax) throw error;
    }
  }
}
