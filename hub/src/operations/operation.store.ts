import { Injectable } from '@nestjs/common';
import type { Progress } from '@rookery/core/contract';
import { LeaseGuard, SagaErrors, SagaStore, type SagaRecord } from '@rookery/move';
import { DataSource } from 'typeorm';
import type { OperationState } from '../database/entities/operation.entity.js';
import { awaitedHost } from './awaited-host.js';

/** A stuck operation is tried again after this: a host may have come back. */
const stuckRetryS = 60;
/** What waits for others is woken by them; should that be missed, it looks by itself after this. */
const waitingS = 60;

/** Records of sagas in `operations`; time is Postgres'. */
@Injectable()
export class OperationStore extends SagaStore {
  constructor(private readonly dataSource: DataSource) {
    super();
  }

  async load(operationId: string): Promise<SagaRecord | undefined> {
    const [row] = await this.dataSource.query<{ saga: SagaRecord; attempt: number }[]>(
      'SELECT saga, attempt FROM operations WHERE id = $1',
      [operationId],
    );
    return row && { ...row.saga, attempt: row.attempt };
  }

  async save(record: SagaRecord): Promise<{ cancelRequested: boolean }> {
    const state = stateOf(record);
    const ended = ['succeeded', 'failed', 'canceled'].includes(state);
    const error = record.error ?? (state === 'stuck' ? record.retry?.error : undefined);
    const rows = await this.dataSource.query<{ cancel_requested: boolean }[]>(
      `WITH saved AS (
         UPDATE operations SET saga = $3, state = $4, step = $5, error = $6, result = $7,
           ended_at = CASE WHEN $8 THEN now() END,
           waits_since = CASE WHEN step = $5 THEN coalesce(waits_since, now()) ELSE now() END,
           waits_for = CASE WHEN NOT $8 THEN (
             SELECT jsonb_build_object('kind', 'host', 'id', h.id, 'name', h.name)
             FROM project_hosts h WHERE h.id = coalesce($10::uuid,
               (SELECT p.host_id FROM projects p WHERE p.id = operations.project_id))) END,
           run_at = CASE WHEN $4 = 'stuck' THEN now() + make_interval(secs => $9) ELSE run_at END
         WHERE id = $1 AND attempt = $2 AND lease_expires_at > now() AND ended_at IS NULL
         RETURNING cancel_requested, parent_id, ended_at),
       woken AS (
         UPDATE operations p SET run_at = now() FROM saved
         WHERE saved.ended_at IS NOT NULL AND p.id = saved.parent_id AND p.ended_at IS NULL)
       SELECT cancel_requested FROM saved`,
      [
        record.operationId,
        record.attempt,
        JSON.stringify(record),
        state,
        record.step,
        error ? JSON.stringify(error) : null,
        record.result === undefined ? null : JSON.stringify(record.result),
        ended,
        stuckRetryS,
        awaitedHost(record) ?? null,
      ],
    );
    const row = rows[0];
    if (!row) throw SagaErrors.LEASE_LOST({ operationId: record.operationId });
    return { cancelRequested: row.cancel_requested };
  }

  async saveProgress(operationId: string, attempt: number, progress: Progress): Promise<void> {
    await this.dataSource.query(
      `UPDATE operations SET progress = $3,
         waits_since = CASE WHEN progress = $3::jsonb THEN waits_since ELSE now() END
       WHERE id = $1 AND attempt = $2 AND ended_at IS NULL`,
      [operationId, attempt, JSON.stringify(progress)],
    );
  }

  async requestCancel(operationId: string): Promise<void> {
    const [rows] = await this.dataSource.query<[unknown[], number]>(
      `UPDATE operations SET cancel_requested = true, run_at = now()
       WHERE id = $1 AND ended_at IS NULL AND (saga->>'cancelable')::boolean RETURNING id`,
      [operationId],
    );
    if (rows.length > 0) return;
    const known = await this.load(operationId);
    if (!known) throw SagaErrors.OPERATION_UNKNOWN({ operationId });
    throw SagaErrors.CANCEL_TOO_LATE();
  }
}

function stateOf(record: SagaRecord): OperationState {
  if (record.status !== 'running') return record.status;
  return record.direction === 'undoing' ? 'undoing' : 'running';
}

/** What a claim gives. */
export interface ClaimedOperation {
  readonly id: string;
  readonly kind: string;
  readonly attempt: number;
  readonly claim: number;
  /** As it stood: when it has changed meanwhile, somebody woke the operation. */
  readonly runAt: string;
}

/**
 * Claims what waits, and what a dead worker left: the row lock lasts only for the claim, the lease
 * goes on from there.
 */
export async function claimOperations(
  dataSource: DataSource,
  worker: string,
  options: { leaseMs: number; limit: number },
): Promise<ClaimedOperation[]> {
  const [rows] = await dataSource.query<[ClaimedOperation[], number]>(
    `UPDATE operations SET attempt = attempt + 1, claim = nextval('operation_claims'),
       lease_owner = $1,
       lease_expires_at = now() + make_interval(secs => $2::float8 / 1000),
       started_at = coalesce(started_at, now()),
       state = CASE WHEN state = 'pending' THEN 'running' ELSE state END
     WHERE id IN (
       SELECT id FROM operations
       WHERE ended_at IS NULL AND run_at <= now()
         AND (lease_expires_at IS NULL OR lease_expires_at <= now())
       ORDER BY run_at LIMIT $3 FOR UPDATE SKIP LOCKED)
     RETURNING id, kind, attempt, claim::float8 AS claim,
       run_at::text AS "runAt"`,
    [worker, options.leaseMs, options.limit],
  );
  return rows;
}

/** Gives a claim back at once, so that another worker goes on where this one stopped. */
export async function releaseOperation(dataSource: DataSource, lease: LeaseGuard): Promise<void> {
  await dataSource.query(
    'UPDATE operations SET lease_expires_at = now() WHERE id = $1 AND attempt = $2',
    [lease.operationId, lease.attempt],
  );
}

/** Gives a claim back until the operation is woken; at once when it was woken while it ran. */
export async function parkOperation(
  dataSource: DataSource,
  operation: ClaimedOperation,
): Promise<void> {
  await dataSource.query(
    `UPDATE operations SET lease_expires_at = now(), run_at = CASE
       WHEN run_at = $3::timestamptz THEN now() + make_interval(secs => $4) ELSE now() END,
       waits_since = now(), waits_for = (
         SELECT jsonb_build_object('kind', 'operation', 'id', c.id) FROM operations c
         WHERE c.parent_id = $1 AND c.ended_at IS NULL ORDER BY c.created_at LIMIT 1)
     WHERE id = $1 AND attempt = $2`,
    [operation.id, operation.attempt, operation.runAt, waitingS],
  );
}

/** A lease on one claimed operation. */
export class OperationLease extends LeaseGuard {
  constructor(
    private readonly dataSource: DataSource,
    readonly operationId: string,
    readonly attempt: number,
    override readonly claim: number,
    readonly leaseMs: number,
  ) {
    super();
  }

  async renew(): Promise<{ cancelRequested: boolean }> {
    const [rows] = await this.dataSource.query<[{ cancel_requested: boolean }[], number]>(
      `UPDATE operations SET lease_expires_at = now() + make_interval(secs => $3::float8 / 1000)
       WHERE id = $1 AND attempt = $2 AND lease_expires_at > now() AND ended_at IS NULL
       RETURNING cancel_requested`,
      [this.operationId, this.attempt, this.leaseMs],
    );
    const row = rows[0];
    if (!row) throw SagaErrors.LEASE_LOST({ operationId: this.operationId });
    return { cancelRequested: row.cancel_requested };
  }
}
