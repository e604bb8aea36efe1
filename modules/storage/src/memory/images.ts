import { mkdir, rename, rm } from 'node:fs/promises';
import { newId } from '@rookery/core';
import { identifyFolder } from '../files.js';
import { ImageTrees, type ArrivedImage } from '../image-tree/image-trees.js';
import { treeDigest } from '../image-tree/tree-digest.js';
import type { VolumeLayout } from '../layout.js';
import type { StagedImage } from '../storage.driver.js';
import { copy } from './files.js';

/** The memory driver's root filesystems. */
export class MemoryImages {
  /** Digest to UUID. */
  private readonly images = new Map<string, string>();

  private readonly trees: ImageTrees;

  constructor(private readonly layout: VolumeLayout) {
    // Without a thread: whoever writes a test need not wait for one.
    const read = (path: string) => Promise.resolve(treeDigest(path));
    this.trees = new ImageTrees({ layout, identify: identifyFolder, read });
  }

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

  async adopt(received: ArrivedImage, uuid: () => string): Promise<void> {
    const { digest } = received;
    const adopt = async (path: string): Promise<void> => {
      await copy(path, this.layout.image(digest));
      this.images.set(digest, uuid());
    };
    await this.trees.admit(received, { present: () => this.path(digest), adopt });
  }

  async tree(digest: string): Promise<string | undefined> {
    const path = this.path(digest);
    return path === undefined ? undefined : this.trees.of(digest, path);
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
    await this.trees.forget(digest);
    this.images.delete(digest);
    await rm(this.layout.image(digest), { recursive: true, force: true });
  }
}
