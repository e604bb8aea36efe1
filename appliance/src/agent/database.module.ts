import { Module, type Provider } from '@nestjs/common';
import { BackupJournal, BackupProjects } from '@rookery/backup';
import {
  Clock,
  createLogger,
  Exec,
  SystemClock,
  SystemExec,
  tellSupervisor,
  type Logger,
} from '@rookery/core';
import { NetworkAuthenticator } from '@rookery/fleet';
import { JetStream } from '@rookery/jetstream';
import { MoveJournal } from '@rookery/move';
import { StorageDriver } from '@rookery/storage';
import { AccessStore } from '../access/access-store.js';
import { AccessSync } from '../access/access-sync.js';
import { RecordedKeysVerifier, hostAuthenticator } from '../access/host-authenticator.js';
import { HostBroker } from '../access/host-broker.js';
import { ProjectTokens } from '../access/project-tokens.js';
import { SqliteBackupProjects } from '../projects/backup-projects.js';
import { EndedWork } from '../projects/ended-work.js';
import { ProjectAccounts } from '../projects/project-accounts.js';
import { ProjectRepository } from '../projects/project.repository.js';
import { SqliteBackupJournal, SqliteMoveJournal } from '../projects/sqlite-journals.js';
import { CONFIG, configFromEnvironment, type HostConfig } from '../config/config.js';
import { openDatabase } from '../database/database.js';
import { HostDatabase } from '../database/host-database.js';
import { HostRecord } from '../hub/host-record.js';
import { loadIdentity, type HostIdentity } from '../identity/identity.js';
import { openOwnStorage } from '../storage.js';
import { HostWriters } from './host-writers.js';
import { mountRunFolder } from './run-folder.js';
import { IDENTITY, LOGGER } from './tokens.js';

/** The ingress looks at the books by itself; this only makes it look at once. */
const nudgeIngress = (): void => tellSupervisor({ kind: 'books-changed' });

const providers: Provider[] = [
  HostWriters,
  { provide: CONFIG, useFactory: () => configFromEnvironment() },
  { provide: Clock, useClass: SystemClock },
  { provide: Exec, useClass: SystemExec },
  {
    provide: LOGGER,
    inject: [CONFIG],
    useFactory: ({ logLevel }: HostConfig): Logger => createLogger('agent', logLevel),
  },
  {
    provide: HostDatabase,
    inject: [CONFIG],
    useFactory: ({ paths }: HostConfig) => openDatabase(paths.database),
  },
  {
    provide: IDENTITY,
    inject: [CONFIG, HostDatabase],
    useFactory: ({ paths }: HostConfig, database: HostDatabase): Promise<HostIdentity> =>
      loadIdentity(paths.keys, database),
  },
  {
    provide: HostRecord,
    inject: [HostDatabase],
    useFactory: (database: HostDatabase) => new HostRecord(database, nudgeIngress),
  },
  {
    provide: ProjectRepository,
    inject: [HostDatabase, Clock],
    useFactory: (database: HostDatabase, clock: Clock) => {
      const books = new ProjectRepository(database, clock);
      books.onChange(nudgeIngress);
      return books;
    },
  },
  {
    provide: AccessStore,
    inject: [CONFIG, HostDatabase, Clock],
    useFactory: async ({ offlineMs }: HostConfig, database: HostDatabase, clock: Clock) => {
      const access = new AccessStore(database, clock, offlineMs);
      await access.open();
      return access;
    },
  },
  {
    provide: AccessSync,
    inject: [AccessStore, Clock, LOGGER],
    useFactory: (access: AccessStore, clock: Clock, logger: Logger) =>
      new AccessSync(access, clock, logger),
  },
  {
    provide: ProjectTokens,
    inject: [CONFIG, HostRecord, Exec, LOGGER],
    useFactory: async (config: HostConfig, record: HostRecord, exec: Exec, logger: Logger) => {
      const { paths, agentPort } = config;
      await mountRunFolder(exec, paths.run, config.dataDir);
      const tokens = new ProjectTokens({
        folder: paths.projectTokens,
        conatUrl: `ws://host.rookery:${agentPort}/conat`,
        verifier: new RecordedKeysVerifier(record),
        logger,
      });
      await tokens.open();
      return tokens;
    },
  },
  {
    provide: HostBroker,
    inject: [ProjectRepository, AccessStore, AccessSync, ProjectTokens],
    useFactory: async (
      books: ProjectRepository,
      access: AccessStore,
      sync: AccessSync,
      tokens: ProjectTokens,
    ) => {
      const host = new HostBroker({ books, access, sync, tokens });
      await host.open();
      return host;
    },
  },
  {
    provide: NetworkAuthenticator,
    inject: [HostRecord, HostBroker],
    useFactory: (record: HostRecord, host: HostBroker) =>
      hostAuthenticator(new RecordedKeysVerifier(record), host),
  },
  {
    provide: BackupJournal,
    inject: [HostDatabase],
    useFactory: (database: HostDatabase) => new SqliteBackupJournal(database),
  },
  {
    provide: MoveJournal,
    inject: [HostDatabase],
    useFactory: (database: HostDatabase) => new SqliteMoveJournal(database, nudgeIngress),
  },
  {
    provide: EndedWork,
    inject: [CONFIG, HostDatabase, Clock, LOGGER],
    useFactory: (
      { keepJobsMs: keepMs }: HostConfig,
      database: HostDatabase,
      clock: Clock,
      logger: Logger,
    ) => new EndedWork({ database, clock, keepMs, logger }),
  },
  {
    provide: BackupProjects,
    inject: [ProjectRepository, ProjectAccounts],
    useFactory: (books: ProjectRepository, accounts: ProjectAccounts) =>
      new SqliteBackupProjects(books, accounts),
  },
  {
    provide: ProjectAccounts,
    inject: [ProjectRepository, StorageDriver, LOGGER],
    useFactory: (books: ProjectRepository, storage: StorageDriver, logger: Logger) =>
      new ProjectAccounts(books, storage, logger),
  },
  {
    // Started by the broker.
    provide: JetStream,
    inject: [ProjectAccounts],
    useFactory: (accounts: ProjectAccounts) =>
      new JetStream({ accounts, logger: createLogger('jetstream', 'info') }),
  },
  {
    provide: StorageDriver,
    // The keys come first: the ingress, which starts when the storage is open, needs its own.
    inject: [CONFIG, HostDatabase, Clock, IDENTITY],
    useFactory: async (config: HostConfig, database: HostDatabase, clock: Clock) => {
      const storage = await openOwnStorage(config, database, clock);
      tellSupervisor({ kind: 'storage-open' });
      return storage;
    },
  },
];

/** What the host remembers, and where it keeps its projects. */
@Module({ providers, exports: providers })
export class DatabaseModule {}
