import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { api, type OperationName, type Route } from '@rookery/client/contract';
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

const hashOfKey = (key: string): string => createHash('sha256').update(key).digest('base64url');

export interface StoredAnswer {
  readonly status: number;
  readonly body: unknown;
}

interface RecordRow {
  readonly request_hash: Buffer;
  readonly status: number | null;
  readonly response: Buffer | null;
  readonly abandoned: boolean;
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
    if (!(await this.claim(id, hash))) {
      const earlier = await this.earlierAnswer(id, hash, key);
      if (earlier) return earlier;
    }
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
    await this.dataSource.query(
      'DELETE FROM idempotency_records WHERE created_at < now() - make_interval(hours => $1)',
      [keptHours],
    );
  }

  private async claim(id: readonly unknown[], hash: Buffer): Promise<boolean> {
    const rows = await this.dataSource.query<unknown[]>(
      `INSERT INTO idempotency_records (account_id, key, route, request_hash)
       VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING key`,
      [...id, hash],
    );
    return rows.length > 0;
  }

  /** Undefined when the first request's process died and this one takes over. */
  private async earlierAnswer(
    id: readonly unknown[],
    hash: Buffer,
    key: string,
  ): Promise<StoredAnswer | undefined> {
    const look = async (): Promise<RecordRow | undefined> => {
      const [row] = await this.dataSource.query<RecordRow[]>(
        `SELECT request_hash, status, response,
           created_at < now() - make_interval(secs => $4) AS abandoned
         FROM idempotency_records WHERE account_id = $1 AND key = $2 AND route = $3`,
        [...id, abandonedS],
      );
      if (row && !row.request_hash.equals(hash)) throw HubErrors.IDEMPOTENCY_CONFLICT();
      // No row: the first request was refused meanwhile and this one stands for itself.
      return row === undefined || row.status !== null || row.abandoned
        ? (row ?? { request_hash: hash, status: null, response: null, abandoned: true })
        : undefined;
    };
    const row = await waitFor('the first answer is there', look, { timeoutMs: waitMs }).catch(
      (error: unknown) => {
        throw CodedError.is(error, 'TIMEOUT') ? HubErrors.IDEMPOTENCY_IN_PROGRESS() : error;
      },
    );
    if (row.status === null || row.response === null) {
      await this.claim(id, hash);
      return undefined;
    }
    return { status: row.status, body: JSON.parse(unseal(row.response, key)) as unknown };
  }

  private async forget(id: readonly unknown[]): Promise<void> {
    await this.dataSource.query(
      'DELETE FROM idempotency_records WHERE account_id = $1 AND key = $2 AND route = $3',
      [...id],
    );
  }
}
