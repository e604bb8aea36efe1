import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A host that is updated takes the repository that it finds at its first use for its own. */
export class BackupRepository1700000000006 implements MigrationInterface {
  readonly name = 'BackupRepository1700000000006';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`CREATE TABLE "backup_repository" (
      "id" integer PRIMARY KEY CHECK ("id" = 1),
      "repository_id" text NOT NULL
    ) STRICT`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE "backup_repository"`);
  }
}
