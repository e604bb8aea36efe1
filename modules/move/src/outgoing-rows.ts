import { CoreErrors, KeyedLock, type Clock } from '@rookery/core';
import type { Fence, MoveId } from '@rookery/core/contract';
import type { MoveJournal, OutgoingMove } from './move.journal.js';

/**
 * The journal's outgoing rows, changed one field at a time: work that is being overtaken must not
 * write an older attempt back.
 */
export class OutgoingRows {
  private readonly lock = new KeyedLock();

  constructor(
    private readonly journal: MoveJournal,
    private readonly clock: Clock,
  ) {}

  find(moveId: MoveId): Promise<OutgoingMove | undefined> {
    return this.journal.outgoing(moveId);
  }

  list(): Promise<OutgoingMove[]> {
    return this.journal.listOutgoing();
  }

  async load(moveId: MoveId): Promise<OutgoingMove> {
    const move = await this.journal.outgoing(moveId);
    if (!move) throw CoreErrors.NOT_FOUND({ what: 'move', id: moveId });
    return move;
  }

  update(moveId: MoveId, change: Partial<OutgoingMove>): Promise<OutgoingMove> {
    return this.lock.run(moveId, async () => {
      const move = { ...(await this.load(moveId)), ...change, updatedAt: this.clock.now() };
      await this.journal.saveOutgoing(move);
      return move;
    });
  }

  /** Takes note of a call's attempt, durably. @throws STALE_ATTEMPT for an older one */
  admit(moveId: MoveId, fence: Fence): Promise<OutgoingMove> {
    return this.lock.run(moveId, async () => {
      const found = await this.journal.outgoing(moveId);
      refuseOlderAttempt(found, fence);
      if (found?.attempt === fence.attempt) return found;
      const move: OutgoingMove = {
        moveId,
        projectId: fence.projectId,
        generation: fence.generation,
        state: 'copying',
        confirmed: [],
        pictures: [],
        rounds: [],
        ...found,
        attempt: fence.attempt,
        updatedAt: this.clock.now(),
      };
      await this.journal.saveOutgoing(move);
      return move;
    });
  }
}

/** @throws STALE_ATTEMPT */
export function refuseOlderAttempt(
  move: { readonly attempt: number } | undefined,
  fence: Fence,
): void {
  if (move && move.attempt > fence.attempt) {
    throw CoreErrors.STALE_ATTEMPT({ given: fence.attempt, current: move.attempt });
  }
}
