import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Database as SqliteDatabase } from 'better-sqlite3';
import { DataSource, DefaultNamingStrategy } from 'typeorm';
import { AccessGrantRow, AccessStateRow } from './entities/access.entity.js';
import { HostRow, KeyRow } from './entities/host.entity.js';
import { MovedProjectRow, ProjectRow } from './entities/project.entity.js';
import { IncomingMoveRow, JobRow, OutgoingMoveRow } from './entities/work.entity.js';
import { Tables1700000000001 } from './migrations/0001-tables.js';
import { Access1700000000002 } from './migrations/0002-access.js';

/** Properties are camelCase, columns snake_case. */
class SnakeNaming extends DefaultNamingStrategy {
  override columnName(property: string, custom: string | undefined): string {
    return custom ?? property.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  }
}

/**
 * Opens the host's database and brings its tables up to date. Every commit is on disk when it
 * returns: fences and generations must survive a power cut.
 */
export async function openDatabase(path: string): Promise<DataSource> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const database = await new DataSource({
    type: 'better-sqlite3',
    database: path,
    namingStrategy: new SnakeNaming(),
    synchronize: false,
    migrationsRun: false,
    entities: [
      ...[HostRow, KeyRow, ProjectRow, MovedProjectRow],
      ...[AccessGrantRow, AccessStateRow],
      ...[JobRow, OutgoingMoveRow, IncomingMoveRow],
    ],
    migrations: [Tables1700000000001, Access1700000000002],
    prepareDatabase: (connection: SqliteDatabase) => {
      connection.pragma('journal_mode = WAL');
      connection.pragma('synchronous = FULL');
      connection.pragma('busy_timeout = 5000');
    },
  }).initialize();
  try {
    await database.runMigrations({ transaction: 'each' });
  } catch (error) {
    await database.destroy();
    throw error;
  }
  return database;
}
