import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What an operation promises a project on a host that does not own it yet, or not that much. */
export class Promises1700000000021 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE placement_reservations
        ADD COLUMN project_id uuid,
        ADD COLUMN promised_disk_bytes bigint NOT NULL DEFAULT 0,
        ADD COLUMN promised_memory_bytes bigint NOT NULL DEFAULT 0;
      UPDATE placement_reservations r SET project_id = o.project_id,
        promised_disk_bytes = (p.run_quota->>'diskBytes')::numeric::bigint,
        promised_memory_bytes = (p.run_quota->>'memoryBytes')::numeric::bigint
      FROM operations o JOIN projects p ON p.id = o.project_id WHERE o.id = r.operation_id`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE placement_reservations
        DROP COLUMN project_id, DROP COLUMN promised_disk_bytes, DROP COLUMN promised_memory_bytes`);
  }
}
