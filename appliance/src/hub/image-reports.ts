import { CodedError, type Logger } from '@rookery/core';
import { imageTreesMax, type hostReports, type ImageTreeReport } from '@rookery/fleet/contract';
import type { ServiceClient } from '@rookery/rpc/contract';
import type { StorageDriver } from '@rookery/storage/contract';

/**
 * Tells the hub what this host's images hold, each once in this process's life. A new image is read
 * in the background, and told with the next report: neither a start nor a report waits for it.
 */
export class ImageReports {
  private readonly told = new Set<string>();
  private readonly ready = new Map<string, string>();
  private reading = false;

  constructor(
    private readonly storage: Pick<StorageDriver, 'imageTree'>,
    private readonly logger: Logger,
  ) {}

  /** @param images all that are here */
  async tell(hub: ServiceClient<typeof hostReports>, images: readonly string[]): Promise<void> {
    const here = new Set(images);
    for (const digest of this.told) if (!here.has(digest)) this.told.delete(digest);
    const unread = images.filter((digest) => !this.told.has(digest) && !this.ready.has(digest));
    if (unread.length > 0 && !this.reading) void this.read(unread);
    const trees = [...this.ready]
      .slice(0, imageTreesMax)
      .map(([imageDigest, treeDigest]): ImageTreeReport => ({ imageDigest, treeDigest }));
    if (trees.length === 0) return;
    try {
      const { differing } = await hub.imageTrees({ trees });
      for (const { imageDigest } of trees) {
        this.ready.delete(imageDigest);
        this.told.add(imageDigest);
      }
      for (const digest of differing) this.logger.error({ digest }, 'an image differs from others');
    } catch (error) {
      // A hub of an earlier release does not ask for it; any other is told with the next report.
      this.logger.debug({ err: error }, 'the hub does not take what images hold');
    }
  }

  private async read(images: readonly string[]): Promise<void> {
    this.reading = true;
    for (const digest of images) {
      try {
        const tree = await this.storage.imageTree(digest);
        if (tree !== undefined) this.ready.set(digest, tree);
      } catch (error) {
        this.logger.warn({ err: error, digest }, 'what an image holds could not be read');
        // It would be the same the next time.
        if (CodedError.is(error, 'IMAGE_UNREADABLE')) this.told.add(digest);
      }
    }
    this.reading = false;
  }
}
