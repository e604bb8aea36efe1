import type { MigrationInterface, QueryRunner } from 'typeorm';

export class KeptCopies1700000000011 implements MigrationInterface {
  readonly name = 'KeptCopies1700000000011';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`CREATE TABLE "kept_copies" (
      "id" text PRIMARY KEY,
      "kept_at" integer NOT NULL
    ) STRICT`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE "kept_copies"');
  }
}
