import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CoreErrors } from '@rookery/core';
import type { Database as SqliteDatabase } from 'better-sqlite3';
import { DataSource, DefaultNamingStrategy } from 'typeorm';
import { AccessGrantRow, AccessStateRow } from './entities/access.entity.js';
import { AttemptsRow } from './entities/attempts.entity.js';
import { HostRow, KeyRow } from './entities/host.entity.js';
import { KeptCopyRow, MovedProjectRow, ProjectRow } from './entities/project.entity.js';
import {
  BackupRepositoryRow,
  IncomingMoveRow,
  JobRow,
  OutgoingMoveRow,
} from './entities/work.entity.js';
import { VolumeRow } from './entities/volume.entity.js';
import { HostDatabase } from './host-database.js';
import { Tables1700000000001 } from './migrations/0001-tables.js';
import { Access1700000000002 } from './migrations/0002-access.js';
import { Attempts1700000000003 } from './migrations/0003-attempts.js';
import { Links1700000000004 } from './migrations/0004-links.js';
import { BackupRepository1700000000006 } from './migrations/0006-backup-repository.js';
import { Listeners1700000000007 } from './migrations/0007-listeners.js';
import { Volume1700000000008 } from './migrations/0008-volume.js';
import { ShutOut1700000000009 } from './migrations/0009-shut-out.js';
import { KeptCopies1700000000011 } from './migrations/0011-kept-copies.js';
import { EndedWork1700000000013 } from './migrations/0013-ended-work.js';

/** Another process of this host reads only: what holds the file is a backup or a person's tool. */
const busyTimeoutMs = 5_000;

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
export async function openDatabase(path: string): Promise<HostDatabase> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  let connection: SqliteDatabase | undefined;
  const source = await new DataSource({
    type: 'better-sqlite3',
    database: path,
    namingStrategy: new SnakeNaming(),
    synchronize: false,
    migrationsRun: false,
    entities: [
      HostRow,
      KeyRow,
      ProjectRow,
      MovedProjectRow,
      KeptCopyRow,
      AccessGrantRow,
      AccessStateRow,
      AttemptsRow,
      JobRow,
      OutgoingMoveRow,
      IncomingMoveRow,
      BackupRepositoryRow,
      VolumeRow,
    ],
    migrations: [
      Tables1700000000001,
      Access1700000000002,
      Attempts1700000000003,
      Links1700000000004,
      BackupRepository1700000000006,
      Listeners1700000000007,
      Volume1700000000008,
      ShutOut1700000000009,
      KeptCopies1700000000011,
      EndedWork1700000000013,
    ],
    prepareDatabase: (opened: SqliteDatabase) => {
      opened.pragma('journal_mode = WAL');
      opened.pragma('synchronous = FULL');
      opened.pragma(`busy_timeout = ${busyTimeoutMs}`);
      connection = opened;
    },
  }).initialize();
  try {
    await source.runMigrations({ transaction: 'each' });
    if (!connection) throw CoreErrors.INTERNAL({ reason: 'SQLite gave no connection' });
    return new HostDatabase(source, connection);
  } catch (error) {
    await source.destroy();
    throw error;
  }
}
