import koffi from 'koffi';

const load = () => {
  const library = koffi.load(null);
  return {
    llistxattr: library.func('llistxattr', 'long', ['void *', 'void *', 'size_t']),
    lgetxattr: library.func('lgetxattr', 'long', ['void *', 'str', 'void *', 'size_t']),
    lsetxattr: library.func('lsetxattr', 'int', ['void *', 'str', 'void *', 'size_t', 'int']),
  } as unknown as {
    llistxattr: (path: Uint8Array, list: Uint8Array, size: number) => number;
    lgetxattr: (path: Uint8Array, name: string, value: Uint8Array, size: number) => number;
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
    const bytes = libc().lgetxattr(name, attribute, value, value.length);
    if (bytes >= 0) found[attribute] = value.toString('base64', 0, bytes);
  }
  return found;
}

/** Sets one extended attribute, not following links. */
export function writeXattr(path: string, attribute: string, value: string | Buffer): void {
  const bytes = Buffer.from(value);
  if (libc().lsetxattr(cString(path), attribute, bytes, bytes.length, 0) === 0) return;
  throw new Error(`lsetxattr ${attribute} on ${path}: errno ${koffi.errno()}`);
}
