import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { GiB, SystemExec, type Exec } from '@rookery/core';
import { exists } from '../files.js';
import { LoopbackVolume } from '../loopback.js';

/** Where the entry script puts btrfs-progs that are newer than the system's. */
const progsFolder = '/var/cache/rookery/btrfs-progs';

/**
 * The newest `btrfs` of this machine that knows simple quotas, else the system's.
 * Tests alone look for it; apps are told by an option.
 */
export async function findBtrfsProgram(): Promise<string> {
  const versions = await readdir(progsFolder).catch((): string[] => []);
  for (const version of ['current', ...versions.sort().reverse()]) {
    for (const folder of ['usr/bin', 'bin']) {
      const path = join(progsFolder, version, folder, 'btrfs');
      if (await exists(path)) return path;
    }
  }
  return 'btrfs';
}

export interface TestVolume extends AsyncDisposable {
  /** Mounted btrfs, nosuid and nodev. */
  readonly volume: string;
  readonly imageFile: string;
  readonly btrfsProgram: string;
  /** Unmounts, detaches, deletes. Repeating does no harm. */
  destroy(): Promise<void>;
}

/**
 * A btrfs volume of one's own in a sparse file. Call `destroy` in `afterAll`.
 * @param options.sizeBytes default 1 GiB, sparse
 * @param options.btrfsProgram default: {@link findBtrfsProgram}
 */
export async function loopbackVolume(
  options: { sizeBytes?: number; btrfsProgram?: string; exec?: Exec } = {},
): Promise<TestVolume> {
  const folder = await mkdtemp(join(tmpdir(), 'rookery-volume-'));
  const imageFile = join(folder, 'volume.img');
  const volume = join(folder, 'volume');
  const btrfsProgram = options.btrfsProgram ?? (await findBtrfsProgram());
  const loopback = new LoopbackVolume(options.exec ?? new SystemExec(), {
    imageFile,
    volume,
    sizeBytes: options.sizeBytes ?? GiB,
    btrfsProgram,
  });
  const destroy = async (): Promise<void> => {
    if (!(await exists(folder))) return;
    await loopback.destroy();
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await loopback.open();
  } catch (error) {
    await destroy();
    throw error;
  }
  return { volume, imageFile, btrfsProgram, destroy, [Symbol.asyncDispose]: destroy };
}

/** {@link loopbackVolume} for the time of one task. */
export async function withLoopbackVolume<T>(
  task: (volume: TestVolume) => Promise<T>,
  options: { sizeBytes?: number; btrfsProgram?: string } = {},
): Promise<T> {
  await using volume = await loopbackVolume(options);
  return await task(volume);
}
