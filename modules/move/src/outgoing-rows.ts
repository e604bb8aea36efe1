import { CoreErrors, KeyedLock, type Clock, type CodedError } from '@rookery/core';
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

  /** Takes note of a call's attempt, durably. @throws STALE_ATTEMPT for an older or forgotten one */
  async admit(moveId: MoveId, fence: Fence): Promise<OutgoingMove> {
    const move = await this.admitKnown(moveId, fence);
    if (move) return move;
    throw overtaken(fence, await this.journal.forgottenClaim(fence.projectId));
  }

  /** The same; undefined for a move that was forgotten, of which nothing is here. */
  admitKnown(moveId: MoveId, fence: Fence): Promise<OutgoingMove | undefined> {
    return this.lock.run(moveId, async () => {
      const found = await this.journal.outgoing(moveId);
      refuseOlderAttempt(found, fence);
      if (found?.attempt === fence.attempt) return found;
      // Asked behind the look for the row: who forgets it writes this down with its removal.
      if (!found && (await isForgotten(this.journal, fence))) return undefined;
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
        claim: fence.claim ?? 0,
        updatedAt: this.clock.now(),
      };
      await this.journal.saveOutgoing(move);
      return move;
    });
  }
}

/** Whether a call comes from a move that is over, and of which the host remembers nothing else. */
export async function isForgotten(journal: MoveJournal, fence: Fence): Promise<boolean> {
  const { claim = 0, projectId } = fence;
  return claim > 0 && claim <= (await journal.forgottenClaim(projectId));
}

/** For a call of a move without a row that would make one. @throws STALE_ATTEMPT */
export async function refuseForgotten(journal: MoveJournal, fence: Fence): Promise<void> {
  if (!(await isForgotten(journal, fence))) return;
  throw overtaken(fence, await journal.forgottenClaim(fence.projectId));
}

function overtaken({ claim: given = 0 }: Fence, current: number): CodedError {
  const message = `The call comes from claim ${given}; moves that were claimed up to ${current} are over.`;
  return CoreErrors.STALE_ATTEMPT({ given, current }, { message });
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
