import type { MoveId, ProjectId } from '@rookery/core/contract';
import { IncomingMove, MoveJournal, OutgoingMove } from '../move.journal.js';

/** Rows in memory, parsed on the way in and copied on the way out, as a database would. */
export class MemoryMoveJournal extends MoveJournal {
  private readonly out = new Map<MoveId, OutgoingMove>();
  private readonly in = new Map<MoveId, IncomingMove>();
  private readonly forgotten = new Map<ProjectId, number>();

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

  async forgottenClaim(projectId: ProjectId): Promise<number> {
    return this.forgotten.get(projectId) ?? 0;
  }

  /** Both sides' rows go, as if the hub had said that the move is over. */
  forget(moveId: MoveId): void {
    for (const move of [this.out.get(moveId), this.in.get(moveId)]) {
      if (!move) continue;
      const before = this.forgotten.get(move.projectId) ?? 0;
      this.forgotten.set(move.projectId, Math.max(before, move.claim));
    }
    this.out.delete(moveId);
    this.in.delete(moveId);
  }
}
