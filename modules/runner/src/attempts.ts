import { CoreErrors } from '@rookery/core';
import type { Fence, OperationId } from '@rookery/core/contract';

/** Operations of one project that are remembered one by one; few are ever under way at once. */
const operationsMax = 32;

/** The newest call of one operation that was let in. */
export interface KnownAttempt {
  readonly operationId: OperationId;
  readonly attempt: number;
  /** 0: its hub numbers no claims. */
  readonly claim: number;
}

/** What a host remembers of those who were let in to one project; it outlives the project here. */
export interface KnownAttempts {
  /** The one heard of last comes last. */
  readonly operations: readonly KnownAttempt[];
  /** Newest claim of an operation that has the project for itself. */
  readonly exclusiveClaim: number;
  /** An operation that is not among them and was claimed up to here was forgotten, not missed. */
  readonly forgottenClaim: number;
}

export const noAttempts: KnownAttempts = { operations: [], exclusiveClaim: 0, forgottenClaim: 0 };

/**
 * Lets a call in, or finds that it was overtaken: by a newer attempt of its operation; by a newer
 * operation, when both have the project for themselves, because then the hub began the newer one
 * only when the older had ended; or so long ago that its operation is forgotten. Work that may run
 * beside others (a backup, a snapshot) overtakes nobody but itself.
 *
 * A call that is refused though it is good (an operation that came back after thirty others) costs
 * nothing but a new claim: its worker takes it for a lost lease, and the next claim is the newest.
 * @throws STALE_ATTEMPT
 */
export function admitAttempt(
  known: KnownAttempts,
  fence: Pick<Fence, 'operationId' | 'attempt' | 'claim'>,
  { exclusive }: { readonly exclusive: boolean },
): KnownAttempts {
  const { operationId, attempt, claim = 0 } = fence;
  const before = known.operations.find((each) => each.operationId === operationId);
  if (before && before.attempt > attempt) {
    throw CoreErrors.STALE_ATTEMPT({ given: attempt, current: before.attempt });
  }
  if (claim > 0) {
    if (exclusive && claim < known.exclusiveClaim) throw overtaken(claim, known.exclusiveClaim);
    if (!before && claim <= known.forgottenClaim) throw overtaken(claim, known.forgottenClaim);
  }
  const isSame = before?.attempt === attempt && before.claim === claim;
  const exclusiveClaim = exclusive ? Math.max(known.exclusiveClaim, claim) : known.exclusiveClaim;
  if (isSame && exclusiveClaim === known.exclusiveClaim) return known;
  const others = known.operations.filter((each) => each !== before);
  const operations = [...others, { operationId, attempt, claim }];
  const forgotten = operations.slice(0, -operationsMax);
  return {
    operations: operations.slice(-operationsMax),
    exclusiveClaim,
    forgottenClaim: Math.max(known.forgottenClaim, ...forgotten.map((each) => each.claim)),
  };
}

/** The newest claim that it says anything of: whoever forgets it all must still refuse up to here. */
export const newestClaim = ({
  operations,
  exclusiveClaim,
  forgottenClaim,
}: KnownAttempts): number =>
  Math.max(exclusiveClaim, forgottenClaim, ...operations.map((each) => each.claim));

/**
 * Drops an operation that is over: what comes of it later is refused, by its claim.
 * @param over without an id: one that was never let in here
 */
export function forgetOperation(
  known: KnownAttempts,
  { operationId, claim }: { readonly operationId?: OperationId; readonly claim: number },
): KnownAttempts {
  const found = known.operations.find((each) => each.operationId === operationId);
  return {
    operations: known.operations.filter((each) => each !== found),
    exclusiveClaim: known.exclusiveClaim,
    forgottenClaim: Math.max(known.forgottenClaim, claim, found?.claim ?? 0),
  };
}

const overtaken = (given: number, current: number) => {
  const message = `The call comes from claim ${given} of its operation; claim ${current} came since.`;
  return CoreErrors.STALE_ATTEMPT({ given, current }, { message });
};
