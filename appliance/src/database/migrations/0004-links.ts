import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The ingress dials a project through its own link; a host that is updated learns it at its start. */
export class Links1700000000004 implements MigrationInterface {
  readonly name = 'Links1700000000004';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE "projects" ADD COLUMN "link_index" integer`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE "projects" DROP COLUMN "link_index"`);
  }
}
