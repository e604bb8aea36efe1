import type { Readable } from 'node:stream';
import type { Connection } from 'ssh2';
import type { TransferItem, TransferResult } from '../contract.js';

/** Knows which moves a source may send. */
export abstract class TransferAuthorizer {
  /**
   * @param publicKey `ssh-ed25519 AAAA…` that the source has shown (asked again at each command,
   *   so that a withdrawn authorization counts at once).
   * @returns ids of the moves that this source may send now with this key; null for a stranger.
   */
  abstract authorize(sourceHostId: string, publicKey: string): Promise<readonly string[] | null>;
}

export interface IncomingTransfer extends TransferItem {
  readonly sourceHostId: string;
}

/** Takes one stream: `btrfs receive` into the landing area of its move. */
export abstract class TransferReceiver {
  /**
   * @param stream ends when the sender has ended it; is destroyed with an error when the connection
   *   broke off before that, so a truncated stream never looks whole.
   * @param signal aborted when the sender has gone or stalls.
   * @throws coded errors, which the sender gets as they are
   */
  abstract receive(
    transfer: IncomingTransfer,
    stream: Readable,
    signal: AbortSignal,
  ): Promise<Omit<TransferResult, 'bytes'>>;
}

/** Logins to projects (`<project>`, aliases): not part of a host-to-host ingress. */
export abstract class ProjectSshHandler {
  abstract mayLogin(login: string, publicKey: string): Promise<boolean>;
  /** Called once such a login has authenticated; owns the connection's sessions from then on. */
  abstract serve(connection: Connection, login: string): void;
}
