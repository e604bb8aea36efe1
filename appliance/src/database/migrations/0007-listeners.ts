import type { MigrationInterface, QueryRunner } from 'typeorm';

export class Listeners1700000000007 implements MigrationInterface {
  readonly name = 'Listeners1700000000007';

  async up(runner: QueryRunner): Promise<void> {
    const add = (column: string) => runner.query(`ALTER TABLE "projects" ADD COLUMN ${column}`);
    await add(`"started_at" integer`);
    await add(`"listeners" text NOT NULL DEFAULT '[]'`);
    await add(`"starts_again_by" integer`);
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const column of ['started_at', 'listeners', 'starts_again_by']) {
      await runner.query(`ALTER TABLE "projects" DROP COLUMN "${column}"`);
    }
  }
}
