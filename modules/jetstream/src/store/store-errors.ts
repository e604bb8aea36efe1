import Sqlite from 'better-sqlite3';

/** The file's content contradicts itself. */
export class StoreCorruptError extends Error {}

export type StoreFailure = 'full' | 'corrupt' | 'other';

/**
 * What a failure of the store means: `full` passes when there is room again, `corrupt` never, and
 * `other` (I/O errors, a file system that went read-only) is refused like `full`.
 */
export function storeFailure(error: unknown): StoreFailure {
  if (error instanceof StoreCorruptError) return 'corrupt';
  if (!(error instanceof Sqlite.SqliteError)) return 'other';
  const { code } = error;
  if (code === 'SQLITE_FULL') return 'full';
  if (code === 'SQLITE_NOTADB' || code.startsWith('SQLITE_CORRUPT')) return 'corrupt';
  // What btrfs says when a checksum does not fit.
  if (code === 'SQLITE_IOERR_CORRUPTFS') return 'corrupt';
  return 'other';
}
