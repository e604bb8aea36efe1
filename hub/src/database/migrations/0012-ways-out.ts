import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What is owed to hosts that are away; who an operation waits for, and what ending it by hand left. */
export class WaysOut1700000000012 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE host_debts (
        id uuid PRIMARY KEY,
        host_id uuid NOT NULL REFERENCES project_hosts ON DELETE CASCADE,
        kind text NOT NULL CHECK (kind IN ('abandon', 'retire', 'resume')),
        move_id uuid NOT NULL,
        debt jsonb NOT NULL,
        tries integer NOT NULL DEFAULT 0,
        next_at timestamptz NOT NULL DEFAULT now(),
        last_error jsonb,
        created_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE UNIQUE INDEX host_debts_once ON host_debts (move_id, kind);
      CREATE INDEX host_debts_host ON host_debts (host_id, next_at);
      ALTER TABLE operations
        ADD COLUMN waits_for jsonb,
        ADD COLUMN waits_since timestamptz,
        ADD COLUMN leaves jsonb`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      DROP TABLE host_debts;
      ALTER TABLE operations DROP COLUMN waits_for, DROP COLUMN waits_since, DROP COLUMN leaves`);
  }
}
