import { existsSync, readdirSync, renameSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

const mark = '.quarantined-';
const companions = ['-wal', '-shm', '-tail'];

/** Puts a damaged file aside with all that belongs to it. @returns its new name */
export function quarantine(file: string, nowMs: number): string {
  const aside = `${file}${mark}${new Date(nowMs).toISOString().replace(/[:.]/g, '-')}`;
  // The log first: a file without its log could pass for whole after a crash in between.
  for (const companion of companions) {
    if (existsSync(file + companion)) renameSync(file + companion, aside + companion);
  }
  if (existsSync(file)) renameSync(file, aside);
  return aside;
}

/**
 * The name under which an account's file was put aside, if nothing took its place since: what
 * was acknowledged must not seem to have never been.
 */
export function quarantinedAs(file: string): string | null {
  if (existsSync(file)) return null;
  const folder = dirname(file);
  if (!existsSync(folder)) return null;
  const names = readdirSync(folder).filter(
    (name) =>
      name.startsWith(`${basename(file)}${mark}`) &&
      !companions.some((companion) => name.endsWith(companion)),
  );
  const newest = names.sort().at(-1);
  return newest === undefined ? null : join(folder, newest);
}
