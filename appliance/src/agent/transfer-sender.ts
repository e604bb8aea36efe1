import type { Readable } from 'node:stream';
import { MoveErrors, TransferSender, type TransferResult } from '@rookery/move';
import { receiveCommand, type MoveStream, type MoveTarget } from '@rookery/fleet/contract';
import { TransferSender as SshSender, type TransferConnection } from '@rookery/proxy';

/** A login is kept this long for a move's next stream: the cutover follows the copying at once. */
const connectionKeepMs = 10_000;

interface Kept {
  readonly connection: TransferConnection;
  readonly timer: NodeJS.Timeout;
}

/**
 * Sends a move's streams through the destination's SSH port, as this host. A login knows the moves
 * that were authorized when it was made, so each move has one of its own.
 */
export class SshTransferSender extends TransferSender {
  private readonly kept = new Map<string, Kept>();

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
    const key = JSON.stringify([moveId, target.sshHost, target.sshPort, target.ingressKey]);
    const connection = this.take(key) ?? (await this.connect(target, stream, options.signal));
    // A send that fails closes its connection; only one that went well is kept.
    const { receivedUuid, bytes } = await connection.send(item, stream, options);
    this.keep(key, connection);
    return { receivedUuid: receivedUuid ?? '', bytes };
  }

  private async connect(
    target: MoveTarget,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<TransferConnection> {
    try {
      const identity = { sourceHostId: await this.hostId(), privateKey: this.transferKey };
      return await new SshSender(identity).connect(target, signal);
    } catch (error) {
      stream.destroy();
      throw error;
    }
  }

  /** One stream at a time has it. */
  private take(key: string): TransferConnection | undefined {
    const kept = this.kept.get(key);
    if (!kept) return undefined;
    this.kept.delete(key);
    clearTimeout(kept.timer);
    return kept.connection.isOpen ? kept.connection : undefined;
  }

  private keep(key: string, connection: TransferConnection): void {
    // Two streams of one move went over two logins: one is enough.
    this.take(key)?.close();
    const timer = setTimeout(() => this.take(key)?.close(), connectionKeepMs);
    timer.unref();
    this.kept.set(key, { connection, timer });
  }
}
