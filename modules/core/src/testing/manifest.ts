import { createHash } from 'node:crypto';
import { createReadStream, type BigIntStats } from 'node:fs';
import { lstat, readdir, readlink } from 'node:fs/promises';
import { readXattrs } from '../xattrs.js';

/** Everything about one file that a move, a backup or a restore must keep. */
export interface ManifestEntry {
  /** Relative to the root; `.` is the root. Names that are not UTF-8 are written as `base64:…`. */
  readonly path: string;
  readonly kind: 'file' | 'folder' | 'link' | 'char' | 'block' | 'fifo' | 'socket';
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: string;
  readonly xattrs: Readonly<Record<string, string>>;
  readonly bytes?: number;
  readonly sha256?: string;
  /** Has holes: takes less room than its size. */
  readonly sparse?: boolean;
  /** Of a symbolic link. */
  readonly target?: string;
  /** Of a device: `0:0` is an overlay's whiteout. */
  readonly device?: string;
  /** First path, in order, of the files that share this one's inode. */
  readonly sameFileAs?: string;
}

export interface ManifestOptions {
  /** Relative paths left out, with all beneath them. */
  readonly exclude?: readonly string[];
}

/** Files at least this large are looked at for holes: smaller ones may be stored inline. */
const sparseBytesMin = 64 * 1024;

/** Describes a folder tree, sorted by path. Nothing may change it meanwhile. */
export async function manifestOf(
  root: string,
  options: ManifestOptions = {},
): Promise<ManifestEntry[]> {
  const entries: ManifestEntry[] = [];
  const seen = new Map<string, string>();
  const exclude = new Set(options.exclude ?? []);
  const visit = async (path: Buffer, shown: string): Promise<void> => {
    if (exclude.has(shown)) return;
    const stats = await lstat(path, { bigint: true });
    entries.push(await entryOf(path, shown, stats, seen));
    if (!stats.isDirectory()) return;
    const names = await readdir(path, { encoding: 'buffer' });
    for (const name of names.sort((a, b) => a.compare(b))) {
      const child = Buffer.concat([path, Buffer.from('/'), name]);
      await visit(child, shown === '.' ? text(name) : `${shown}/${text(name)}`);
    }
  };
  await visit(Buffer.from(root), '.');
  return entries;
}

/** What differs, one line each, at most `linesMax`; empty when the trees are the same. */
export function diffManifests(
  expected: readonly ManifestEntry[],
  actual: readonly ManifestEntry[],
  linesMax = 50,
): string[] {
  const lines: string[] = [];
  const found = new Map(actual.map((entry) => [entry.path, entry]));
  for (const entry of expected) {
    const other = found.get(entry.path);
    found.delete(entry.path);
    if (!other) {
      lines.push(`${entry.path}: missing`);
      continue;
    }
    for (const key of new Set([...Object.keys(entry), ...Object.keys(other)])) {
      const [was, is] = [entry, other].map((e) => JSON.stringify(e[key as keyof ManifestEntry]));
      if (was !== is) lines.push(`${entry.path}: ${key} is ${is}, was ${was}`);
    }
  }
  for (const path of found.keys()) lines.push(`${path}: was not there`);
  return lines.slice(0, linesMax);
}

async function entryOf(
  path: Buffer,
  shown: string,
  stats: BigIntStats,
  seen: Map<string, string>,
): Promise<ManifestEntry> {
  const kind = kindOf(stats);
  const inode = `${stats.dev}:${stats.ino}`;
  const first = kind !== 'folder' && stats.nlink > 1n ? seen.get(inode) : undefined;
  if (kind !== 'folder' && stats.nlink > 1n && first === undefined) seen.set(inode, shown);
  const device = `${stats.rdev >> 8n}:${stats.rdev & 0xffn}`;
  return {
    path: shown,
    kind,
    mode: Number(stats.mode & 0o7777n),
    uid: Number(stats.uid),
    gid: Number(stats.gid),
    mtimeNs: String(stats.mtimeNs),
    xattrs: readXattrs(path),
    ...(kind === 'file' && {
      bytes: Number(stats.size),
      sha256: await hashOf(path),
      sparse: stats.size >= sparseBytesMin && stats.blocks * 512n + 4096n <= stats.size,
    }),
    ...(kind === 'link' && { target: text(await readlink(path, { encoding: 'buffer' })) }),
    ...((kind === 'char' || kind === 'block') && { device }),
    ...(first !== undefined && { sameFileAs: first }),
  };
}

function kindOf(stats: BigIntStats): ManifestEntry['kind'] {
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'folder';
  if (stats.isSymbolicLink()) return 'link';
  if (stats.isCharacterDevice()) return 'char';
  if (stats.isBlockDevice()) return 'block';
  return stats.isFIFO() ? 'fifo' : 'socket';
}

async function hashOf(path: Buffer): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function text(name: Buffer): string {
  const utf8 = name.toString('utf8');
  return Buffer.from(utf8, 'utf8').equals(name) ? utf8 : `base64:${name.toString('base64')}`;
}
