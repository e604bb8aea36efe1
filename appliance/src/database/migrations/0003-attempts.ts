import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Attempts of many operations, where a project's row had those of the newest alone. */
export class Attempts1700000000003 implements MigrationInterface {
  readonly name = 'Attempts1700000000003';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`CREATE TABLE "attempts" (
      "project_id" text PRIMARY KEY,
      "operations" text NOT NULL,
      "exclusive_claim" integer NOT NULL,
      "forgotten_claim" integer NOT NULL,
      "heard_at" integer NOT NULL
    ) STRICT`);
    await runner.query(`INSERT INTO "attempts"
      SELECT "id", json_array(json_object(
        'operationId', "operation_id", 'attempt', "attempt", 'claim', 0)), 0, 0, "updated_at"
      FROM "projects" WHERE "operation_id" IS NOT NULL`);
    for (const column of ['operation_id', 'attempt']) {
      await runner.query(`ALTER TABLE "projects" DROP COLUMN "${column}"`);
    }
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE "projects" ADD COLUMN "operation_id" text');
    await runner.query('ALTER TABLE "projects" ADD COLUMN "attempt" integer NOT NULL DEFAULT 0');
    await runner.query('DROP TABLE "attempts"');
  }
}
