import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

/** In one transaction so many rows at most: nobody waits long behind it. */
const rowsMax = 1000;

export interface RetentionOptions {
  /** Operations that have ended, with their moves. */
  readonly operationsDays: number;
  /** Why projects were placed where they are. */
  readonly placementsDays: number;
}

/** Forgets what ended long ago. The audit log keeps what was done, and by whom. */
@Injectable()
export class Retention {
  constructor(
    private readonly dataSource: DataSource,
    private readonly options: RetentionOptions,
  ) {}

  async run(): Promise<void> {
    while ((await this.forgetOperations()) === rowsMax);
    while ((await this.forgetPlacements()) === rowsMax);
  }

  /** Children before their parents; what is stuck has not ended. @returns how many */
  private async forgetOperations(): Promise<number> {
    const [row] = await this.dataSource.query<{ count: number }[]>(
      `WITH old AS (
         SELECT o.id FROM operations o
         WHERE o.ended_at < now() - make_interval(days => $1)
           AND NOT EXISTS (SELECT 1 FROM operations c WHERE c.parent_id = o.id)
         ORDER BY o.ended_at LIMIT $2 FOR UPDATE SKIP LOCKED),
       moves AS (DELETE FROM project_moves m USING old WHERE m.operation_id = old.id),
       gone AS (DELETE FROM operations o USING old WHERE o.id = old.id RETURNING 1)
       SELECT count(*)::int AS count FROM gone`,
      [this.options.operationsDays, rowsMax],
    );
    return row?.count ?? 0;
  }

  private async forgetPlacements(): Promise<number> {
    const [row] = await this.dataSource.query<{ count: number }[]>(
      `WITH old AS (
         SELECT id FROM placement_decisions WHERE created_at < now() - make_interval(days => $1)
         ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED),
       gone AS (DELETE FROM placement_decisions d USING old WHERE d.id = old.id RETURNING 1)
       SELECT count(*)::int AS count FROM gone`,
      [this.options.placementsDays, rowsMax],
    );
    return row?.count ?? 0;
  }
}
