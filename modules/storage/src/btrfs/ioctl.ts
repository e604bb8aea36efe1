import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { ioctl } from '@rookery/core';

/**
 * What the kernel says about subvolumes and qgroups, read by ioctl (linux/btrfs.h). The text that
 * `btrfs subvolume list` prints holds names that a project chose, newlines included; these answers
 * hold numbers. Structures are in the machine's byte order: little-endian on all that we run on.
 */
const BTRFS_IOC_TREE_SEARCH_V2 = 0xc0709411;
const BTRFS_IOC_GET_SUBVOL_INFO = 0x81f8943c;

const ROOT_TREE = 1n;
const QUOTA_TREE = 8n;
const ROOT_BACKREF_KEY = 144;
const ROOT_REF_KEY = 156;
const QGROUP_STATUS_KEY = 240;
const QGROUP_INFO_KEY = 242;
const QGROUP_LIMIT_KEY = 244;
const QGROUP_RELATION_KEY = 246;
const QGROUP_STATUS_INCONSISTENT = 1n << 2n;
const QGROUP_STATUS_SIMPLE = 1n << 3n;
const QGROUP_LIMIT_MAX_REFERENCED = 1n;

/** As in the root item on disk, unlike the flag of the SUBVOL_GETFLAGS ioctl. */
const ROOT_SUBVOL_READ_ONLY = 1n;
const subvolumeInfoBytes = 504;
const searchKeyBytes = 104;
const searchBufferBytes = 64 * 1024;
const itemHeaderBytes = 32;
/** The inode number that the root of every subvolume has. */
const subvolumeRootInode = 256;

export interface SubvolumeInfo {
  readonly treeId: number;
  /** The subvolume that it lies in. */
  readonly parentTreeId: number;
  readonly uuid: string;
  /** Set when it was received as a whole. */
  readonly receivedUuid: string | undefined;
  readonly readOnly: boolean;
  /** Transaction in which it was made: orders snapshots. */
  readonly createdGeneration: number;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
}

/** Runs `task` with a descriptor of a folder that no project can replace. */
export function withFolder<T>(path: string, task: (fd: number) => T): T {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    return task(fd);
  } finally {
    closeSync(fd);
  }
}

/** The subvolume whose root `path` is; undefined when it is none, or nothing is there. */
export function subvolumeAt(path: string): SubvolumeInfo | undefined {
  try {
    return withFolder(path, (fd) =>
      fstatSync(fd).ino === subvolumeRootInode ? subvolumeInfo(fd) : undefined,
    );
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // ELOOP and ENOTDIR: a link or a file. ENOTTY: a folder of another file system.
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP' || code === 'ENOTTY') {
      return undefined;
    }
    throw error;
  }
}

function subvolumeInfo(fd: number): SubvolumeInfo {
  const block = Buffer.alloc(subvolumeInfoBytes);
  ioctl(fd, BTRFS_IOC_GET_SUBVOL_INFO, block);
  // treeid 0, name[256] 8, parent_id 264, dirid 272, generation 280, flags 288, uuid 296,
  // parent_uuid 312, received_uuid 328, ctransid 344, otransid 352, …, ctime 376, otime 392
  return {
    treeId: Number(block.readBigUInt64LE(0)),
    parentTreeId: Number(block.readBigUInt64LE(264)),
    readOnly: (block.readBigUInt64LE(288) & ROOT_SUBVOL_READ_ONLY) !== 0n,
    uuid: uuidText(block.subarray(296, 312)) ?? '',
    receivedUuid: uuidText(block.subarray(328, 344)),
    createdGeneration: Number(block.readBigUInt64LE(352)),
    createdAt:
      Number(block.readBigUInt64LE(392)) * 1000 + Math.floor(block.readUInt32LE(400) / 1_000_000),
  };
}

function uuidText(bytes: Buffer): string | undefined {
  if (bytes.every((byte) => byte === 0)) return undefined;
  const hex = bytes.toString('hex');
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join('-');
}

/** Tree ids of the subvolumes that lie directly in `parent`, whoever made them. */
export function childSubvolumes(fd: number, parent: number): number[] {
  const id = BigInt(parent);
  return searchTree(fd, { tree: ROOT_TREE, objectIds: [id, id], type: ROOT_REF_KEY }).map((item) =>
    Number(item.offset),
  );
}

/** Whether a subvolume is still in a folder; one that only waits for the cleaner is not. */
export function subvolumeExists(fd: number, treeId: number): boolean {
  const id = BigInt(treeId);
  const query = { tree: ROOT_TREE, objectIds: [id, id], type: ROOT_BACKREF_KEY } as const;
  return searchTree(fd, query).length > 0;
}

export interface QgroupUsage {
  readonly referencedBytes: number;
  readonly exclusiveBytes: number;
  readonly limitBytes: number | undefined;
}

/** One qgroup, by `level/number`; undefined when there is none. */
export function qgroupUsage(fd: number, qgroup: string): QgroupUsage | undefined {
  const id = qgroupKey(qgroup);
  const [info] = searchTree(fd, { ...ofQuota(QGROUP_INFO_KEY), offsets: [id, id] });
  if (!info) return undefined;
  const [limit] = searchTree(fd, { ...ofQuota(QGROUP_LIMIT_KEY), offsets: [id, id] });
  // info: generation, rfer, rfer_cmpr, excl, excl_cmpr; limit: flags, max_rfer, …
  const limited =
    limit !== undefined && (limit.data.readBigUInt64LE(0) & QGROUP_LIMIT_MAX_REFERENCED) !== 0n;
  return {
    referencedBytes: Number(info.data.readBigUInt64LE(8)),
    exclusiveBytes: Number(info.data.readBigUInt64LE(24)),
    limitBytes: limited ? Number(limit.data.readBigUInt64LE(8)) : undefined,
  };
}

/** All qgroups, as `level/number`. */
export function qgroups(fd: number): string[] {
  return searchTree(fd, ofQuota(QGROUP_INFO_KEY)).map((item) => qgroupText(item.offset));
}

/** Who is in which group: pairs of member and group. */
export function qgroupRelations(fd: number): { member: string; group: string }[] {
  return (
    searchTree(fd, { tree: QUOTA_TREE, type: QGROUP_RELATION_KEY })
      // Every relation is stored both ways; keep the one that points up.
      .filter((item) => item.objectId < item.offset)
      .map((item) => ({ member: qgroupText(item.objectId), group: qgroupText(item.offset) }))
  );
}

export interface QuotaStatus {
  readonly mode: 'simple' | 'classic' | 'none';
  /** Classic quotas stop counting until a rescan. */
  readonly inconsistent: boolean;
}

/** Which quota is on; a volume without one has no quota tree. */
export function quotaStatus(fd: number): QuotaStatus {
  try {
    const [status] = searchTree(fd, ofQuota(QGROUP_STATUS_KEY));
    if (!status) return { mode: 'none', inconsistent: false };
    // version, generation, flags
    const flags = status.data.readBigUInt64LE(16);
    return {
      mode: (flags & QGROUP_STATUS_SIMPLE) !== 0n ? 'simple' : 'classic',
      inconsistent: (flags & QGROUP_STATUS_INCONSISTENT) !== 0n,
    };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      return { mode: 'none', inconsistent: false };
    }
    throw error;
  }
}

/** Level in the upper 16 bits, number in the lower 48. */
function qgroupKey(qgroup: string): bigint {
  const [level, number] = qgroup.split('/');
  return (BigInt(level ?? 0) << 48n) | BigInt(number ?? 0);
}

function qgroupText(key: bigint): string {
  return `${key >> 48n}/${key & ((1n << 48n) - 1n)}`;
}

interface TreeItem {
  readonly objectId: bigint;
  readonly offset: bigint;
  readonly data: Buffer;
}

interface TreeQuery {
  readonly tree: bigint;
  readonly type: number;
  readonly objectIds?: readonly [bigint, bigint];
  readonly offsets?: readonly [bigint, bigint];
}

const most = 2n ** 64n - 1n;

/** Status, use and limits are kept under object id 0. */
function ofQuota(type: number): TreeQuery {
  return { tree: QUOTA_TREE, type, objectIds: [0n, 0n] };
}

/**
 * All items of one type. The kernel compares whole keys (object id, type, offset), so a search over
 * many object ids passes items of other types and offsets between: these are left out here.
 */
function searchTree(fd: number, query: TreeQuery): TreeItem[] {
  const [firstObject, lastObject] = query.objectIds ?? [0n, most];
  const [firstOffset, lastOffset] = query.offsets ?? [0n, most];
  const found: TreeItem[] = [];
  let from = { objectId: firstObject, type: query.type, offset: firstOffset };
  for (;;) {
    const page = searchPage(fd, query, from, { objectId: lastObject, offset: lastOffset });
    for (const item of page.items) {
      if (item.type === query.type && item.offset >= firstOffset && item.offset <= lastOffset) {
        found.push(item);
      }
    }
    const last = page.items.at(-1);
    if (!last) return found;
    if (last.offset < most) {
      from = { objectId: last.objectId, type: last.type, offset: last.offset + 1n };
    } else {
      from = { objectId: last.objectId, type: last.type + 1, offset: 0n };
    }
  }
}

function searchPage(
  fd: number,
  query: TreeQuery,
  from: { objectId: bigint; type: number; offset: bigint },
  to: { objectId: bigint; offset: bigint },
): { items: (TreeItem & { type: number })[] } {
  const block = Buffer.alloc(searchKeyBytes + 8 + searchBufferBytes);
  // tree_id, min/max objectid, min/max offset, min/max transid, min/max type, nr_items
  [query.tree, from.objectId, to.objectId, from.offset, to.offset, 0n, most].forEach((value, i) =>
    block.writeBigUInt64LE(value, i * 8),
  );
  block.writeUInt32LE(from.type, 56);
  block.writeUInt32LE(query.type, 60);
  block.writeUInt32LE(0xffffffff, 64);
  block.writeBigUInt64LE(BigInt(searchBufferBytes), searchKeyBytes);
  ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, block);
  const count = block.readUInt32LE(64);
  const items: (TreeItem & { type: number })[] = [];
  let at = searchKeyBytes + 8;
  for (let i = 0; i < count; i += 1) {
    // transid, objectid, offset, type, len
    const length = block.readUInt32LE(at + 28);
    const start = at + itemHeaderBytes;
    items.push({
      objectId: block.readBigUInt64LE(at + 8),
      offset: block.readBigUInt64LE(at + 16),
      type: block.readUInt32LE(at + 24),
      data: block.subarray(start, start + length),
    });
    at = start + length;
  }
  return { items };
}
