import {
  backoffMs,
  SystemClock,
  toCodedError,
  type Clock,
  type CodedErrorJson,
} from '@rookery/core';
import type { Saga, SagaTypes } from './saga.js';
import { SagaErrors } from './saga.errors.js';
import type { LeaseGuard, RetryPolicy, SagaOutcome, SagaRecord, SagaStore } from './saga.ports.js';
import { SagaRun } from './saga.run.js';

export interface SagaExecutorOptions {
  readonly store: SagaStore;
  readonly clock?: Clock;
  /** For backoff jitter. */
  readonly random?: () => number;
  /** Retryable errors before the point of no return. */
  readonly retry?: RetryPolicy;
  /** Any error in an undo or past the point of no return; after these the operation is stuck. */
  readonly mustRetry?: RetryPolicy;
  /** Part of the lease after which it is renewed. */
  readonly renewAfter?: number;
}

const retryDefault: RetryPolicy = { firstMs: 200, maxMs: 5000, attempts: 5 };
const mustRetryDefault: RetryPolicy = { firstMs: 500, maxMs: 15_000, attempts: 8 };

/**
 * The first record of an operation, for the transaction that creates it.
 * Its attempt is 0: the first claim makes it 1.
 */
export function newSagaRecord<T extends SagaTypes>(
  saga: Saga<T>,
  operation: { operationId: string; input: T['input'] },
): SagaRecord {
  return {
    operationId: operation.operationId,
    saga: saga.name,
    attempt: 0,
    status: 'running',
    direction: 'forward',
    step: saga.steps[0]!.name,
    cancelable: saga.pointOfNoReturn > 0,
    forwardOnly: false,
    input: operation.input,
    state: saga.start(operation.input),
  };
}

/**
 * Runs sagas. The record is saved before every step, so that whatever dies, the next run repeats
 * at most the one step that was under way. One of the three places that may retry.
 */
export class SagaExecutor {
  private readonly clock: Clock;

  constructor(private readonly options: SagaExecutorOptions) {
    this.clock = options.clock ?? new SystemClock();
  }

  /**
   * Runs or resumes an operation until it ends, gets stuck or is interrupted.
   * An operation that has ended gives its outcome again.
   * @param ports what the steps work with; not kept.
   * @param lease the claim; its attempt must be the record's newest.
   * @throws OPERATION_UNKNOWN, SAGA_STEP_UNKNOWN
   */
  async run<T extends SagaTypes>(
    saga: Saga<T>,
    ports: T['ports'],
    lease: LeaseGuard,
    options: { signal?: AbortSignal } = {},
  ): Promise<SagaOutcome<T['result']>> {
    const { operationId } = lease;
    const record = await this.options.store.load(operationId);
    if (!record) throw SagaErrors.OPERATION_UNKNOWN({ operationId });
    const ended = endedOutcome<T['result']>(record);
    if (ended) return ended;
    if (!saga.steps.some((each) => each.name === record.step)) {
      throw SagaErrors.SAGA_STEP_UNKNOWN({ operationId, step: record.step, saga: saga.name });
    }
    const run = new SagaRun(saga, ports, lease, record, {
      store: this.options.store,
      clock: this.clock,
      retry: this.options.retry ?? retryDefault,
      mustRetry: this.options.mustRetry ?? mustRetryDefault,
      backoff: (n, policy) => backoffMs(n, policy, this.options.random),
      renewAfter: this.options.renewAfter ?? 1 / 3,
      signal: options.signal,
    });
    return run.drive();
  }

  /**
   * Asks for an operation to be undone. It stops its step at the next renewal or border.
   * @throws OPERATION_UNKNOWN, CANCEL_TOO_LATE
   */
  async cancel(operationId: string): Promise<void> {
    await this.options.store.requestCancel(operationId);
  }
}

function endedOutcome<Result>(record: SagaRecord): SagaOutcome<Result> | undefined {
  switch (record.status) {
    case 'succeeded':
      return { status: 'succeeded', result: record.result as Result };
    case 'failed':
    case 'canceled':
      return { status: record.status, error: record.error ?? unknownError() };
    case 'running':
    case 'stuck':
      return undefined;
  }
}

function unknownError(): CodedErrorJson {
  return toCodedError(new Error('the record holds no error')).toJSON();
}
