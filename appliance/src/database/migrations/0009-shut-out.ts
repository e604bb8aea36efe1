import type { MigrationInterface, QueryRunner } from 'typeorm';

export class ShutOut1700000000009 implements MigrationInterface {
  readonly name = 'ShutOut1700000000009';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE "projects" ADD COLUMN "shut_out_by" text');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE "projects" DROP COLUMN "shut_out_by"');
  }
}
