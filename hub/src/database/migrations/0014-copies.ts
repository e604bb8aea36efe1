import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What hosts hold beside their own projects, and since when an owner's reports lack a project. */
export class Copies1700000000014 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE project_hosts ADD COLUMN copies integer NOT NULL DEFAULT 0');
    await runner.query('ALTER TABLE projects ADD COLUMN missing_since timestamptz');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE projects DROP COLUMN missing_since');
    await runner.query('ALTER TABLE project_hosts DROP COLUMN copies');
  }
}
