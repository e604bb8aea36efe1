import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What a project may reach outside its host; without a policy of its own, what the host allows. */
export class Egress1700000000010 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE projects ADD COLUMN egress jsonb');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE projects DROP COLUMN egress');
  }
}
