import { Injectable } from '@nestjs/common';
import { newId } from '@rookery/core';
import { MoveDebts, SagaErrors, type MoveDebt } from '@rookery/move';
import { DataSource, type EntityManager } from 'typeorm';

/** Debts to hosts, in Postgres. */
@Injectable()
export class PostgresMoveDebts extends MoveDebts {
  constructor(private readonly dataSource: DataSource) {
    super();
  }

  async owe(debt: MoveDebt): Promise<void> {
    const { operationId, attempt } = debt.fence;
    await this.dataSource.transaction(async (manager) => {
      const held = await manager.query<unknown[]>(
        'SELECT 1 FROM operations WHERE id = $1 AND attempt = $2 FOR UPDATE',
        [operationId, attempt],
      );
      if (held.length === 0) throw SagaErrors.LEASE_LOST({ operationId });
      await insertMoveDebt(manager, debt);
    });
  }
}

/** Nothing is owed to a host that was removed. @returns whether it is owed */
export async function insertMoveDebt(manager: EntityManager, debt: MoveDebt): Promise<boolean> {
  const rows = await manager.query<unknown[]>(
    `WITH host AS (SELECT id FROM project_hosts WHERE id = $2 AND status = 'active'),
     added AS (
       INSERT INTO host_debts (id, host_id, kind, move_id, debt)
       SELECT $1, id, $3, $4, $5 FROM host
       ON CONFLICT (move_id, kind) DO UPDATE SET debt = excluded.debt, next_at = now())
     SELECT 1 FROM host`,
    [newId(), debt.hostId, debt.kind, debt.moveId, JSON.stringify(debt)],
  );
  return rows.length > 0;
}
