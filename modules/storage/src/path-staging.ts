import { closeSync, constants, fstatSync } from 'node:fs';
import { chmod, chown, mkdir } from 'node:fs/promises';
import { basename, dirname, join, normalize } from 'node:path';
import { ProjectId, RelativePath } from '@rookery/core/contract';
import {
  CoreErrors,
  fdPath,
  mkdirAt,
  openBeneath,
  parseInput,
  renameAt,
  renameExchange,
  type Exec,
} from '@rookery/core';
import { z } from 'zod';
import { exists, namesIn } from './files.js';
import { homeMode, privateMode, type VolumeLayout } from './layout.js';
import type { PathStaging } from './storage.driver.js';

const folder = constants.O_RDONLY | constants.O_DIRECTORY;
const removeTimeoutMs = 60 * 60_000;
/** Someone in the project makes and removes the target while we put the new one there. */
const swapAttemptsMax = 8;
/** In a live subvolume's root, which is the host root's: no project sees or reaches it. */
const prefix = '.restore-';
/** What follows the prefix: an operation's id, or one of our own. */
const StagingName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/);

/**
 * Folders where one path of a project is laid down before it takes its place. The project may run
 * and change any name under our hands: it cannot reach these, and what is in them is charged to it.
 * One that is in use here is never dropped, however long it takes to fill.
 */
export class PathStagings {
  private readonly inUse = new Set<string>();

  constructor(
    private readonly exec: Exec,
    private readonly layout: VolumeLayout,
    /** Everything written so far is on disk. */
    private readonly flush: () => Promise<void>,
  ) {}

  /** An empty folder; what an earlier try of this name left is gone. */
  async open(id: ProjectId, name: string): Promise<PathStaging> {
    const path = this.path(id, parseInput(StagingName, name));
    this.inUse.add(path);
    const release = async (): Promise<void> => {
      try {
        await this.remove(path);
      } finally {
        this.inUse.delete(path);
      }
    };
    try {
      await this.remove(path);
      await mkdir(path, { mode: privateMode });
    } catch (error) {
      this.inUse.delete(path);
      throw error;
    }
    return {
      folder: path,
      place: (item, into, options) =>
        this.place(path, item, { home: this.layout.home(id), into, like: options?.like }),
      release,
      [Symbol.asyncDispose]: release,
    };
  }

  /** Names of those that a project's volume holds. */
  async names(id: ProjectId): Promise<string[]> {
    const names = await namesIn(this.layout.live(id));
    return names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
  }

  isInUse(id: ProjectId, name: string): boolean {
    return this.inUse.has(this.path(id, name));
  }

  /** Removes one that nobody uses. @returns whether it was there and is gone */
  async drop(id: ProjectId, name: string): Promise<boolean> {
    if (this.isInUse(id, name) || !(await exists(this.path(id, name)))) return false;
    await this.remove(this.path(id, name));
    return true;
  }

  path(id: ProjectId, name: string): string {
    return join(this.layout.live(id), prefix + name);
  }

  private async place(
    staging: string,
    item: string,
    target: { home: string; into: string; like: string | undefined },
  ): Promise<void> {
    const into = homePath(target.into);
    const [from, name] = [dirname(normalize(item)), basename(item)];
    // A new name must not reach the disk before the bytes that it stands for.
    await this.flush();
    const toFd = await openTarget(target.home, dirname(into), target.like);
    try {
      const fromFd = openBeneath(staging, from, folder);
      try {
        putInPlace(fromFd, name, toFd, basename(into));
      } finally {
        closeSync(fromFd);
      }
    } finally {
      closeSync(toFd);
    }
    await this.flush();
  }

  /**
   * What was at the target before now lies here; `rm` walks by descriptors, so a process that still
   * sits inside cannot lead it elsewhere.
   */
  private async remove(path: string): Promise<void> {
    if (!(await exists(path))) return;
    await this.exec.run(['rm', '-rf', '--one-file-system', '--', path], {
      timeoutMs: removeTimeoutMs,
    });
  }
}

/** A path beneath home, never home itself. @throws PATH_OUTSIDE, INVALID_INPUT */
export function homePath(path: string): string {
  const clean = normalize(parseInput(RelativePath, path)).replace(/\/+$/, '');
  if (clean === '.' || clean === '') throw CoreErrors.PATH_OUTSIDE({ path });
  return clean;
}

/** Opens the folder under home, making what is missing as it is in `like`, else as home is owned. */
async function openTarget(home: string, parent: string, like: string | undefined): Promise<number> {
  let fd = openBeneath(home, '.', folder);
  let walked = '';
  for (const part of parent.split('/').filter((name) => name !== '.')) {
    walked = join(walked, part);
    const outer = fd;
    try {
      fd = await openOrMake(outer, part, { home, like, walked });
    } finally {
      closeSync(outer);
    }
  }
  return fd;
}

async function openOrMake(
  outer: number,
  part: string,
  { home, like, walked }: { home: string; like: string | undefined; walked: string },
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
  const model = openModel(home, like, walked);
  try {
    const { uid, gid, mode } = fstatSync(model.fd);
    await chown(fdPath(fd), uid, gid);
    await chmod(fdPath(fd), model.isHome ? homeMode : mode & 0o7777);
  } finally {
    closeSync(model.fd);
  }
  return fd;
}

function openModel(
  home: string,
  like: string | undefined,
  walked: string,
): { fd: number; isHome: boolean } {
  if (like !== undefined) {
    try {
      return { fd: openBeneath(like, walked, folder), isHome: false };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return { fd: openBeneath(home, '.', folder), isHome: true };
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
