import koffi from 'koffi';
import { systemError } from './syscalls.js';

/**
 * The kernel's mount calls (Linux ≥ 5.12), which no tool of Debian 12 can make: a copy of a folder's
 * mount that shows other owners. Their numbers are the same on all architectures.
 */
interface MountCalls {
  readonly openTree: (nr: number, dirFd: number, path: string, flags: number) => number;
  readonly mountSetattr: (
    nr: number,
    dirFd: number,
    path: string,
    flags: number,
    attributes: Uint8Array,
    size: number,
  ) => number;
  readonly moveMount: (
    nr: number,
    fromFd: number,
    from: string,
    toFd: number,
    to: string,
    flags: number,
  ) => number;
}

const OPEN_TREE = 428;
const MOVE_MOUNT = 429;
const MOUNT_SETATTR = 442;

const OPEN_TREE_CLONE = 1;
const O_CLOEXEC = 0o2000000;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const AT_EMPTY_PATH = 0x1000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;

const MOUNT_ATTR_NOSUID = 0x2n;
const MOUNT_ATTR_NODEV = 0x4n;
const MOUNT_ATTR_IDMAP = 0x100000n;
/** `struct mount_attr` as of its first version. */
const attributesSize = 32;
const attrSetOffset = 0;
const usernsFdOffset = 24;

let loaded: MountCalls | undefined;

function calls(): MountCalls {
  if (loaded) return loaded;
  const library = koffi.load(null);
  loaded = {
    openTree: library.func('syscall', 'long', ['long', 'int', 'str', 'unsigned int']),
    mountSetattr: library.func('syscall', 'long', [
      'long',
      'int',
      'str',
      'unsigned int',
      'void *',
      'size_t',
    ]),
    moveMount: library.func('syscall', 'long', [
      'long',
      'int',
      'str',
      'int',
      'str',
      'unsigned int',
    ]),
  };
  return loaded;
}

/**
 * A mount of the folder `path` that is attached nowhere yet; its last part is not followed. Whoever
 * closes the descriptor without {@link attachMount} lets it vanish. @throws a system error
 */
export function cloneMount(path: string): number {
  const flags = OPEN_TREE_CLONE | O_CLOEXEC | AT_SYMLINK_NOFOLLOW;
  const fd = calls().openTree(OPEN_TREE, AT_FDCWD, path, flags);
  if (fd < 0) throw systemError('open_tree', path);
  return fd;
}

/**
 * Makes a mount of {@link cloneMount} show the owners that the user namespace maps its own to, and
 * neither setuid files nor devices. @throws a system error: EINVAL where the file system cannot
 */
export function mapMountIds(mountFd: number, usernsFd: number): void {
  const attributes = Buffer.alloc(attributesSize);
  const set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  attributes.writeBigUInt64LE(set, attrSetOffset);
  attributes.writeBigUInt64LE(BigInt(usernsFd), usernsFdOffset);
  const size = attributes.length;
  const result = calls().mountSetattr(MOUNT_SETATTR, mountFd, '', AT_EMPTY_PATH, attributes, size);
  if (result !== 0) throw systemError('mount_setattr', `fd ${mountFd}`);
}

/** Puts a mount of {@link cloneMount} at a folder. @throws a system error */
export function attachMount(mountFd: number, target: string): void {
  const flags = MOVE_MOUNT_F_EMPTY_PATH;
  const result = calls().moveMount(MOVE_MOUNT, mountFd, '', AT_FDCWD, target, flags);
  if (result !== 0) throw systemError('move_mount', target);
}
