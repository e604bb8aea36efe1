import { closeSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import koffi from 'koffi';
import { CoreErrors } from './errors.js';

/** System calls that node:fs lacks, by FFI. All are short: they run on the calling thread. */
interface Libc {
  readonly syscallOpenat2: (
    nr: number,
    dirFd: number,
    path: string,
    how: Uint8Array,
    size: number,
  ) => number;
  readonly syscallRenameat2: (
    nr: number,
    fromFd: number,
    from: string,
    toFd: number,
    to: string,
    flags: number,
  ) => number;
  readonly mkdirat: (dirFd: number, path: string, mode: number) => number;
  readonly unlinkat: (dirFd: number, path: string, flags: number) => number;
  readonly ioctl: (fd: number, request: number, argument: Uint8Array) => number;
  readonly flock: (fd: number, operation: number) => number;
  readonly lseek: (fd: number, offset: bigint, whence: number) => number | bigint;
  readonly socket: (domain: number, type: number, protocol: number) => number;
  readonly setsockopt: (
    fd: number,
    level: number,
    name: number,
    value: Uint8Array,
    size: number,
  ) => number;
}

const numbers: Readonly<Record<string, { openat2: number; renameat2: number }>> = {
  x64: { openat2: 437, renameat2: 316 },
  arm64: { openat2: 437, renameat2: 276 },
};

let loaded: Libc | undefined;

/** Binds at first use, so that importing core costs nothing. */
function libc(): Libc {
  if (loaded) return loaded;
  // The C library that node itself is linked with: works on glibc and musl.
  const library = koffi.load(null);
  // `syscall` is variadic in C; on Linux x64 and arm64 integer arguments are passed alike.
  loaded = {
    syscallOpenat2: library.func('syscall', 'long', ['long', 'int', 'str', 'void *', 'size_t']),
    syscallRenameat2: library.func('syscall', 'long', [
      'long',
      'int',
      'str',
      'int',
      'str',
      'unsigned int',
    ]),
    mkdirat: library.func('mkdirat', 'int', ['int', 'str', 'unsigned int']),
    unlinkat: library.func('unlinkat', 'int', ['int', 'str', 'int']),
    ioctl: library.func('ioctl', 'int', ['int', 'unsigned long', 'void *']),
    flock: library.func('flock', 'int', ['int', 'int']),
    lseek: library.func('lseek', 'int64_t', ['int', 'int64_t', 'int']),
    socket: library.func('socket', 'int', ['int', 'int', 'int']),
    setsockopt: library.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint32_t']),
  };
  return loaded;
}

const RENAME_EXCHANGE = 2;
const AT_REMOVEDIR = 0x200;
const SEEK_DATA = 3;
const LOCK_EX = 2;
const LOCK_NB = 4;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_BINDTOIFINDEX = 62;

function numberOf(name: 'openat2' | 'renameat2'): number {
  const number = numbers[process.arch]?.[name];
  if (number === undefined) {
    throw CoreErrors.INTERNAL({ reason: `no ${name} on ${process.arch}` });
  }
  return number;
}

/** What the last call failed with, shaped as node:fs throws it: `code`, `errno`, `syscall`, `path`. */
export function systemError(syscall: string, path: string): NodeJS.ErrnoException {
  const errno = koffi.errno();
  const [code, text] = getSystemErrorMap().get(-errno) ?? [`E${errno}`, 'unknown error'];
  const error: NodeJS.ErrnoException = new Error(`${code}: ${text}, ${syscall} '${path}'`);
  return Object.assign(error, { code, errno: -errno, syscall, path });
}

/** `openat2(2)`; @returns a descriptor that the caller closes. @throws a system error */
export function openat2(dirFd: number, path: string, how: OpenHow): number {
  const block = Buffer.alloc(24);
  block.writeBigUInt64LE(BigInt(how.flags), 0);
  block.writeBigUInt64LE(BigInt(how.mode), 8);
  block.writeBigUInt64LE(BigInt(how.resolve), 16);
  const fd = libc().syscallOpenat2(numberOf('openat2'), dirFd, path, block, block.length);
  if (fd < 0) throw systemError('openat2', path);
  return fd;
}

export interface OpenHow {
  readonly flags: number;
  readonly mode: number;
  readonly resolve: number;
}

/** Swaps two paths in one step. @throws a system error */
export function renameExchange(fromFd: number, from: string, toFd: number, to: string): void {
  const nr = numberOf('renameat2');
  if (libc().syscallRenameat2(nr, fromFd, from, toFd, to, RENAME_EXCHANGE) !== 0) {
    throw systemError('renameat2', to);
  }
}

/** `renameat(2)`: the last part of neither path is followed. @throws a system error */
export function renameAt(fromFd: number, from: string, toFd: number, to: string): void {
  if (libc().syscallRenameat2(numberOf('renameat2'), fromFd, from, toFd, to, 0) !== 0) {
    throw systemError('renameat2', to);
  }
}

/** `mkdirat(2)`. @throws a system error */
export function mkdirAt(dirFd: number, name: string, mode: number): void {
  if (libc().mkdirat(dirFd, name, mode) !== 0) throw systemError('mkdirat', name);
}

/** `unlinkat(2)`; `directory` removes an empty one. @throws a system error */
export function unlinkAt(dirFd: number, name: string, options: { directory?: boolean } = {}): void {
  if (libc().unlinkat(dirFd, name, options.directory ? AT_REMOVEDIR : 0) !== 0) {
    throw systemError('unlinkat', name);
  }
}

/** `ioctl(2)` with a block that the kernel reads and fills. @throws a system error */
export function ioctl(fd: number, request: number, argument: Uint8Array): number {
  const result = libc().ioctl(fd, request, argument);
  if (result < 0) throw systemError('ioctl', `fd ${fd}`);
  return result;
}

/**
 * Takes the exclusive advisory lock of an open file without waiting; closing the descriptor, or
 * the death of the process, gives it back. @returns false when someone else holds it.
 */
export function tryFileLock(fd: number): boolean {
  if (libc().flock(fd, LOCK_EX | LOCK_NB) === 0) return true;
  const error = systemError('flock', `fd ${fd}`);
  if (error.code === 'EAGAIN') return false;
  throw error;
}

/**
 * Where a file's data goes on: `at` itself, or the end of the hole that it lies in. Moves the
 * descriptor's own position. @returns undefined when there is none any more. @throws a system error
 */
export function nextData(fd: number, at: bigint): bigint | undefined {
  const found = BigInt(libc().lseek(fd, at, SEEK_DATA));
  if (found >= 0n) return found;
  const error = systemError('lseek', `fd ${fd}`);
  if (error.code === 'ENXIO') return undefined;
  throw error;
}

/**
 * A TCP socket that sends and hears through one link only, whatever the routes say. The link is
 * named by its number, which the kernel never gives to another link: once that link is gone,
 * connecting fails with ENODEV. @returns a descriptor that the caller closes. @throws a system error
 */
export function linkSocket(linkIndex: number, family: 4 | 6): number {
  const domain = family === 6 ? AF_INET6 : AF_INET;
  const fd = libc().socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw systemError('socket', `link ${linkIndex}`);
  const value = Buffer.alloc(4);
  value.writeInt32LE(linkIndex);
  if (libc().setsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, value, value.length) === 0) return fd;
  const error = systemError('setsockopt', `link ${linkIndex}`);
  closeSync(fd);
  throw error;
}
