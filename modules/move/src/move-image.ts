import { CodedError, toCodedError } from '@rookery/core';
import type { Fence, HostId, MoveId, Progress } from '@rookery/core/contract';
import { isStartFault } from './host.ports.js';
import { MoveErrors } from './move.errors.js';
import type { ImageTrees } from './image-trees.js';
import type { MoveHosts } from './move-hosts.js';
import type { MovePlan } from './placement-authority.js';

/** What of a move's step is needed here. */
interface Context {
  readonly ports: { readonly hosts: MoveHosts; readonly images: ImageTrees };
  readonly input: { readonly moveId: MoveId; readonly fromHostId: HostId };
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
}

/**
 * What the project's image holds, by the hub's word. Where no host has said yet, the source is
 * asked: it is the first then, and whoever comes later is compared with it.
 */
export async function vouchedTree(
  context: Context,
  fence: Fence,
  imageDigest: string | undefined,
  tellsImageTree: boolean,
): Promise<string | undefined> {
  if (imageDigest === undefined) return undefined;
  const { images, hosts } = context.ports;
  const known = await images.known(imageDigest);
  if (known !== undefined || !tellsImageTree) return known;
  const { moveId, fromHostId } = context.input;
  const options = { signal: context.signal, onProgress: context.progress };
  const { treeDigest } = await hosts
    .source(fromHostId)
    .imageTree({ fence, moveId, imageDigest }, options)
    .catch((error: unknown) => {
      // The destination may still get the image elsewhere.
      if (CodedError.is(error, 'IMAGE_UNREADABLE')) return { treeDigest: undefined };
      throw error;
    });
  return treeDigest && images.learn(fromHostId, imageDigest, treeDigest);
}

/**
 * The destination gets the image from where it comes from, instead of from the source.
 * @throws MOVE_IMAGE_REFUSED
 */
export async function fetchInstead(
  context: Context,
  { moveId, toHostId: host, spec: { image } }: MovePlan,
  what: { readonly fence: Fence; readonly imageDigest: string; readonly reason: string },
): Promise<void> {
  const { fence, imageDigest, reason } = what;
  const options = { signal: context.signal, onProgress: context.progress };
  try {
    const destination = context.ports.hosts.destination(host);
    await destination.fetchImage({ fence, moveId, image, imageDigest }, options);
  } catch (thrown) {
    const error = toCodedError(thrown);
    // A host that is away, or restarts, says nothing about the image: the step is repeated.
    if (context.signal.aborted || (error.retryable && !isStartFault(error))) throw thrown;
    const details = { host, image, reason, fetching: error.message };
    throw MoveErrors.MOVE_IMAGE_REFUSED(details, { cause: thrown });
  }
}
