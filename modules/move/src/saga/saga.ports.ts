import type { CodedErrorJson } from '@rookery/core';
import type { Progress } from '@rookery/core/contract';

/**
 * - `running`: a worker has it, or should.
 * - `stuck`: retries are used up where giving up is not allowed (in an undo, or past the point of
 *   no return). Shown and alarmed; running it again goes on where it stands.
 * - `succeeded`, `failed` (undone after an error), `canceled` (undone on request): ended.
 */
export type SagaStatus = 'running' | 'succeeded' | 'failed' | 'canceled' | 'stuck';

/** Everything a new worker needs to go on where another one stopped. Plain JSON. */
export interface SagaRecord {
  readonly operationId: string;
  readonly saga: string;
  /** Raised by every claim; a save with an older one is refused. */
  readonly attempt: number;
  readonly status: SagaStatus;
  readonly direction: 'forward' | 'undoing';
  /** Name of the step that runs, or runs next. */
  readonly step: string;
  /** False from the moment the point of no return may be passed. */
  readonly cancelable: boolean;
  /** True once the point of no return is passed: errors are retried, never undone. */
  readonly forwardOnly: boolean;
  readonly input: object;
  readonly state: object;
  readonly result?: unknown;
  readonly progress?: Progress;
  /** Why it is undone, failed or stuck. */
  readonly error?: CodedErrorJson;
  /** What the current step met last while it is being retried. */
  readonly retry?: { readonly count: number; readonly error: CodedErrorJson };
}

/**
 * Keeps records, durably.
 *
 * `save` is a compare-and-set: it changes nothing and throws LEASE_LOST when the record's attempt
 * is not the current one or its lease has expired (by the store's clock). So a worker that was
 * thought dead cannot overwrite what its successor wrote. The wish to cancel lives beside the
 * record, and `save` returns it from the same transaction: a cancel either is seen by the save that
 * closes the window (`cancelable: false`), or comes after it and is refused.
 */
export abstract class SagaStore {
  abstract load(operationId: string): Promise<SagaRecord | undefined>;
  /** @throws LEASE_LOST */
  abstract save(record: SagaRecord): Promise<{ cancelRequested: boolean }>;
  /** Shows progress; may throttle, and may drop it. */
  abstract saveProgress(operationId: string, attempt: number, progress: Progress): Promise<void>;
  /** @throws OPERATION_UNKNOWN, CANCEL_TOO_LATE when the record is not `cancelable` or has ended. */
  abstract requestCancel(operationId: string): Promise<void>;
}

/** The claim under which a worker runs one operation. */
export abstract class LeaseGuard {
  abstract readonly operationId: string;
  abstract readonly attempt: number;
  /** Grows with every claim of any operation, where the store numbers them. */
  readonly claim?: number;
  /** How long the lease lasts after a renewal. */
  abstract readonly leaseMs: number;
  /** Prolongs the lease. @throws LEASE_LOST */
  abstract renew(): Promise<{ cancelRequested: boolean }>;
}

/**
 * How a run ended. `interrupted`: the lease was lost or the worker stops; another run goes on.
 * `waiting`: a step waits for other operations; whoever ends one of them wakes this one.
 */
export type SagaOutcome<Result> =
  | { readonly status: 'succeeded'; readonly result: Result }
  | { readonly status: 'failed' | 'canceled' | 'stuck'; readonly error: CodedErrorJson }
  | { readonly status: 'interrupted' | 'waiting' };

export interface RetryPolicy {
  readonly firstMs: number;
  readonly maxMs: number;
  /** Tries in all, the first included. */
  readonly attempts: number;
}
