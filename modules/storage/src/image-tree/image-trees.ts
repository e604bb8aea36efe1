import { readFile, rm } from 'node:fs/promises';
import { KeyedLock, SingleFlight, writeFileAtomic } from '@rookery/core';
import { z } from 'zod';
import { ignoreMissing } from '../files.js';
import type { VolumeLayout } from '../layout.js';
import { StorageErrors } from '../storage.errors.js';
import { digestInThread } from './digest-in-thread.js';
import { TreeRefused } from './tree-digest.js';

/** Kept beside the images, which are read-only. */
const TreeRecord = z.object({
  /** Of the very folder that was read: one that comes later under its name is read anew. */
  identity: z.string().min(1),
  treeDigest: z.string(),
});

/** An image that a move brought, and what it should be. */
export interface ArrivedImage {
  readonly digest: string;
  readonly treeDigest: string;
  /** Where it lies, out of everybody's reach. */
  readonly path: () => string;
  /** Removes it. */
  readonly drop: () => Promise<void>;
}

export interface ImageTreesDependencies {
  readonly layout: VolumeLayout;
  /** Names the folder for good: no other image has it, a later one under this digest included. */
  readonly identify: (path: string) => Promise<string> | string;
  readonly read?: (path: string, signal: AbortSignal) => Promise<string>;
}

/**
 * What the images of a host hold, each as one digest of its tree. An image is read once: what was
 * found is written down, and a host that dies while it reads begins again. One is read at a time.
 */
export class ImageTrees {
  private readonly flights = new SingleFlight();
  private readonly lock = new KeyedLock();
  private readonly read: NonNullable<ImageTreesDependencies['read']>;
  private stopped = new AbortController();

  constructor(private readonly parts: ImageTreesDependencies) {
    this.read = parts.read ?? digestInThread;
  }

  /** @throws IMAGE_UNREADABLE */
  of(digest: string, path: string): Promise<string> {
    return this.flights.run(digest, async () => {
      const identity = await this.parts.identify(path);
      const known = await this.recorded(digest);
      if (known?.identity === identity) return known.treeDigest;
      const { signal } = this.stopped;
      const treeDigest = await this.readOne(path, signal).catch((error: unknown) => {
        if (!(error instanceof TreeRefused)) throw error;
        throw StorageErrors.IMAGE_UNREADABLE({ digest, reason: error.message }, { cause: error });
      });
      await this.record(digest, { identity, treeDigest });
      return treeDigest;
    });
  }

  /**
   * Reads what arrived, and lets `adopt` make it an image only if it is what it should be. Of
   * several moves that bring the same image the first is read; the others find it there.
   * @param steps.present path of the image, once it is there
   * @throws IMAGE_DIFFERS
   */
  async admit(
    { digest, path, treeDigest, drop }: ArrivedImage,
    steps: {
      readonly present: () => string | undefined;
      readonly adopt: (path: string) => Promise<void>;
    },
    signal: AbortSignal = new AbortController().signal,
  ): Promise<void> {
    await this.lock.run(digest, async () => {
      if (steps.present() !== undefined) return;
      const either = AbortSignal.any([signal, this.stopped.signal]);
      const found = await this.readOne(path(), either).catch((error: unknown) => {
        if (error instanceof TreeRefused) return error.message;
        throw error;
      });
      if (found !== treeDigest) {
        await drop();
        throw StorageErrors.IMAGE_DIFFERS({ digest, expected: treeDigest, found });
      }
      await steps.adopt(path());
      const adopted = steps.present();
      if (adopted === undefined) return;
      await this.record(digest, { identity: await this.parts.identify(adopted), treeDigest });
    });
  }

  /** The image goes: to be called before it does. */
  async forget(digest: string): Promise<void> {
    await rm(this.parts.layout.imageTree(digest), { force: true });
  }

  /** Ends what is being read; it is read again when it is asked for. */
  async close(): Promise<void> {
    this.stopped.abort();
    this.stopped = new AbortController();
    await this.lock.run(reading, () => Promise.resolve());
  }

  private readOne(path: string, signal: AbortSignal): Promise<string> {
    return this.lock.run(reading, () => this.read(path, signal));
  }

  private async recorded(digest: string): Promise<z.infer<typeof TreeRecord> | undefined> {
    const text = await readFile(this.parts.layout.imageTree(digest), 'utf8').catch(ignoreMissing);
    try {
      return text === undefined ? undefined : TreeRecord.parse(JSON.parse(text));
    } catch {
      // Written by nobody that we know: what the image holds can be read again.
      return undefined;
    }
  }

  private async record(digest: string, found: z.infer<typeof TreeRecord>): Promise<void> {
    await writeFileAtomic(this.parts.layout.imageTree(digest), JSON.stringify(found));
  }
}

/** No digest: the key under which images are read one after the other. */
const reading = 'reading';
