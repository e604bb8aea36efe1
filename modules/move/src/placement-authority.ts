import type { HostId, MoveId, ProjectId, ProjectSpec, MoveState } from '@rookery/core/contract';
import type { MoveTarget } from '@rookery/fleet/contract';

/** What a move needs to know, as its row and the hosts' rows say. */
export interface MovePlan {
  readonly moveId: MoveId;
  readonly projectId: ProjectId;
  readonly fromHostId: HostId;
  readonly toHostId: HostId;
  /** Generation of the placement that the move started from. */
  readonly expectedGeneration: number;
  readonly spec: ProjectSpec;
  readonly target: MoveTarget;
  /** The source's key, which the destination lets in for this one move. */
  readonly sourceTransferKey: string;
  /** Where late requests at the source are sent afterwards. */
  readonly newUrl?: string;
}

/** Shown with the state: sizes, rounds, why it failed. */
export type MoveDetails = Readonly<Record<string, string | number | boolean>>;

/**
 * Who owns what: the hub's database. All methods are refused with LEASE_LOST for an attempt that is
 * not the newest, and may be repeated.
 */
export abstract class PlacementAuthority {
  abstract loadMove(moveId: MoveId): Promise<MovePlan>;

  /**
   * States only go on: setting one that lies before the present one changes nothing, so a repeated
   * step cannot turn the row back.
   * @throws MOVE_UNDONE for a forward state when the row says `undoing` or later
   */
  abstract setState(
    moveId: MoveId,
    attempt: number,
    state: MoveState,
    details?: MoveDetails,
  ): Promise<void>;

  /**
   * Changes the owner, in one transaction that holds only if the move is `committing`, the attempt
   * is the newest, and the project is at the expected generation on the source. When this move has
   * committed already (its reply was lost), it answers with the generation of that time.
   * @returns the new generation
   * @throws MOVE_UNDONE, STALE_GENERATION
   */
  abstract commit(change: {
    readonly moveId: MoveId;
    readonly projectId: ProjectId;
    readonly attempt: number;
    readonly expectedGeneration: number;
    readonly toHostId: HostId;
  }): Promise<number>;

  /**
   * Sets `undoing`, after which no commit of this move is possible, by whichever worker.
   * @returns `committed` when the owner has changed already: nothing may be undone
   */
  abstract beginUndo(moveId: MoveId, attempt: number): Promise<'undoing' | 'committed'>;
}
