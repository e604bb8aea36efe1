import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Numbers all claims of operations in their order: hosts tell by it whose call was overtaken. */
export class Claims1700000000006 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('CREATE SEQUENCE operation_claims');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP SEQUENCE operation_claims');
  }
}
