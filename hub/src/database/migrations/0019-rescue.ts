import type { MigrationInterface, QueryRunner } from 'typeorm';

/** In which mode a project was started last. */
export class Rescue1700000000019 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE projects ADD COLUMN rescue boolean NOT NULL DEFAULT false');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE projects DROP COLUMN rescue');
  }
}
