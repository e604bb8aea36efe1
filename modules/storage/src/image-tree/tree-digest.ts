import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type BigIntStats,
} from 'node:fs';
import { allXattrs, GiB, MiB } from '@rookery/core';

/** What a tree may be at most: its sender may have made it to keep whoever reads it busy. */
export const treeLimits = {
  entriesMax: 2_000_000,
  /** Folders within each other: each is open while what it holds is read. */
  depthMax: 1024,
  /** Sizes of all files together, holes counted as the zeros that they read as. */
  bytesMax: 64 * GiB,
} as const;
export type TreeLimits = { readonly [K in keyof typeof treeLimits]: number };

/** Which canonical form was hashed; another form is another prefix. */
const treeForm = 'tree1';

/** A host's own policy labels files as they are made: that is no part of what an image is. */
const hostLabel = 'security.selinux';

const readBytes = MiB;
const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** Without waiting: whatever it turns out to be, opening it does not block. */
const fileFlags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/** A tree that has no digest: it is larger than anything that is wanted, or changes. */
export class TreeRefused extends Error {}

/** What a thread answers that has read a tree. */
export type TreeAnswer = { readonly treeDigest: string } | { readonly refused: string };

/**
 * One digest of all that a folder is: of each entry its path, kind, mode, owner and group, extended
 * attributes, a file's size and content, a link's target, a device's numbers. Of several names of
 * one file the first stands for it, the others say which it is. Not part of it is what no image
 * says of itself: times, inode numbers, where data lies on disk.
 *
 * Entries follow each other as a walk meets them, a folder before what it holds, names in the order
 * of their bytes. Every field has its length in front where it has no fixed one, so no two trees
 * have one form. Each step goes beneath an open folder and follows no link.
 *
 * Reads synchronously: to be called in a thread of its own.
 * @throws TreeRefused, and what the file system says
 */
export function treeDigest(root: string, limits: TreeLimits = treeLimits): string {
  const fd = openSync(root, directoryFlags);
  try {
    const walk = new Walk(limits);
    walk.folder(fd, fstatSync(fd, { bigint: true }), Buffer.alloc(0), 0);
    return `${treeForm}:${walk.hash.digest('hex')}`;
  } finally {
    closeSync(fd);
  }
}

class Walk {
  readonly hash: Hash = createHash('sha256');
  private entries = 0;
  private bytes = 0n;
  /** Files with several names: where each was met first. */
  private readonly linked = new Map<bigint, number>();
  private readonly buffer = Buffer.allocUnsafe(readBytes);

  constructor(private readonly limits: TreeLimits) {}

  folder(fd: number, stat: BigIntStats, path: Buffer, depth: number): void {
    if (depth > this.limits.depthMax) refuse(`folders lie ${depth} deep in each other`);
    this.entry('d', path, stat);
    this.attributes(Buffer.from(`/proc/self/fd/${fd}/.`));
    const names = readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' });
    for (const name of names.sort((a, b) => a.compare(b))) {
      const within = path.length === 0 ? name : Buffer.concat([path, slash, name]);
      this.child(Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name]), within, depth);
    }
  }

  /** @param at names the entry beneath the descriptor of its folder */
  private child(at: Buffer, path: Buffer, depth: number): void {
    const stat = lstatSync(at, { bigint: true });
    if (stat.isDirectory()) {
      const fd = openSync(at, directoryFlags);
      try {
        return this.folder(fd, same(stat, fd, path), path, depth + 1);
      } finally {
        closeSync(fd);
      }
    }
    const first = stat.nlink > 1n ? this.linked.get(stat.ino) : undefined;
    if (first !== undefined) {
      this.entry('h', path);
      return this.number(first);
    }
    if (stat.nlink > 1n) this.linked.set(stat.ino, this.entries);
    if (stat.isFile()) this.file(at, path, stat);
    else if (stat.isSymbolicLink()) {
      this.entry('l', path, stat);
      this.field(readlinkSync(at, { encoding: 'buffer' }));
    } else {
      this.entry(kindOf(stat), path, stat);
      this.number(stat.rdev);
    }
    this.attributes(at);
  }

  private file(at: Buffer, path: Buffer, stat: BigIntStats): void {
    this.bytes += stat.size;
    if (this.bytes > this.limits.bytesMax) refuse(`it holds more than ${this.limits.bytesMax} B`);
    this.entry('f', path, stat);
    this.number(stat.size);
    const fd = openSync(at, fileFlags);
    try {
      same(stat, fd, path);
      const content = createHash('sha256');
      let read = 0n;
      for (;;) {
        const bytes = readSync(fd, this.buffer, 0, this.buffer.length, null);
        if (bytes === 0) break;
        read += BigInt(bytes);
        if (read > stat.size) break;
        content.update(this.buffer.subarray(0, bytes));
      }
      if (read !== stat.size) refuse(`${path.toString()} changes while it is read`);
      this.hash.update(content.digest());
    } finally {
      closeSync(fd);
    }
  }

  private entry(kind: string, path: Buffer, stat?: BigIntStats): void {
    this.entries += 1;
    if (this.entries > this.limits.entriesMax) {
      refuse(`it has more than ${this.limits.entriesMax} entries`);
    }
    this.hash.update(kind);
    this.field(path);
    if (!stat) return;
    this.number(stat.mode);
    this.number(stat.uid);
    this.number(stat.gid);
  }

  private attributes(at: Buffer): void {
    const found = attributesOf(at).filter(({ name }) => name.toString() !== hostLabel);
    this.number(found.length);
    for (const { name, value } of found) {
      this.field(name);
      this.field(value);
    }
  }

  private field(bytes: Buffer): void {
    this.number(bytes.length);
    this.hash.update(bytes);
  }

  private number(value: number | bigint): void {
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigUInt64LE(BigInt(value));
    this.hash.update(bytes);
  }
}

const slash = Buffer.from('/');

function attributesOf(at: Buffer): { name: Buffer; value: Buffer }[] {
  try {
    return allXattrs(at);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'E2BIG') throw error;
    return refuse('a file has more attributes than can be listed');
  }
}

function kindOf(stat: BigIntStats): string {
  if (stat.isFIFO()) return 'p';
  if (stat.isSocket()) return 's';
  return stat.isCharacterDevice() ? 'c' : 'b';
}

/** What was opened is what was looked at. @returns its status */
function same(stat: BigIntStats, fd: number, path: Buffer): BigIntStats {
  const opened = fstatSync(fd, { bigint: true });
  const isSame = opened.ino === stat.ino && opened.dev === stat.dev && opened.mode === stat.mode;
  if (!isSame) refuse(`${path.toString()} changes while it is read`);
  return opened;
}

function refuse(reason: string): never {
  throw new TreeRefused(reason);
}
