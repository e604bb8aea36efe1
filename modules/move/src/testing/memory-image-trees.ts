import { ImageTrees } from '../image-trees.js';

/** What hosts have said of images, in memory. */
export class MemoryImageTrees extends ImageTrees {
  readonly trees = new Map<string, string>();

  async known(imageDigest: string): Promise<string | undefined> {
    return this.trees.get(imageDigest);
  }

  async learn(_hostId: string, imageDigest: string, treeDigest: string): Promise<string> {
    const known = this.trees.get(imageDigest) ?? treeDigest;
    this.trees.set(imageDigest, known);
    return known;
  }
}
