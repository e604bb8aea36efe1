import type { Readable } from 'node:stream';
import { CoreErrors, type Clock } from '@rookery/core';
import type { HostId, MoveId } from '@rookery/core/contract';
import type { ReceivedSubvolume, StorageDriver } from '@rookery/storage/contract';
import { landingItem, type MoveStream } from '@rookery/fleet/contract';
import type { IncomingMove, MoveJournal } from './move.journal.js';
import { MoveErrors } from './move.errors.js';
import type { MoveOptions } from './move.options.js';

export interface TransferReceiverPorts {
  readonly storage: StorageDriver;
  readonly journal: MoveJournal;
  readonly clock: Clock;
}

/** One stream that a source wants to deliver. */
export interface TransferRequest extends MoveStream {
  readonly moveId: MoveId;
  /** Who the ingress authenticated, by the transfer key. */
  readonly sourceHostId: HostId;
}

/**
 * What stands behind the forced command of a transfer login. It may run in another process than the
 * destination's service: the journal is all that they share.
 */
export class TransferReceiver {
  private readonly running = new Map<string, { abort: AbortController; done: Promise<unknown> }>();

  constructor(
    private readonly ports: TransferReceiverPorts,
    private readonly options: Pick<MoveOptions, 'recheckMs'>,
  ) {}

  /**
   * Which moves a source may send at this moment, with this key.
   * @returns null for a stranger, which is the usual answer
   */
  async authorize(sourceHostId: HostId, publicKey: string): Promise<readonly MoveId[] | null> {
    const moves = (await this.ports.journal.listIncoming()).filter(
      (move) =>
        move.state === 'authorized' &&
        move.sourceHostId === sourceHostId &&
        move.sourceTransferKey === publicKey,
    );
    return moves.length === 0 ? null : moves.map((move) => move.moveId);
  }

  /**
   * Receives one subvolume of an authorized move. When it arrived before (the reply was lost), the
   * stream is read and thrown away, since a sender expects it to be.
   * @throws MOVE_NOT_AUTHORIZED, STREAM_INVALID, DISK_FULL
   */
  async receive(
    request: TransferRequest,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<ReceivedSubvolume> {
    try {
      const move = await this.authorized(request);
      const key = `${request.moveId}/${landingItem(request)}`;
      // The same stream again: its sender lost the first connection, which may hang for long.
      const before = this.running.get(key);
      before?.abort.abort(CoreErrors.INTERRUPTED({ reason: 'the same stream came again' }));
      const abort = new AbortController();
      const work = (async () => {
        await before?.done.catch(() => undefined);
        return this.receiveOnce(request, move, stream, AbortSignal.any([signal, abort.signal]));
      })();
      const entry = { abort, done: work };
      this.running.set(key, entry);
      try {
        return await work;
      } finally {
        if (this.running.get(key) === entry) this.running.delete(key);
      }
    } finally {
      stream.destroy();
    }
  }

  private async receiveOnce(
    request: TransferRequest,
    move: IncomingMove,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<ReceivedSubvolume> {
    const { storage } = this.ports;
    const { moveId } = request;
    const item = landingItem(request);
    signal.throwIfAborted();
    const found = await this.found(request);
    if (found) {
      await readAway(stream, signal);
      return found;
    }
    const revoked = new AbortController();
    const guard = this.guard(request, revoked, signal);
    const until = AbortSignal.any([signal, revoked.signal]);
    try {
      const received = await storage.receive(stream, { moveId, item }, { signal: until });
      await this.afterArrival(request, move, received, until);
      return received;
    } catch (error) {
      if (revoked.signal.aborted) throw MoveErrors.MOVE_NOT_AUTHORIZED({}, { cause: error });
      throw error;
    } finally {
      guard.stop();
    }
  }

  private async afterArrival(
    request: TransferRequest,
    move: IncomingMove,
    received: ReceivedSubvolume,
    signal: AbortSignal,
  ): Promise<void> {
    const { storage, journal } = this.ports;
    const { moveId } = request;
    const now = await journal.incoming(moveId);
    if (now?.state !== 'authorized') {
      // Undone while the last bytes came: the undo may have missed what just appeared.
      if (!now || now.state === 'abandoned') await storage.dropLanding(moveId);
      throw MoveErrors.MOVE_NOT_AUTHORIZED();
    }
    if (request.kind === 'image') {
      // Nothing of it is to be seen before its content is known to be the image's.
      const { item } = received;
      const treeDigest = vouchedTree(now);
      await storage.adoptImage({ moveId, item, digest: request.name, treeDigest }, { signal });
    } else if (received.receivedUuid !== request.name) {
      throw MoveErrors.MOVE_VERIFY_FAILED({
        reason: `${received.item} of move ${move.moveId} arrived as ${received.receivedUuid}`,
      });
    }
  }

  private async found(request: TransferRequest): Promise<ReceivedSubvolume | undefined> {
    const { storage } = this.ports;
    const item = landingItem(request);
    if (request.kind === 'image') {
      const path = await storage.imagePath(request.name);
      return path === undefined ? undefined : { item, receivedUuid: request.name, readOnly: true };
    }
    const landed = await storage.listLanding(request.moveId);
    return landed.find(
      (each) => each.item === item && each.readOnly && each.receivedUuid === request.name,
    );
  }

  private async authorized(request: TransferRequest): Promise<IncomingMove> {
    const move = await this.ports.journal.incoming(request.moveId);
    const refused =
      move?.state !== 'authorized' ||
      move.sourceHostId !== request.sourceHostId ||
      // An image is shared by all projects of the host: only the one that this project runs on.
      (request.kind === 'image' && request.name !== move.imageDigest);
    if (!move || refused) throw MoveErrors.MOVE_NOT_AUTHORIZED();
    if (request.kind === 'image') vouchedTree(move);
    return move;
  }

  /** Looks now and then whether the move is still wanted; the undo may run in another process. */
  private guard(
    request: TransferRequest,
    revoked: AbortController,
    signal: AbortSignal,
  ): { stop: () => void } {
    const stopped = new AbortController();
    const until = AbortSignal.any([signal, stopped.signal]);
    const watch = async (): Promise<void> => {
      while (!until.aborted) {
        await this.ports.clock.delay(this.options.recheckMs, until);
        await this.authorized(request);
      }
    };
    watch().catch(() => {
      if (!until.aborted) revoked.abort(MoveErrors.MOVE_NOT_AUTHORIZED());
    });
    return { stop: () => stopped.abort() };
  }
}

/** What the image must hold. @throws MOVE_IMAGE_UNKNOWN */
function vouchedTree({ imageTree, imageDigest = 'unknown' }: IncomingMove): string {
  if (imageTree === undefined) throw MoveErrors.MOVE_IMAGE_UNKNOWN({ digest: imageDigest });
  return imageTree;
}

async function readAway(stream: Readable, signal: AbortSignal): Promise<void> {
  const stop = (): void => void stream.destroy(signal.reason as Error);
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const _ of stream);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
