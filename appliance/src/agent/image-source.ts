import { ImageSource, MoveErrors } from '@rookery/move';
import type { Progress } from '@rookery/core/contract';
import type { ImageStore } from '@rookery/runner';

/** Images as this host fetches them for a start: from their registry, an archive, its own files. */
export class FetchedImages extends ImageSource {
  constructor(private readonly images: ImageStore) {
    super();
  }

  async fetch(
    image: string,
    digest: string,
    onProgress: (progress: Progress) => void,
  ): Promise<void> {
    const found = await this.images.ensure(image, { digest, onProgress });
    // Another image in its place may do for a start, but is not what the project runs on.
    if (found.fallbackFor) throw found.fallbackFor;
    if (found.digest === digest) return;
    const reason = `here that name is ${found.digest}, and ${digest} is wanted.`;
    throw MoveErrors.MOVE_IMAGE_NOT_FETCHED({ image, reason });
  }
}
