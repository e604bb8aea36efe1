import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Since when work is over: what ended long ago is found without reading the rest. */
export class EndedWork1700000000013 implements MigrationInterface {
  readonly name = 'EndedWork1700000000013';

  async up(runner: QueryRunner): Promise<void> {
    for (const { table, ended, since } of tables) {
      await runner.query(`ALTER TABLE "${table}" ADD COLUMN "ended_at" integer`);
      await runner.query(
        `UPDATE "${table}" SET "ended_at" = CAST(${since} AS integer) WHERE "state" IN (${ended})`,
      );
      await runner.query(
        `CREATE INDEX "${table}_ended" ON "${table}" ("ended_at") WHERE "ended_at" IS NOT NULL`,
      );
    }
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const { table } of tables) {
      await runner.query(`DROP INDEX "${table}_ended"`);
      await runner.query(`ALTER TABLE "${table}" DROP COLUMN "ended_at"`);
    }
  }
}

const at = (...names: string[]): string =>
  names.map((name) => `json_extract("document", '$.${name}')`).join(', ');

const tables = [
  {
    table: 'jobs',
    ended: `'succeeded', 'failed'`,
    since: `coalesce(${at('endedAt', 'startedAt')})`,
  },
  { table: 'outgoing_moves', ended: `'undone', 'retired'`, since: at('updatedAt') },
  { table: 'incoming_moves', ended: `'active', 'abandoned'`, since: at('updatedAt') },
];
