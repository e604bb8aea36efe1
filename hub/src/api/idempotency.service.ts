import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { api, type OperationName, type Route } from '@rookery/api';
import { CodedError, waitFor } from '@rookery/core';
import { DataSource } from 'typeorm';
import { HubErrors } from '../hub.errors.js';
import { OperationsService } from '../operations/operations.service.js';
import type { ApiCall } from './handlers.js';
import { seal, unseal } from './sealed.js';

/** A repeated request waits this long for the first one's answer. */
const waitMs = 5000;
/** An answer that has not come by then never will: its process died. */
const abandonedS = 60;
const keptHours = 24;
const forgottenAtOnceMax = 500;

const hashOfKey = (key: string): string => createHash('sha256').update(key).digest('base64url');

export interface StoredAnswer {
  readonly status: number;
  readonly body: unknown;
}

interface RecordRow {
  readonly request_hash: Buffer;
  readonly status: number | null;
  readonly response: Buffer | null;
}

/** A POST with an idempotency key takes effect once; repeated, it gives the first answer again. */
@Injectable()
export class IdempotencyService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly operations: OperationsService,
  ) {}

  /** @throws IDEMPOTENCY_CONFLICT, IDEMPOTENCY_IN_PROGRESS */
  async once(
    name: OperationName,
    call: ApiCall<Route>,
    run: () => Promise<unknown>,
  ): Promise<StoredAnswer> {
    const key = call.idempotencyKey ?? '';
    const id = [call.caller.accountId, hashOfKey(key), name] as const;
    const hash = createHash('sha256')
      .update(JSON.stringify([name, call.params, call.query, call.body]))
      .digest();
    const earlier = await this.claimOrAnswer(id, hash, key);
    if (earlier) return earlier;
    try {
      const body = (await this.operations.byIdempotencyKey(call)) ?? (await run());
      const { status } = api[name];
      await this.dataSource.query(
        `UPDATE idempotency_records SET status = $4, response = $5
         WHERE account_id = $1 AND key = $2 AND route = $3`,
        [...id, status, seal(JSON.stringify(body), key)],
      );
      return { status, body };
    } catch (error) {
      // A refusal had no effect: the same key may try again.
      if (CodedError.is(error) && error.status < 500) await this.forget(id);
      throw error;
    }
  }

  async forgetOld(): Promise<void> {
    const deleteSome = () =>
      this.dataSource.query<[unknown[], number]>(
        `DELETE FROM idempotency_records WHERE (account_id, key, route) IN (
           SELECT account_id, key, route FROM idempotency_records
           WHERE created_at < now() - make_interval(hours => $1) ORDER BY created_at LIMIT $2)`,
        [keptHours, forgottenAtOnceMax],
      );
    for (;;) {
      const [, deleted] = await deleteSome();
      if (deleted < forgottenAtOnceMax) return;
    }
  }

  /**
   * Of all requests with one key one goes on; the others wait for its answer.
   * @returns undefined for the one that goes on
   */
  private async claimOrAnswer(
    id: readonly unknown[],
    hash: Buffer,
    key: string,
  ): Promise<StoredAnswer | undefined> {
    const look = async (): Promise<{ answer?: StoredAnswer } | undefined> => {
      if (await this.claim(id, hash)) return {};
      const [row] = await this.dataSource.query<RecordRow[]>(
        `SELECT request_hash, status, response FROM idempotency_records
         WHERE account_id = $1 AND key = $2 AND route = $3`,
        [...id],
      );
      // No row: the first request was refused meanwhile, and the next look claims it.
      if (!row) return undefined;
      if (!row.request_hash.equals(hash)) throw HubErrors.IDEMPOTENCY_CONFLICT();
      if (row.status === null || row.response === null) return undefined;
      const body = JSON.parse(unseal(row.response, key)) as unknown;
      return { answer: { status: row.status, body } };
    };
    const found = await waitFor('the first answer is there', look, { timeoutMs: waitMs }).catch(
      (error: unknown) => {
        throw CodedError.is(error, 'TIMEOUT') ? HubErrors.IDEMPOTENCY_IN_PROGRESS() : error;
      },
    );
    return found.answer;
  }

  /**
   * Takes a key that nobody uses, or whose request was abandoned: from that moment on it is this
   * one's, so that of two that find it abandoned only one takes it over.
   */
  private async claim(id: readonly unknown[], hash: Buffer): Promise<boolean> {
    const rows = await this.dataSource.query<unknown[]>(
      `INSERT INTO idempotency_records AS r (account_id, key, route, request_hash)
       VALUES ($1, $2, $3, $4)
       ON CONFLICT (account_id, key, route) DO UPDATE SET created_at = now()
         WHERE r.status IS NULL AND r.request_hash = excluded.request_hash
           AND r.created_at < now() - make_interval(secs => $5)
       RETURNING r.key`,
      [...id, hash, abandonedS],
    );
    return rows.length > 0;
  }

  private async forget(id: readonly unknown[]): Promise<void> {
    await this.dataSource.query(
      'DELETE FROM idempotency_records WHERE account_id = $1 AND key = $2 AND route = $3',
      [...id],
    );
  }
}
