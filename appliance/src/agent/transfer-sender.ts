import type { Readable } from 'node:stream';
import { MoveErrors, TransferSender, type TransferResult } from '@rookery/move';
import { receiveCommand, type MoveStream, type MoveTarget } from '@rookery/move/contract';
import { TransferSender as SshSender } from '@rookery/proxy';

/** Sends a move's streams through the destination's SSH port, as this host. */
export class SshTransferSender extends TransferSender {
  constructor(
    private readonly transferKey: string,
    /** Known once the host has joined; nothing moves before. */
    private readonly hostId: () => Promise<string>,
  ) {
    super();
  }

  async send(
    target: MoveTarget,
    command: string,
    stream: Readable,
    options: { readonly signal: AbortSignal; readonly onProgress?: (sentBytes: number) => void },
  ): Promise<TransferResult> {
    const [, moveId, kind, name] = receiveCommand.pattern.exec(command) ?? [];
    if (moveId === undefined || kind === undefined || name === undefined) {
      throw MoveErrors.MOVE_NOT_AUTHORIZED();
    }
    const item = { moveId, kind: kind as MoveStream['kind'], name };
    const identity = { sourceHostId: await this.hostId(), privateKey: this.transferKey };
    const { receivedUuid, bytes } = await new SshSender(identity).send(
      target,
      item,
      stream,
      options,
    );
    return { receivedUuid: receivedUuid ?? '', bytes };
  }
}
