import type { MigrationInterface, QueryRunner } from 'typeorm';

/** A project's host lets people in by itself: when the host changes, both must hear of it. */
export class AccessOfHosts1700000000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(trigger('deleted_at, public_ports, host_id'));
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(trigger('deleted_at, public_ports'));
  }
}

function trigger(columns: string): string {
  const of = (row: string): string => columns.replace(/\w+/g, (column) => `${row}.${column}`);
  return `
DROP TRIGGER access ON projects;
CREATE CONSTRAINT TRIGGER access AFTER UPDATE OF ${columns} ON projects
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
  WHEN ((${of('OLD')}) IS DISTINCT FROM (${of('NEW')}))
  EXECUTE FUNCTION access_of_project();`;
}
