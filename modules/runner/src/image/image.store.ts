import type { CodedError } from '@rookery/core';
import type { Progress } from '@rookery/core/contract';

/** An image that is on this host's volume. */
export interface ResolvedImage {
  /** Normalized reference; keys the overlay's upper. */
  readonly ref: string;
  readonly digest: string;
  /** Read-only root filesystem. */
  readonly rootPath: string;
  /** What the image sets for its processes, PATH above all. */
  readonly env: Readonly<Record<string, string>>;
  /** Why the fallback image stands in for the one that was asked for. */
  readonly fallbackFor?: CodedError;
}

export interface EnsureImageOptions {
  /** The digest that the project was pinned to; absent: what the reference says now. */
  readonly digest?: string | undefined;
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** The images of one host: each is fetched and unpacked once, whoever asks. */
export abstract class ImageStore {
  abstract open(): Promise<void>;

  /**
   * Brings an image to the volume. Simultaneous calls for one image share the work.
   * @throws IMAGE_INVALID, IMAGE_UNKNOWN, IMAGE_DENIED, IMAGE_NOT_ALLOWED, IMAGE_TOO_LARGE,
   * REGISTRY_UNREACHABLE, DISK_FULL
   */
  abstract ensure(image: string, options?: EnsureImageOptions): Promise<ResolvedImage>;

  /**
   * Where room is short, deletes the image that nobody has used for longest, if for long enough.
   * One at a time: what it frees shows later. To be called now and then.
   * @param inUse digests that projects here, or on their way here, need
   * @returns its digest
   */
  abstract collect(inUse: ReadonlySet<string>): Promise<string | undefined>;
}
