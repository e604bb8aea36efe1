import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What ended long ago is found without reading the rest. */
export class Retention1700000000018 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX operations_ended ON operations (ended_at) WHERE ended_at IS NOT NULL;
      CREATE INDEX placement_decisions_age ON placement_decisions (created_at)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX operations_ended, placement_decisions_age');
  }
}
