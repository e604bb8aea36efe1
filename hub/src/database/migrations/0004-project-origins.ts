import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Browsers at projects' own origins. Both belong to a session of the hub's and go with it; the
 * session's own trigger tells of its end.
 */
export class ProjectOrigins1700000000004 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
CREATE TABLE origin_codes (
  code_hash bytea PRIMARY KEY,
  state_hash bytea NOT NULL,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
  project_id uuid NOT NULL,
  port integer NOT NULL,
  next text NOT NULL,
  expires_at timestamptz NOT NULL
);
CREATE INDEX origin_codes_session ON origin_codes (session_id);
CREATE TABLE origin_sessions (
  token_hash bytea PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE,
  project_id uuid NOT NULL,
  port integer NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX origin_sessions_session ON origin_sessions (session_id, created_at)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE origin_sessions, origin_codes');
  }
}
