import { closeSync, constants, openSync } from 'node:fs';
import { CoreErrors } from './errors.js';
import { openat2 } from './syscalls.js';

/**
 * Paths that somebody else may change under our hands (a project's files) are opened with
 * `openat2(2)` beneath a folder: neither `..`, an absolute path, a symbolic link nor a race between
 * check and use leads out of it. The descriptor then works with node:fs as `/proc/self/fd/N`.
 */

const RESOLVE_NO_MAGICLINKS = 0x02;
const RESOLVE_NO_SYMLINKS = 0x04;
const RESOLVE_BENEATH = 0x08;
const O_CLOEXEC = 0o2000000;
const O_PATH = 0o10000000;
const O_LARGEFILE = process.arch === 'arm64' ? 0o400000 : 0o100000;

/** The kernel says EAGAIN when a rename raced with a path that holds `..`. */
const racedAttemptsMax = 16;

export interface BeneathOptions {
  /**
   * `refuse` (default): a symbolic link anywhere in the path is PATH_OUTSIDE.
   * `beneath`: links are followed as long as they stay beneath the root.
   */
  readonly symlinks?: 'refuse' | 'beneath';
}

/**
 * Opens `relative` beneath `root`.
 * @param root an open directory's descriptor, or the path of one (itself trusted).
 * @param flags as of open(2): `constants.O_RDONLY | constants.O_DIRECTORY` …; the descriptor is
 * closed on exec always. {@link openPathFlags} gives one that only names the file.
 * @returns a descriptor that the caller closes.
 * @throws PATH_OUTSIDE; otherwise errors as node:fs throws them (ENOENT, ENOTDIR …)
 */
export function openBeneath(
  root: number | string,
  relative: string,
  flags: number = constants.O_RDONLY,
  mode = 0,
  options: BeneathOptions = {},
): number {
  if (typeof root === 'string') {
    const rootFd = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
    try {
      return openBeneath(rootFd, relative, flags, mode, options);
    } finally {
      closeSync(rootFd);
    }
  }
  if (relative.includes('\0')) throw CoreErrors.PATH_OUTSIDE({ path: relative });
  const how = {
    // O_LARGEFILE is implied by open(2) on 64-bit; with O_PATH openat2 refuses what has no meaning.
    flags: (flags & O_PATH ? flags : flags | O_LARGEFILE) | O_CLOEXEC,
    mode: flags & constants.O_CREAT ? mode : 0,
    resolve:
      RESOLVE_BENEATH |
      RESOLVE_NO_MAGICLINKS |
      (options.symlinks === 'beneath' ? 0 : RESOLVE_NO_SYMLINKS),
  };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return openat2(root, relative === '' ? '.' : relative, how);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EAGAIN' && attempt < racedAttemptsMax) continue;
      // ELOOP: a link where none may be (O_NOFOLLOW on the last part says the same).
      if (code === 'EXDEV' || code === 'ELOOP' || code === 'EAGAIN') {
        throw CoreErrors.PATH_OUTSIDE({ path: relative }, { cause: error });
      }
      throw error;
    }
  }
}

/** Flags for a descriptor that names a file of any kind without opening it. */
export const openPathFlags = O_PATH | constants.O_NOFOLLOW;

/** The path by which node:fs reaches an open descriptor. */
export const fdPath = (fd: number): string => `/proc/self/fd/${fd}`;

/** Opens as {@link openBeneath}, hands the descriptor to `task` and closes it in any case. */
export async function withBeneath<T>(
  root: number | string,
  relative: string,
  flags: number,
  task: (fd: number) => Promise<T> | T,
  options: BeneathOptions = {},
): Promise<T> {
  const fd = openBeneath(root, relative, flags, 0, options);
  try {
    return await task(fd);
  } finally {
    closeSync(fd);
  }
}
