import { CoreErrors } from '@rookery/core';
import { type MoveId, MoveState } from '@rookery/core/contract';
import { MoveErrors } from '../move.errors.js';
import { PlacementAuthority, type MovePlan } from '../placement-authority.js';
import { SagaErrors } from '../saga/saga.errors.js';

/** A move that is stuck goes on from where it stood. */
const order: readonly MoveState[] = MoveState.exclude(['stuck']).options;

interface Row {
  readonly plan: MovePlan;
  attempt: number;
  state: MoveState;
  /** Kept beside the state, which `stuck` may hide. */
  undoing: boolean;
  committedGeneration?: number;
}

/** Placement and move rows in memory, with the refusals that the hub's database must have. */
export class MemoryPlacementAuthority extends PlacementAuthority {
  private readonly moves = new Map<MoveId, Row>();
  private readonly owners = new Map<string, { hostId: string; generation: number }>();

  place(projectId: string, hostId: string, generation: number): void {
    this.owners.set(projectId, { hostId, generation });
  }

  owner(projectId: string): { hostId: string; generation: number } | undefined {
    return this.owners.get(projectId);
  }

  add(plan: MovePlan): void {
    this.moves.set(plan.moveId, { plan, attempt: 0, state: 'queued', undoing: false });
  }

  state(moveId: MoveId): MoveState | undefined {
    return this.moves.get(moveId)?.state;
  }

  async loadMove(moveId: MoveId): Promise<MovePlan> {
    return this.row(moveId).plan;
  }

  async setState(moveId: MoveId, attempt: number, state: MoveState): Promise<void> {
    const row = this.newest(moveId, attempt);
    const forward = order.indexOf(state) < order.indexOf('undoing');
    if (forward && row.undoing) throw MoveErrors.MOVE_UNDONE();
    const back = forward && order.indexOf(state) < order.indexOf(row.state);
    if (!back) row.state = state;
  }

  async commit(change: Parameters<PlacementAuthority['commit']>[0]): Promise<number> {
    const row = this.newest(change.moveId, change.attempt);
    if (row.committedGeneration !== undefined) return row.committedGeneration;
    if (row.undoing || row.state !== 'committing') throw MoveErrors.MOVE_UNDONE();
    const owner = this.owners.get(change.projectId);
    if (owner?.generation !== change.expectedGeneration || owner.hostId !== row.plan.fromHostId) {
      throw CoreErrors.STALE_GENERATION({
        given: change.expectedGeneration,
        current: owner?.generation ?? 'none',
      });
    }
    const generation = owner.generation + 1;
    this.owners.set(change.projectId, { hostId: change.toHostId, generation });
    row.committedGeneration = generation;
    return generation;
  }

  async beginUndo(moveId: MoveId, attempt: number): Promise<'undoing' | 'committed'> {
    const row = this.newest(moveId, attempt);
    if (row.committedGeneration !== undefined) return 'committed';
    row.undoing = true;
    row.state = 'undoing';
    return 'undoing';
  }

  private newest(moveId: MoveId, attempt: number): Row {
    const row = this.row(moveId);
    if (attempt < row.attempt) throw SagaErrors.LEASE_LOST({ operationId: moveId });
    row.attempt = attempt;
    return row;
  }

  private row(moveId: MoveId): Row {
    const row = this.moves.get(moveId);
    if (!row) throw CoreErrors.NOT_FOUND({ what: 'move', id: moveId });
    return row;
  }
}
