import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Volume1700000000008 implements MigrationInterface {
  readonly name = 'Volume1700000000008';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`CREATE TABLE "volume" (
      "id" integer PRIMARY KEY CHECK ("id" = 1),
      "identity" text NOT NULL,
      "noted_at" integer NOT NULL
    ) STRICT`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE "volume"');
  }
}
