import { constants, type BigIntStats } from 'node:fs';
import { lstat, open, readdir, readlink } from 'node:fs/promises';
import { MiB, nextData, readXattrs } from '@rookery/core';

const differencesMax = 5;
const chunkBytes = MiB;
/** Set by the machine's security module, not by the project. */
const foreignXattrs = new Set(['security.selinux']);

export interface CompareOptions {
  /** Names at the top that are left out. */
  readonly exclude: readonly string[];
  readonly signal: AbortSignal;
  /** Called with the bytes compared so far. */
  readonly onCompared?: (bytes: number) => void;
}

interface Side {
  readonly path: Buffer;
  readonly stats: BigIntStats;
}

/**
 * Whether one folder holds what another does: every name, kind, mode, owner, attribute, link and
 * byte, and which names share a file. Times of folders are left out, since whoever fills them
 * changes them; sockets are, since no backup holds them. Nothing may change either side meanwhile.
 * @returns the first differences, one line each; empty when there are none
 */
export async function compareTrees(
  expected: string,
  actual: string,
  options: CompareOptions,
): Promise<string[]> {
  return new TreeComparison(options).run(Buffer.from(expected), Buffer.from(actual));
}

class TreeComparison {
  private readonly lines: string[] = [];
  /** Inode of a file with several names → its inode on the other side. */
  private readonly twins = new Map<bigint, bigint>();
  private bytes = 0;

  constructor(private readonly options: CompareOptions) {}

  async run(expected: Buffer, actual: Buffer): Promise<string[]> {
    // A stack in place of recursion: a project may nest as deep as it likes.
    const open: { expected: Buffer; actual: Buffer; shown: string }[] = [
      { expected, actual, shown: '' },
    ];
    await this.pair(expected, actual, '.');
    for (let next = open.pop(); next; next = open.pop()) {
      const names = await this.names(next.expected, next.shown);
      const others = new Set(await this.names(next.actual, next.shown));
      for (const name of names) {
        this.options.signal.throwIfAborted();
        if (this.lines.length >= differencesMax) return this.lines;
        const shown = next.shown + display(name);
        const [one, other] = [child(next.expected, name), child(next.actual, name)];
        const here = others.delete(name) ? other : undefined;
        if (await this.pair(one, here, shown)) {
          open.push({ expected: one, actual: other, shown: `${shown}/` });
        }
      }
      for (const name of others) {
        const stats = await lstat(child(next.actual, name), { bigint: true });
        if (!stats.isSocket()) this.differ(next.shown + display(name), 'was not there');
      }
    }
    return this.lines.slice(0, differencesMax);
  }

  /** In latin1, which keeps every byte of a name. */
  private async names(folder: Buffer, shown: string): Promise<string[]> {
    const names = await readdir(folder, { encoding: 'latin1' as BufferEncoding });
    return names.filter((name) => shown !== '' || !this.options.exclude.includes(name)).sort();
  }

  /** @returns whether both are folders, to be gone through */
  private async pair(
    expected: Buffer,
    actual: Buffer | undefined,
    shown: string,
  ): Promise<boolean> {
    const one: Side = { path: expected, stats: await lstat(expected, { bigint: true }) };
    if (one.stats.isSocket()) return false;
    if (actual === undefined) {
      this.differ(shown, 'is missing');
      return false;
    }
    const other: Side = { path: actual, stats: await lstat(actual, { bigint: true }) };
    for (const key of ['mode', 'uid', 'gid', 'rdev'] as const) {
      if (one.stats[key] !== other.stats[key]) this.differ(shown, `has another ${key}`);
    }
    if (one.stats.mode !== other.stats.mode) return false;
    if (xattrsOf(expected) !== xattrsOf(actual)) this.differ(shown, 'has other attributes');
    if (one.stats.isDirectory()) return true;
    this.links(one, other, shown);
    if (one.stats.isFile()) await this.files(one, other, shown);
    if (one.stats.isSymbolicLink()) {
      const [target, now] = [await linkOf(expected), await linkOf(actual)];
      if (!target.equals(now)) this.differ(shown, 'points elsewhere');
    }
    return false;
  }

  private links(one: Side, other: Side, shown: string): void {
    if (one.stats.nlink < 2n) return;
    const twin = this.twins.get(one.stats.ino);
    if (twin === undefined) this.twins.set(one.stats.ino, other.stats.ino);
    else if (twin !== other.stats.ino) this.differ(shown, 'is a copy, not a hard link');
  }

  private async files(one: Side, other: Side, shown: string): Promise<void> {
    if (one.stats.size !== other.stats.size) {
      this.differ(shown, `has ${other.stats.size} bytes, not ${one.stats.size}`);
      return;
    }
    if (one.stats.mtimeNs !== other.stats.mtimeNs) this.differ(shown, 'has another time');
    if (!(await this.sameContent(one, other))) this.differ(shown, 'has other content');
  }

  private async sameContent(one: Side, other: Side): Promise<boolean> {
    // NONBLOCK: what became a pipe since it was looked at must not hold us.
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    await using file = await open(one.path, flags);
    await using copy = await open(other.path, flags);
    const [mine, theirs] = [Buffer.allocUnsafe(chunkBytes), Buffer.allocUnsafe(chunkBytes)];
    for (let from = 0n; ;) {
      this.options.signal.throwIfAborted();
      // What is a hole in both is equal, however long it is.
      const at = earlier(nextData(file.fd, from), nextData(copy.fd, from));
      if (at === undefined) return true;
      const { bytesRead } = await file.read(mine, 0, chunkBytes, at);
      if (bytesRead === 0) return true;
      const read = await copy.read(theirs, 0, bytesRead, at);
      if (!mine.subarray(0, bytesRead).equals(theirs.subarray(0, read.bytesRead))) return false;
      from = at + BigInt(bytesRead);
      this.bytes += bytesRead;
      this.options.onCompared?.(this.bytes);
    }
  }

  private differ(shown: string, how: string): void {
    this.lines.push(`${shown} ${how}`);
  }
}

function earlier(one: bigint | undefined, other: bigint | undefined): bigint | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return one < other ? one : other;
}

const child = (folder: Buffer, name: string): Buffer =>
  Buffer.concat([folder, Buffer.from('/'), Buffer.from(name, 'latin1')]);

const display = (name: string): string => Buffer.from(name, 'latin1').toString('utf8');

const linkOf = (path: Buffer): Promise<Buffer> => readlink(path, { encoding: 'buffer' });

function xattrsOf(path: Buffer): string {
  const found = Object.entries(readXattrs(path)).filter(([name]) => !foreignXattrs.has(name));
  return JSON.stringify(found);
}
