import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Access1700000000002 implements MigrationInterface {
  readonly name = 'Access1700000000002';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`CREATE TABLE "access_grants" (
      "account_id" text NOT NULL,
      "project_id" text NOT NULL,
      "role" text NOT NULL CHECK ("role" IN ('owner', 'editor', 'viewer')),
      PRIMARY KEY ("account_id", "project_id")
    ) STRICT`);
    await runner.query(`CREATE TABLE "access_state" (
      "id" integer PRIMARY KEY CHECK ("id" = 1),
      "revision" integer NOT NULL,
      "confirmed_at" integer NOT NULL
    ) STRICT`);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of ['access_state', 'access_grants']) {
      await runner.query(`DROP TABLE "${table}"`);
    }
  }
}
