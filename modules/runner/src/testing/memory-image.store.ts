import type { CodedError } from '@rookery/core';
import { parseImageRef } from '../image/image-ref.js';
import { ImageStore, type EnsureImageOptions, type ResolvedImage } from '../image/image.store.js';

/** Every image is there, or fails with the error that a test has set for it. */
export class MemoryImageStore extends ImageStore {
  readonly failures = new Map<string, CodedError>();
  readonly asked: string[] = [];

  async open(): Promise<void> {}

  async collect(): Promise<undefined> {
    return undefined;
  }

  async ensure(image: string, options: EnsureImageOptions = {}): Promise<ResolvedImage> {
    const ref = parseImageRef(image).normalized;
    this.asked.push(ref);
    const failure = this.failures.get(ref);
    if (failure) throw failure;
    options.onProgress?.({ step: 'pull', done: 1, total: 1, unit: 'bytes' });
    return { ref, digest: options.digest ?? 'sha256:00000000', rootPath: '/nowhere', env: {} };
  }
}
