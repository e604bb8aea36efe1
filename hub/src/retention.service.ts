import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';

/** In one transaction so many rows at most: nobody waits long behind it. */
const rowsMax = 1000;
/** Each takes the rights of its collaborators with it, which hosts are told. */
const projectsMax = 100;

export interface RetentionOptions {
  /** Operations that have ended, with their moves; what was deleted or expired as long ago. */
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
    const { operationsDays, placementsDays } = this.options;
    await this.forget(oldOperations, operationsDays);
    await this.forget(oldPlacements, placementsDays);
    await this.forget(deletedProjects, operationsDays, projectsMax);
    await this.forget(expiredKeys, operationsDays);
    await this.forget(expiredJoinTokens, 1);
  }

  /** @param sql with `$1` days and `$2` rows at most; tells how many they were */
  private async forget(sql: string, days: number, limit = rowsMax): Promise<void> {
    for (;;) {
      const [row] = await this.dataSource.query<{ count: number }[]>(sql, [days, limit]);
      if ((row?.count ?? 0) < limit) return;
    }
  }
}

/** Children before their parents; what is stuck has not ended. */
const oldOperations = `
  WITH old AS (
    SELECT o.id FROM operations o
    WHERE o.ended_at < now() - make_interval(days => $1)
      AND NOT EXISTS (SELECT 1 FROM operations c WHERE c.parent_id = o.id)
    ORDER BY o.ended_at LIMIT $2 FOR UPDATE SKIP LOCKED),
  moves AS (DELETE FROM project_moves m USING old WHERE m.operation_id = old.id),
  gone AS (DELETE FROM operations o USING old WHERE o.id = old.id RETURNING 1)
  SELECT count(*)::int AS count FROM gone`;

const oldPlacements = `
  WITH old AS (
    SELECT id FROM placement_decisions WHERE created_at < now() - make_interval(days => $1)
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED),
  gone AS (DELETE FROM placement_decisions d USING old WHERE d.id = old.id RETURNING 1)
  SELECT count(*)::int AS count FROM gone`;

/** Of which neither an operation nor a backup is left that somebody could look up. */
const deletedProjects = `
  WITH old AS (
    SELECT p.id FROM projects p
    WHERE p.deleted_at < now() - make_interval(days => $1)
      AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.project_id = p.id)
      AND NOT EXISTS (SELECT 1 FROM project_moves m WHERE m.project_id = p.id)
      AND NOT EXISTS (SELECT 1 FROM backups b WHERE b.project_id = p.id)
    ORDER BY p.deleted_at LIMIT $2 FOR UPDATE SKIP LOCKED),
  gone AS (DELETE FROM projects p USING old WHERE p.id = old.id RETURNING 1)
  SELECT count(*)::int AS count FROM gone`;

/** Their ends were told; what they made ended with them. */
const expiredKeys = `
  WITH old AS (
    SELECT id FROM api_keys
    WHERE expires_at < now() - make_interval(days => $1) AND expiry_told_at IS NOT NULL
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED),
  gone AS (DELETE FROM api_keys k USING old WHERE k.id = old.id RETURNING 1)
  SELECT count(*)::int AS count FROM gone`;

/** Used or not: nobody can join by it any more. */
const expiredJoinTokens = `
  WITH old AS (
    SELECT token_hash FROM join_tokens WHERE expires_at < now() - make_interval(days => $1)
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED),
  gone AS (DELETE FROM join_tokens t USING old WHERE t.token_hash = old.token_hash RETURNING 1)
  SELECT count(*)::int AS count FROM gone`;
