import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The newest claim of each operation: hosts are told it when they may forget what they had of it. */
export class ClaimsKept1700000000020 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE operations ADD COLUMN claim bigint;
      CREATE INDEX projects_deleted ON projects (deleted_at) WHERE deleted_at IS NOT NULL;
      CREATE INDEX project_moves_project ON project_moves (project_id);
      CREATE INDEX join_tokens_expiry ON join_tokens (expires_at);
      CREATE INDEX api_keys_expired ON api_keys (expires_at) WHERE expiry_told_at IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP INDEX projects_deleted, project_moves_project, join_tokens_expiry, api_keys_expired;
      ALTER TABLE operations DROP COLUMN claim`);
  }
}
