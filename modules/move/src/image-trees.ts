import type { HostId, ImageTreeDigest } from '@rookery/core/contract';

/**
 * What images hold, by the hub's books (docs/adr/0016). The digest of an image's manifest does not
 * give its unpacked files back, so hosts say what they have, and the first word counts.
 */
export abstract class ImageTrees {
  /** @returns undefined while no host has said */
  abstract known(imageDigest: string): Promise<ImageTreeDigest | undefined>;
  /** What a host says that its image holds. @returns what counts, which need not be that */
  abstract learn(
    hostId: HostId,
    imageDigest: string,
    treeDigest: ImageTreeDigest,
  ): Promise<ImageTreeDigest>;
}
