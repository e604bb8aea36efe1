import type { MoveId } from '@rookery/core/contract';
import { IncomingMove, MoveJournal, OutgoingMove } from '../move.journal.js';

/** Rows in memory, parsed on the way in and copied on the way out, as a database would. */
export class MemoryMoveJournal extends MoveJournal {
  private readonly out = new Map<MoveId, OutgoingMove>();
  private readonly in = new Map<MoveId, IncomingMove>();

  async outgoing(moveId: MoveId): Promise<OutgoingMove | undefined> {
    return structuredClone(this.out.get(moveId));
  }

  async listOutgoing(): Promise<OutgoingMove[]> {
    return structuredClone([...this.out.values()]);
  }

  async saveOutgoing(move: OutgoingMove): Promise<void> {
    this.out.set(move.moveId, OutgoingMove.parse(move));
  }

  async incoming(moveId: MoveId): Promise<IncomingMove | undefined> {
    return structuredClone(this.in.get(moveId));
  }

  async listIncoming(): Promise<IncomingMove[]> {
    return structuredClone([...this.in.values()]);
  }

  async saveIncoming(move: IncomingMove): Promise<void> {
    this.in.set(move.moveId, IncomingMove.parse(move));
  }
}
