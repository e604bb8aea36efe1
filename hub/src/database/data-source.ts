import { DataSource, DefaultNamingStrategy, type DataSourceOptions } from 'typeorm';
import { Account, ApiKey, LoginTicket, Session, SshKey } from './entities/account.entity.js';
import { HostKey, JoinToken, ProjectHost } from './entities/host.entity.js';
import {
  HostDebt,
  IdempotencyRecord,
  Operation,
  ProjectMove,
} from './entities/operation.entity.js';
import { PlacementDecision, PlacementReservation } from './entities/placement.entity.js';
import { Collaborator, Project } from './entities/project.entity.js';
import { AuditRow, Backup, SigningKey, UsageRecord } from './entities/record.entity.js';
import { Tables1700000000001 } from './migrations/0001-tables.js';
import { AccessChanges1700000000002 } from './migrations/0002-access-changes.js';
import { AccessOfHosts1700000000003 } from './migrations/0003-access-of-hosts.js';
import { ProjectOrigins1700000000004 } from './migrations/0004-project-origins.js';
import { SessionsOfKeys1700000000005 } from './migrations/0005-sessions-of-keys.js';
import { Claims1700000000006 } from './migrations/0006-claims.js';
import { Egress1700000000010 } from './migrations/0010-egress.js';
import { BackupSweep1700000000011 } from './migrations/0011-backup-sweep.js';
import { Copies1700000000014 } from './migrations/0014-copies.js';
import { ImageTrees1700000000022 } from './migrations/0022-image-trees.js';
import { ListsByIndex1700000000009 } from './migrations/0009-lists-by-index.js';
import { Rescue1700000000019 } from './migrations/0019-rescue.js';
import { Retention1700000000018 } from './migrations/0018-retention.js';
import { ClaimsKept1700000000020 } from './migrations/0020-claims-kept.js';
import { Promises1700000000021 } from './migrations/0021-promises.js';
import { WaysOut1700000000012 } from './migrations/0012-ways-out.js';

/** Hub processes on one Postgres take turns at migrating. */
const migrationLock = 728_401;
const poolConnectionsMax = 20;

/** Properties are camelCase, columns snake_case. */
class SnakeNaming extends DefaultNamingStrategy {
  override columnName(property: string, custom: string | undefined): string {
    return custom ?? property.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  }
}

export function dataSourceOptions(url: string): DataSourceOptions {
  return {
    type: 'postgres',
    url,
    namingStrategy: new SnakeNaming(),
    synchronize: false,
    logging: false,
    poolSize: poolConnectionsMax,
    entities: [
      Account,
      ApiKey,
      Session,
      LoginTicket,
      SshKey,
      Project,
      Collaborator,
      ProjectHost,
      HostKey,
      JoinToken,
      Operation,
      ProjectMove,
      HostDebt,
      IdempotencyRecord,
      PlacementDecision,
      PlacementReservation,
      Backup,
      UsageRecord,
      AuditRow,
      SigningKey,
    ],
    migrations: [
      Tables1700000000001,
      AccessChanges1700000000002,
      AccessOfHosts1700000000003,
      ProjectOrigins1700000000004,
      SessionsOfKeys1700000000005,
      Claims1700000000006,
      Egress1700000000010,
      BackupSweep1700000000011,
      ListsByIndex1700000000009,
      Retention1700000000018,
      ClaimsKept1700000000020,
      Promises1700000000021,
      ImageTrees1700000000022,
      WaysOut1700000000012,
      Copies1700000000014,
      Rescue1700000000019,
    ],
  };
}

/** Connects and migrates, one process at a time. */
export async function openDataSource(dataSource: DataSource): Promise<void> {
  await dataSource.initialize();
  const lock = dataSource.createQueryRunner();
  try {
    await lock.query('SELECT pg_advisory_lock($1)', [migrationLock]);
    await dataSource.runMigrations({ transaction: 'each' });
  } catch (error) {
    await lock.release();
    await dataSource.destroy();
    throw error;
  }
  await lock.query('SELECT pg_advisory_unlock($1)', [migrationLock]);
  await lock.release();
}
