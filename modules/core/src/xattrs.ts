import koffi from 'koffi';
import { systemError } from './syscalls.js';

const load = () => {
  const library = koffi.load(null);
  return {
    llistxattr: library.func('llistxattr', 'long', ['void *', 'void *', 'size_t']),
    lgetxattr: library.func('lgetxattr', 'long', ['void *', 'void *', 'void *', 'size_t']),
    lsetxattr: library.func('lsetxattr', 'int', ['void *', 'str', 'void *', 'size_t', 'int']),
  } as unknown as {
    llistxattr: (path: Uint8Array, list: Uint8Array, size: number) => number;
    lgetxattr: (path: Uint8Array, name: Uint8Array, value: Uint8Array, size: number) => number;
    lsetxattr: (p: Uint8Array, n: string, v: Uint8Array, size: number, flags: number) => number;
  };
};
let loaded: ReturnType<typeof load> | undefined;
const libc = () => (loaded ??= load());

/** The kernel's own limit for one list and one value (XATTR_SIZE_MAX). */
const xattrBytesMax = 64 * 1024;

const cString = (path: string | Buffer): Buffer => Buffer.concat([Buffer.from(path), Buffer.of(0)]);

/** All extended attributes of a file, not following links, values as base64. */
export function readXattrs(path: string | Buffer): Record<string, string> {
  const name = cString(path);
  const buffer = Buffer.alloc(xattrBytesMax);
  const length = libc().llistxattr(name, buffer, buffer.length);
  if (length < 0) return {}; // the file system has none
  const names = buffer.toString('utf8', 0, length).split('\0').filter(Boolean).sort();
  const found: Record<string, string> = {};
  for (const attribute of names) {
    const value = Buffer.alloc(xattrBytesMax);
    const bytes = libc().lgetxattr(name, cString(attribute), value, value.length);
    if (bytes >= 0) found[attribute] = value.toString('base64', 0, bytes);
  }
  return found;
}

/**
 * All extended attributes of a file as they are, in the order of their names' bytes, not following
 * links. Unlike {@link readXattrs} it leaves none out.
 * @throws a system error for what cannot be read, more names than the kernel lists among it
 */
export function allXattrs(path: Buffer): { name: Buffer; value: Buffer }[] {
  const file = cString(path);
  const list = Buffer.alloc(xattrBytesMax);
  const length = libc().llistxattr(file, list, list.length);
  if (length < 0) {
    const error = systemError('llistxattr', path.toString());
    if (error.code === 'ENOTSUP') return [];
    throw error;
  }
  const names: Buffer[] = [];
  for (let at = 0; at < length;) {
    const end = list.indexOf(0, at);
    names.push(list.subarray(at, end));
    at = end + 1;
  }
  const value = length > 0 ? Buffer.alloc(xattrBytesMax) : list;
  return names
    .sort((a, b) => a.compare(b))
    .map((name) => {
      const bytes = libc().lgetxattr(file, cString(name), value, value.length);
      if (bytes < 0) throw systemError('lgetxattr', path.toString());
      return { name, value: Buffer.from(value.subarray(0, bytes)) };
    });
}

/** Sets one extended attribute, not following links. */
export function writeXattr(path: string, attribute: string, value: string | Buffer): void {
  const bytes = Buffer.from(value);
  if (libc().lsetxattr(cString(path), attribute, bytes, bytes.length, 0) === 0) return;
  throw new Error(`lsetxattr ${attribute} on ${path}: errno ${koffi.errno()}`);
}
