import { mkdir } from 'node:fs/promises';
import type { Exec } from '@rookery/core';
import { BtrfsStorageDriver } from './btrfs.driver.js';
import { isBtrfs } from './btrfs/volume-mount.js';
import { DirectoryStorageDriver } from './directory.driver.js';
import { exists } from './files.js';
import { MemoryStorageDriver } from './memory.driver.js';
import type { StorageDriver } from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';
import type { ResolvedStorageOptions } from './storage.options.js';

/** The driver that the options ask for; `auto` looks at what the volume is. Not opened yet. */
export async function selectStorageDriver(
  exec: Exec,
  options: ResolvedStorageOptions,
): Promise<StorageDriver> {
  switch (options.driver) {
    case 'memory':
      return new MemoryStorageDriver(options);
    case 'directory':
      return new DirectoryStorageDriver(exec, options);
    case 'btrfs':
      return new BtrfsStorageDriver(exec, options);
    case 'auto': {
      if (options.loopback) return new BtrfsStorageDriver(exec, options);
      if (options.create) await mkdir(options.volume, { recursive: true });
      else if (!(await exists(options.volume))) {
        throw StorageErrors.VOLUME_ABSENT({ reason: `there is no folder ${options.volume}` });
      }
      return (await isBtrfs(options.volume))
        ? new BtrfsStorageDriver(exec, options)
        : new DirectoryStorageDriver(exec, options);
    }
  }
}
