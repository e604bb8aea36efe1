import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** The hub's default image; the entry script builds an archive of it. */
const baseImage = 'localhost/rookery/debian:13';

export interface MachineDependencies {
  readonly toolsDir: string;
  readonly btrfsProgram: string;
  readonly localImages: Readonly<Record<string, string>>;
}

/**
 * What a host runs on where its settings say nothing: the machine's own, else what the entry script
 * has brought into its cache.
 */
export function machineParts(cacheDir: string): MachineDependencies {
  const firstOf = (wanted: readonly string[], otherwise: string): string =>
    wanted.find((path) => existsSync(path)) ?? otherwise;
  const archive = join(cacheDir, 'images/debian-13.tar');
  return {
    toolsDir: firstOf(['/opt/rookery', join(cacheDir, 'tools')], '/opt/rookery'),
    btrfsProgram: firstOf([join(cacheDir, 'bin/btrfs')], 'btrfs'),
    localImages: existsSync(archive) ? { [baseImage]: archive } : {},
  };
}
