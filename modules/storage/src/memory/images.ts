import { mkdir, rename, rm } from 'node:fs/promises';
import { newId } from '@rookery/core';
import type { VolumeLayout } from '../layout.js';
import type { StagedImage } from '../storage.driver.js';
import { copy } from './files.js';

/** The memory driver's root filesystems. */
export class MemoryImages {
  /** Digest to UUID. */
  private readonly images = new Map<string, string>();

  constructor(private readonly layout: VolumeLayout) {}

  async stage(): Promise<StagedImage> {
    const path = this.layout.staging(newId());
    await mkdir(path);
    const abort = (): Promise<void> => rm(path, { recursive: true, force: true });
    const commit = async (digest: string): Promise<void> => {
      const target = this.layout.image(digest);
      if (!this.images.has(digest)) {
        await rename(path, target);
        this.images.set(digest, newId());
      }
      await abort();
    };
    return { path, commit, abort, [Symbol.asyncDispose]: abort };
  }

  async adopt(received: { path: string; uuid: string }, digest: string): Promise<void> {
    await copy(received.path, this.layout.image(digest));
    this.images.set(digest, received.uuid);
  }

  uuid(digest: string): string | undefined {
    return this.images.get(digest);
  }

  path(digest: string): string | undefined {
    return this.images.has(digest) ? this.layout.image(digest) : undefined;
  }

  list(): string[] {
    return [...this.images.keys()].sort();
  }

  async delete(digest: string): Promise<void> {
    this.images.delete(digest);
    await rm(this.layout.image(digest), { recursive: true, force: true });
  }
}
