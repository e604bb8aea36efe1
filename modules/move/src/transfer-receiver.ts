import type { Readable } from 'node:stream';
import { CoreErrors, type Clock } from '@rookery/core';
import type { HostId, MoveId } from '@rookery/core/contract';
import type { ReceivedSubvolume, StorageDriver } from '@rookery/storage/contract';
import { landingItem, receiveCommand, type MoveStream } from './contract.js';
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

  /** Keys that may log in as `btrfs-<sourceHostId>` at this moment; none is the usual answer. */
  async transferKeys(sourceHostId: HostId): Promise<string[]> {
    const moves = await this.ports.journal.listIncoming();
    return moves.flatMap((move) =>
      move.state === 'authorized' &&
      move.sourceHostId === sourceHostId &&
      move.sourceTransferKey !== undefined
        ? [move.sourceTransferKey]
        : [],
    );
  }

  /** Reads the exec argument. @throws MOVE_NOT_AUTHORIZED for anything but `receive …` */
  parse(command: string, sourceHostId: HostId): TransferRequest {
    const [, moveId, kind, name] = receiveCommand.pattern.exec(command) ?? [];
    if (moveId === undefined || kind === undefined || name === undefined) {
      throw MoveErrors.MOVE_NOT_AUTHORIZED();
    }
    return { moveId, kind: kind as MoveStream['kind'], name, sourceHostId };
  }

  /**
   * Receives one subvolume of an authorized move. One that arrived before is answered at once; the
   * stream is then not read.
   * @throws MOVE_NOT_AUTHORIZED, STREAM_INVALID, DISK_FULL
   */
  async receive(
    request: TransferRequest,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<{ receivedUuid: string; already: boolean }> {
    try {
      const move = await this.authorized(request);
      const key = `${request.moveId}/${landingItem(request)}`;
      // The same stream again: its sender lost the first connection, which may hang for long.
      const before = this.running.get(key);
      before?.abort.abort(CoreErrors.CANCELED());
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
  ): Promise<{ receivedUuid: string; already: boolean }> {
    const { storage } = this.ports;
    const { moveId } = request;
    const item = landingItem(request);
    signal.throwIfAborted();
    const found = await this.found(request);
    if (found) return { receivedUuid: found.receivedUuid, already: true };
    const revoked = new AbortController();
    const guard = this.guard(request, revoked, signal);
    let received: ReceivedSubvolume;
    try {
      received = await storage.receive(
        stream,
        { moveId, item },
        { signal: AbortSignal.any([signal, revoked.signal]) },
      );
    } catch (error) {
      if (revoked.signal.aborted) throw MoveErrors.MOVE_NOT_AUTHORIZED({}, { cause: error });
      throw error;
    } finally {
      guard.stop();
    }
    await this.afterArrival(request, move, received);
    return { receivedUuid: received.receivedUuid, already: false };
  }

  private async afterArrival(
    request: TransferRequest,
    move: IncomingMove,
    received: ReceivedSubvolume,
  ): Promise<void> {
    const { storage, journal } = this.ports;
    const { moveId } = request;
    const now = await journal.incoming(moveId);
    if (now?.state !== 'authorized') {
      // Undone while the last bytes came: the undo may have missed what just appeared.
      if (now?.state === 'abandoned') await storage.dropLanding(moveId);
      throw MoveErrors.MOVE_NOT_AUTHORIZED();
    }
    if (request.kind === 'image') {
      await storage.adoptImage(moveId, received.item, request.name);
    } else if (received.receivedUuid !== request.name) {
      throw MoveErrors.MOVE_VERIFY_FAILED({
        reason: `${received.item} of move ${move.moveId} arrived as ${received.receivedUuid}`,
      });
    }
  }

  private async found(request: TransferRequest): Promise<{ receivedUuid: string } | undefined> {
    const { storage } = this.ports;
    if (request.kind === 'image') {
      const path = await storage.imagePath(request.name);
      return path === undefined ? undefined : { receivedUuid: request.name };
    }
    const item = landingItem(request);
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
