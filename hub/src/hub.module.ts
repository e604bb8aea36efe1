import { join } from 'node:path';
import { Module, type DynamicModule, type Provider } from '@nestjs/common';
import { APP_FILTER } from '@nestjs/core';
import { Broker, ConatModule, NatsFabric } from '@rookery/conat';
import { createLogger } from '@rookery/core';
import { projectSpaceRoot } from '@rookery/fleet/contract';
import { JetStream, RootAccountDirectory } from '@rookery/jetstream';
import {
  CachingTokenSource,
  HubProxy,
  ProjectOrigins,
  TokenSource,
  TrustedProxies,
} from '@rookery/proxy';
import { DataSource } from 'typeorm';
import { AccessChanges } from './access/access-changes.js';
import { AccessLogReader } from './access/access-log-reader.js';
import { OpenAccess } from './access/open-access.js';
import { AccountsApi } from './accounts/accounts.api.js';
import { AccountsService } from './accounts/accounts.service.js';
import { AuthService } from './accounts/auth.service.js';
import { LoginService } from './accounts/login.service.js';
import { SessionCookie } from './accounts/session-cookie.js';
import { SessionsApi } from './accounts/sessions.api.js';
import { SessionsService } from './accounts/sessions.service.js';
import { ApiBinder } from './api/api.binder.js';
import { ApiDependencies } from './api/api.parts.js';
import { ApiController } from './api/api.controller.js';
import { HealthApi } from './api/health.api.js';
import { IdempotencyService } from './api/idempotency.service.js';
import { ProblemFilter } from './api/problem.js';
import { AuditApi } from './audit/audit.api.js';
import { AuditService } from './audit/audit.service.js';
import { BrokerAccess } from './conat/broker-access.js';
import { HostRelay } from './conat/host-relay.js';
import { HostAccessNotifier } from './conat/host-access-notifier.js';
import { HubAuthenticator } from './conat/hub-authenticator.js';
import { HubConat } from './conat/hub-conat.js';
import { HUB_SECRET } from './conat/hub-secret.js';
import { HubServices } from './conat/hub-services.js';
import { MetricsController } from './conat/metrics.controller.js';
import { ProjectRoutes } from './conat/project-routes.js';
import { SettingsModule, type HubSettings } from './config/settings.module.js';
import { withDatabaseErrors } from './database/database-errors.js';
import { HostCopiesApi } from './hosts/copies.api.js';
import { HostConnections } from './hosts/host-connections.js';
import { HostsApi } from './hosts/hosts.api.js';
import { LostHosts } from './hosts/lost-host.service.js';
import { PlacementService } from './hosts/placement.service.js';
import { IdentityModule } from './identity.module.js';
import { SigningKeys } from './keys/signing-keys.service.js';
import { Maintenance } from './maintenance.service.js';
import { PostgresChildOperations } from './operations/child-operations.service.js';
import { DebtCollector } from './operations/debt-collector.js';
import { PostgresImageTrees } from './hosts/image-trees.service.js';
import { PostgresMoveDebts } from './operations/move-debts.service.js';
import { OperationResolver } from './operations/operation-resolver.js';
import { OperationStore } from './operations/operation.store.js';
import { OperationWatcher } from './operations/operation-watcher.js';
import { OperationWorker } from './operations/operation.worker.js';
import { OperationsApi } from './operations/operations.api.js';
import { OperationsService } from './operations/operations.service.js';
import { PostgresPlacementAuthority } from './operations/postgres-placement-authority.js';
import { Retention } from './retention.service.js';
import { WorkSignal } from './operations/work-signal.js';
import { OpenController } from './pages/open.controller.js';
import { PagesController } from './pages/pages.controller.js';
import { BackupIndex } from './projects/backup-index.service.js';
import { BackupSweep } from './projects/backup-sweep.service.js';
import { BackupsApi } from './projects/backups.api.js';
import { HostBackupsApi } from './projects/host-backups.api.js';
import { BackupAdoption } from './projects/backup-adoption.service.js';
import { CollaboratorsApi } from './projects/collaborators.api.js';
import { ProjectQueries } from './projects/project.queries.js';
import { ProjectRepository } from './projects/project.repository.js';
import { ProjectOperationsApi } from './projects/project-operations.api.js';
import { ProjectOperations } from './projects/project-operations.service.js';
import { ProjectsApi } from './projects/projects.api.js';
import { RestoreOperations } from './projects/restore-operations.service.js';
import { SnapshotsApi } from './projects/snapshots.api.js';
import { HubOriginSessions } from './proxy/hub-origin-sessions.js';
import { HubRequestAuthenticator, HubRouteResolver } from './proxy/hub-routes.js';
import { ProxyAccess } from './proxy/proxy-access.js';

const api = [
  AccountsApi,
  AuditApi,
  BackupsApi,
  CollaboratorsApi,
  HealthApi,
  HostsApi,
  OperationsApi,
  HostBackupsApi,
  BackupAdoption,
  HostCopiesApi,
  ProjectsApi,
  ProjectOperationsApi,
  SessionsApi,
  SnapshotsApi,
  ApiDependencies,
  IdempotencyService,
];
const services = [
  AccountsService,
  LoginService,
  SessionCookie,
  SessionsService,
  AccessChanges,
  OpenAccess,
  PlacementService,
  LostHosts,
  OperationsService,
  OperationStore,
  OperationWatcher,
  OperationResolver,
  WorkSignal,
  PostgresChildOperations,
  PostgresPlacementAuthority,
  PostgresMoveDebts,
  BackupIndex,
  ProjectQueries,
  ProjectRepository,
  ProjectOperations,
  RestoreOperations,
];

/** One hub process; its roles say which parts do something. */
@Module({})
export class HubModule {
  static of(settings: HubSettings): DynamicModule {
    const { config } = settings;
    const hasApi = config.roles.includes('api');
    const broker = config.conatUrl === undefined ? [brokerModule(settings)] : [];
    return {
      module: HubModule,
      imports: [SettingsModule.of(settings), IdentityModule, ...broker],
      controllers: [
        ...(hasApi ? [ApiController, PagesController, OpenController] : []),
        ...(broker.length > 0 ? [MetricsController] : []),
      ],
      providers: [
        ...services,
        ...api,
        ...composed(settings),
        ...(hasApi ? [HubServices, ProjectRoutes] : []),
        HostRelay,
        ...(config.conatUrl === undefined ? [BrokerAccess, HostAccessNotifier] : []),
      ],
    };
  }
}

/** The control network's own account. */
const ownPersistence = (folder: string): JetStream =>
  new JetStream({
    accounts: new RootAccountDirectory(folder),
    logger: createLogger('jetstream', 'info'),
  });

const brokerModule = ({ config: { dataDir, conatFabric }, log }: HubSettings): DynamicModule =>
  ConatModule.forRootAsync({
    imports: [IdentityModule],
    inject: [HubAuthenticator],
    useFactory: (authenticator: HubAuthenticator) => ({
      authenticator,
      name: 'rookery-hub',
      spaceRoot: projectSpaceRoot,
      // The control network's own account; with a fabric it is the cluster's.
      ...(conatFabric
        ? { fabric: new NatsFabric(conatFabric, { name: 'rookery-hub', logger: log }) }
        : { persistence: ownPersistence(join(dataDir, 'conat')) }),
    }),
  });

/** What is made of several parts, or needs settings. */
function composed({ config, tuning, log }: HubSettings): Provider[] {
  const works = config.roles.includes('worker');
  return [
    { provide: APP_FILTER, useFactory: () => new ProblemFilter(log) },
    {
      provide: ApiBinder,
      inject: [AuthService, IdempotencyService, OpenAccess, ApiDependencies],
      useFactory: (
        auth: AuthService,
        idempotency: IdempotencyService,
        open: OpenAccess,
        parts: ApiDependencies,
      ) => {
        const { checkResponses } = tuning;
        return new ApiBinder(auth, idempotency, open, { checkResponses }, parts);
      },
    },
    {
      provide: HubConat,
      inject: [HUB_SECRET, ...(config.conatUrl === undefined ? [Broker] : [])],
      useFactory: (hubSecret: string, broker?: Broker) =>
        new HubConat({
          servers: config.conatUrl ?? broker!,
          hubSecret,
          log,
          patienceMs: config.hostOfflineAfterMs,
        }),
    },
    { provide: HostConnections, useExisting: HubConat },
    {
      provide: OperationWorker,
      inject: [
        DataSource,
        OperationStore,
        HostConnections,
        ProjectRepository,
        WorkSignal,
        PostgresPlacementAuthority,
        PostgresChildOperations,
        PostgresMoveDebts,
        PostgresImageTrees,
      ],
      useFactory: (
        ...[dataSource, store, hosts, records, signal, authority, children, debts, images]: [
          DataSource,
          OperationStore,
          HostConnections,
          ProjectRepository,
          WorkSignal,
          PostgresPlacementAuthority,
          PostgresChildOperations,
          PostgresMoveDebts,
          PostgresImageTrees,
        ]
      ) => {
        const { leaseMs, operationsMax } = tuning;
        const options = { enabled: works, leaseMs, operationsMax };
        const ports = {
          hosts,
          records: withDatabaseErrors(records),
          authority: withDatabaseErrors(authority),
          children: withDatabaseErrors(children),
          debts: withDatabaseErrors(debts),
          images: withDatabaseErrors(images),
        };
        return new OperationWorker(dataSource, store, ports, signal, options, log);
      },
    },
    {
      provide: Maintenance,
      inject: [AuditService, IdempotencyService, AccessLogReader, SessionsService, Retention],
      useFactory: (
        audit: AuditService,
        idempotency: IdempotencyService,
        access: AccessLogReader,
        sessions: SessionsService,
        retention: Retention,
      ) => new Maintenance(audit, idempotency, access, sessions, retention, works, log),
    },
    {
      provide: Retention,
      inject: [DataSource],
      useFactory: (dataSource: DataSource) =>
        new Retention(dataSource, {
          operationsDays: config.keepOperationsDays,
          placementsDays: config.keepPlacementsDays,
        }),
    },
    {
      provide: BackupSweep,
      inject: [DataSource, BackupIndex],
      useFactory: (dataSource: DataSource, index: BackupIndex) =>
        new BackupSweep(dataSource, index, {
          enabled: works,
          everyMs: tuning.backupSweepMs,
          log,
          hostOfflineAfterMs: config.hostOfflineAfterMs,
        }),
    },
    {
      provide: DebtCollector,
      inject: [DataSource, HostConnections],
      useFactory: (dataSource: DataSource, hosts: HostConnections) =>
        new DebtCollector(dataSource, hosts, {
          enabled: works,
          everyMs: tuning.debtsMs,
          log,
          hostOfflineAfterMs: config.hostOfflineAfterMs,
        }),
    },
    {
      provide: AccessLogReader,
      inject: [DataSource, AccessChanges],
      useFactory: (dataSource: DataSource, changes: AccessChanges) =>
        new AccessLogReader(dataSource, changes, { staleMs: tuning.accessStaleMs, log }),
    },
    HubRequestAuthenticator,
    HubOriginSessions,
    HubRouteResolver,
    ProxyAccess,
    {
      provide: TokenSource,
      inject: [SigningKeys],
      useFactory: (keys: SigningKeys) => new CachingTokenSource(keys),
    },
    {
      provide: HubProxy,
      inject: [
        HubRequestAuthenticator,
        HubRouteResolver,
        TokenSource,
        TrustedProxies,
        HubOriginSessions,
        { token: ProjectOrigins, optional: true },
      ],
      useFactory: (
        authenticator: HubRequestAuthenticator,
        routes: HubRouteResolver,
        tokens: TokenSource,
        trustedProxies: TrustedProxies,
        sessions: HubOriginSessions,
        names?: ProjectOrigins,
      ) => {
        const { pathOrigin } = config;
        const parts = { authenticator, routes, tokens, trustedProxies, pathOrigin };
        return new HubProxy({ ...parts, ...(names && { origins: { names, sessions } }) });
      },
    },
  ];
}
