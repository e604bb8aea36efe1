import { Module, type Provider } from '@nestjs/common';
import {
  BackupJournal,
  BackupProjects,
  BackupService,
  chooseBackupDriver,
  type BackupDriver,
} from '@rookery/backup';
import {
  hostBackups,
  hostAccess,
  hostCopies,
  moveDestination,
  moveSource,
  hostProjects,
  hostSnapshots,
  projectSpaceRoot,
} from '@rookery/fleet/contract';
import { Broker, ConatModule, Persistence } from '@rookery/conat';
import { JetStream } from '@rookery/jetstream';
import { NetworkAuthenticator } from '@rookery/fleet';
import { UpgradeDispatcher, Clock, type Logger } from '@rookery/core';
import { MoveDestinationService, MoveJournal, MoveSourceService } from '@rookery/move';
import { ContainerDriver, createRunnerHandlers, RunnerService } from '@rookery/runner';
import { StorageDriver } from '@rookery/storage';
import { AccessSync } from '../access/access-sync.js';
import { HostBroker } from '../access/host-broker.js';
import { ProjectBrokerListener } from '../access/project-broker-listener.js';
import { ProjectTokens } from '../access/project-tokens.js';
import { HostCopies } from '../projects/host-copies.js';
import { EndedWork } from '../projects/ended-work.js';
import { ProjectAccounts } from '../projects/project-accounts.js';
import { ProjectRepository } from '../projects/project.repository.js';
import { CONFIG, type HostConfig } from '../config/config.js';
import { HostDatabase } from '../database/host-database.js';
import { HostRecord } from '../hub/host-record.js';
import { HostStatus } from '../hub/host-status.js';
import { HubLink } from '../hub/hub-link.js';
import { ImageReports } from '../hub/image-reports.js';
import { Ownership } from '../hub/ownership.js';
import type { HostIdentity } from '../identity/identity.js';
import { AgentLifecycle } from './agent.lifecycle.js';
import { DatabaseModule } from './database.module.js';
import { HealthController } from './health.controller.js';
import { HostWriters } from './host-writers.js';
import { MetricsController } from './metrics.controller.js';
import { moveModule, PortsModule, runnerModule } from './ports.module.js';
import { RunnerControl } from './runner-control.js';
import {
  adoptingOpen,
  cloningClosed,
  closingStores,
  copyHandlers,
  fenced,
  noBackups,
  offer,
  Services,
  shuttingOut,
} from './serving.js';
import { snapshotHandlers } from './snapshot.handlers.js';
import { BACKUP_DRIVER, BACKUPS, IDENTITY, LOGGER } from './tokens.js';

const providers: Provider[] = [
  AgentLifecycle,
  {
    provide: BACKUP_DRIVER,
    inject: [CONFIG],
    useFactory: async ({ backup, paths }: HostConfig): Promise<BackupDriver | undefined> =>
      backup && chooseBackupDriver({ ...backup, workFolder: paths.backupWork }),
  },
  {
    provide: BACKUPS,
    inject: [CONFIG, BACKUP_DRIVER, StorageDriver, BackupJournal, BackupProjects],
    useFactory: (
      { paths, backupMsMax }: HostConfig,
      driver: BackupDriver | undefined,
      storage: StorageDriver,
      journal: BackupJournal,
      projects: BackupProjects,
    ) =>
      driver &&
      new BackupService({
        driver,
        storage,
        journal,
        projects,
        workFolder: paths.backupWork,
        jobMsMax: backupMsMax,
      }),
  },
  {
    provide: Services,
    inject: [
      RunnerService,
      StorageDriver,
      BACKUPS,
      MoveSourceService,
      MoveDestinationService,
      ProjectRepository,
      ProjectAccounts,
      HostWriters,
      AccessSync,
      RunnerControl,
      HostCopies,
    ],
    useFactory: (
      runner: RunnerService,
      storage: StorageDriver,
      backups: BackupService | undefined,
      source: MoveSourceService,
      destination: MoveDestinationService,
      books: ProjectRepository,
      accounts: ProjectAccounts,
      writers: HostWriters,
      access: AccessSync,
      control: RunnerControl,
      copies: HostCopies,
    ) => {
      const gates = { books, writers };
      const orders = createRunnerHandlers(runner);
      const projects = storage.capabilities.snapshots ? orders : cloningClosed(orders, accounts);
      const snapshots = snapshotHandlers(storage, runner);
      const served =
        backups && (storage.capabilities.snapshots ? backups : closingStores(backups, accounts));
      return new Services([
        offer(hostProjects, adoptingOpen(shuttingOut(projects, control), books)),
        offer(
          hostSnapshots,
          fenced(snapshots, ['create', 'setLocked', 'delete', 'restore', 'resetRootfs'], gates),
        ),
        offer(hostBackups, served ? fenced(served, ['run', 'restorePath'], gates) : noBackups),
        offer(moveSource, source),
        offer(moveDestination, destination),
        offer(hostCopies, copyHandlers(copies)),
        offer(hostAccess, {
          changed: async () => {
            await access.pull();
            return {};
          },
        }),
      ]);
    },
  },
  {
    provide: HostStatus,
    inject: [
      StorageDriver,
      ContainerDriver,
      ProjectRepository,
      BACKUP_DRIVER,
      BACKUPS,
      HostCopies,
      Clock,
    ],
    useFactory: (
      storage: StorageDriver,
      containers: ContainerDriver,
      books: ProjectRepository,
      driver: BackupDriver | undefined,
      backups: BackupService | undefined,
      copies: HostCopies,
      clock: Clock,
    ) => {
      const told = driver && tellBackups(driver, backups);
      return new HostStatus(storage, containers, books, told, copies, clock);
    },
  },
  {
    provide: HostCopies,
    inject: [
      ProjectRepository,
      HostDatabase,
      StorageDriver,
      MoveJournal,
      RunnerControl,
      BACKUPS,
      Ownership,
      Clock,
    ],
    useFactory: (
      books: ProjectRepository,
      database: HostDatabase,
      storage: StorageDriver,
      moves: MoveJournal,
      containers: RunnerControl,
      backups: BackupService | undefined,
      ownership: Ownership,
      clock: Clock,
    ) => {
      const restoring = async () => (await backups?.claims())?.volumes ?? [];
      const owned = () => ownership.owned;
      return new HostCopies({
        books,
        database,
        storage,
        moves,
        containers,
        restoring,
        owned,
        clock,
      });
    },
  },
  {
    provide: Ownership,
    inject: [ProjectRepository, MoveJournal, RunnerControl, LOGGER],
    useFactory: (
      books: ProjectRepository,
      moves: MoveJournal,
      control: RunnerControl,
      log: Logger,
    ) => new Ownership(books, moves, control, log),
  },
  {
    provide: ProjectBrokerListener,
    inject: [
      UpgradeDispatcher,
      HostBroker,
      Broker,
      ProjectAccounts,
      // The broker's persistence is that JetStream, once it is started.
      JetStream,
      LOGGER,
      Persistence,
    ],
    useFactory: async (
      dispatcher: UpgradeDispatcher,
      host: HostBroker,
      broker: Broker,
      accounts: ProjectAccounts,
      jetStream: JetStream,
      log: Logger,
    ) => {
      host.attach(broker);
      await accounts.attach(jetStream);
      return new ProjectBrokerListener(dispatcher, log);
    },
  },
  {
    provide: HubLink,
    inject: [
      CONFIG,
      IDENTITY,
      HostRecord,
      HostStatus,
      Ownership,
      Services,
      AccessSync,
      ProjectTokens,
      EndedWork,
      StorageDriver,
      Clock,
      LOGGER,
    ],
    useFactory: (
      config: HostConfig,
      identity: HostIdentity,
      record: HostRecord,
      status: HostStatus,
      ownership: Ownership,
      services: Services,
      access: AccessSync,
      tokens: ProjectTokens,
      ended: EndedWork,
      storage: StorageDriver,
      clock: Clock,
      logger: Logger,
    ) => {
      const { serveAll: serve } = services;
      const images = new ImageReports(storage, logger);
      const hub = { config, identity, record, status, ownership, images };
      return new HubLink({ ...hub, access, tokens, ended, serve, clock, logger });
    },
  },
];

const tellBackups = (driver: BackupDriver, backups: BackupService | undefined) => ({
  drivers: [driver.name],
  repository: () => {
    const last = backups?.lastRepository;
    if (!last) return undefined;
    const { error, ...told } = last;
    return { ...told, ...(error && { error: { code: error.code, message: error.message } }) };
  },
});

/** Composes the host's control from the modules. */
@Module({
  imports: [
    DatabaseModule,
    runnerModule,
    PortsModule,
    moveModule,
    // The projects' own network.
    ConatModule.forRootAsync({
      imports: [DatabaseModule],
      inject: [NetworkAuthenticator, JetStream],
      useFactory: (authenticator: NetworkAuthenticator, persistence: JetStream) => ({
        authenticator,
        name: 'host',
        spaceRoot: projectSpaceRoot,
        persistence,
      }),
    }),
  ],
  controllers: [HealthController, MetricsController],
  providers,
})
export class AgentModule {}
