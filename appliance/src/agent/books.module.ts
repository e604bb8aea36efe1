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
import { MoveJournal } from '@rookery/move';
import { StorageDriver } from '@rookery/storage';
import { DataSource } from 'typeorm';
import { BookedBackupProjects } from '../books/backup-projects.js';
import { ProjectBooks } from '../books/project-books.js';
import { SqliteBackupJournal, SqliteMoveJournal } from '../books/sqlite-journals.js';
import { CONFIG, configFromEnvironment, type HostConfig } from '../config/config.js';
import { openDatabase } from '../database/database.js';
import { HostRecord } from '../hub/host-record.js';
import { loadIdentity, type HostIdentity } from '../identity/identity.js';
import { openStorage } from '../storage.js';
import { HostWriters } from './host-writers.js';
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
    provide: DataSource,
    inject: [CONFIG],
    useFactory: ({ paths }: HostConfig) => openDatabase(paths.database),
  },
  {
    provide: IDENTITY,
    inject: [CONFIG, DataSource],
    useFactory: ({ paths }: HostConfig, database: DataSource): Promise<HostIdentity> =>
      loadIdentity(paths.keys, database),
  },
  {
    provide: HostRecord,
    inject: [DataSource],
    useFactory: (database: DataSource) => new HostRecord(database, nudgeIngress),
  },
  {
    provide: ProjectBooks,
    inject: [DataSource, Clock],
    useFactory: (database: DataSource, clock: Clock) => {
      const books = new ProjectBooks(database, clock);
      books.onChange(nudgeIngress);
      return books;
    },
  },
  {
    provide: BackupJournal,
    inject: [DataSource],
    useFactory: (database: DataSource) => new SqliteBackupJournal(database),
  },
  {
    provide: MoveJournal,
    inject: [DataSource],
    useFactory: (database: DataSource) => new SqliteMoveJournal(database, nudgeIngress),
  },
  {
    provide: BackupProjects,
    inject: [ProjectBooks],
    useFactory: (books: ProjectBooks) => new BookedBackupProjects(books),
  },
  {
    provide: StorageDriver,
    // The keys come first: the ingress, which starts when the storage is open, needs its own.
    inject: [CONFIG, IDENTITY],
    useFactory: async (config: HostConfig) => {
      const storage = await openStorage(config);
      tellSupervisor({ kind: 'storage-open' });
      return storage;
    },
  },
];

/** What the host remembers, and where it keeps its projects. */
@Module({ providers, exports: providers })
export class BooksModule {}
