import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Lists of operations by project, account and state, and of the audit; decisions that stay short. */
export class ListsByIndex1700000000009 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX operations_project ON operations (project_id, created_at);
      CREATE INDEX operations_creator ON operations (created_by, created_at);
      CREATE INDEX operations_state ON operations (state, created_at);
      CREATE INDEX audit_log_age ON audit_log (at, id);
      ALTER TABLE placement_decisions
        ADD COLUMN others jsonb NOT NULL DEFAULT '{"count": 0, "reasons": {}}'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP INDEX operations_project, operations_creator, operations_state, audit_log_age;
      ALTER TABLE placement_decisions DROP COLUMN others`);
  }
}
