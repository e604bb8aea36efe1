import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * When a worker last began to compare the index of backups with a host's repository, and why a host
 * cannot serve.
 */
export class BackupSweep1700000000011 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE project_hosts ADD COLUMN backups_swept_at timestamptz');
    await runner.query('ALTER TABLE project_hosts ADD COLUMN trouble jsonb');
    // Lists by repository, and what is swept with it.
    await runner.query('CREATE INDEX backups_host ON backups (host_id)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP INDEX backups_host');
    await runner.query('ALTER TABLE project_hosts DROP COLUMN trouble');
    await runner.query('ALTER TABLE project_hosts DROP COLUMN backups_swept_at');
  }
}
