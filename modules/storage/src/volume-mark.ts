import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, writeFileAtomic } from '@rookery/core';
import { exists } from './files.js';
import { StorageErrors } from './storage.errors.js';

/**
 * A folder has no UUID, so a file in it says which it is: the folder beneath a disk that is not
 * mounted has none, or another.
 */
export class VolumeMark {
  constructor(
    private readonly options: {
      readonly volume: string;
      readonly create: boolean;
      /** The only one that may be served. */
      readonly identity?: string | undefined;
    },
  ) {}

  async read(): Promise<string> {
    return `directory ${(await readFile(this.file, 'utf8')).trim()}`;
  }

  /** Before anything else is made in it. @throws VOLUME_ABSENT, VOLUME_FOREIGN */
  async ensure(): Promise<void> {
    const { volume, identity: expected } = this.options;
    if (!(await exists(this.file))) {
      if (!(await this.mayMake())) {
        throw StorageErrors.VOLUME_ABSENT({ reason: `there is no file ${this.file}` });
      }
      await writeFileAtomic(this.file, `${newId()}\n`);
    }
    const found = await this.read();
    if (expected === undefined || found === expected) return;
    throw StorageErrors.VOLUME_FOREIGN({ volume, found, expected });
  }

  /** In a new one, and in one of an older release, which has projects and no mark yet. */
  private async mayMake(): Promise<boolean> {
    const { volume, create, identity } = this.options;
    if (identity !== undefined) return false;
    return create || (await readdir(volume)).length > 0;
  }

  private get file(): string {
    return join(this.options.volume, '.rookery-volume');
  }
}
