import {
  Inject,
  Injectable,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleDestroy,
} from '@nestjs/common';
import type { BackupService } from '@rookery/backup';
import { Clock, type Logger } from '@rookery/core';
import { moveClaims, MoveJournal, MoveSourceService } from '@rookery/move';
import { ContainerReconciler, ImageStore } from '@rookery/runner';
import { StorageDriver } from '@rookery/storage';
import { EndedWork } from '../projects/ended-work.js';
import { ProjectRepository } from '../projects/project.repository.js';
import { HostDatabase } from '../database/host-database.js';
import { HubLink } from '../hub/hub-link.js';
import { Reconciler } from '../reconcile/reconciler.js';
import { Services } from './serving.js';
import { BACKUPS, LOGGER } from './tokens.js';

const containersEveryMs = 10_000;
const storageEveryMs = 60_000;
/** What projects can write in the meantime beyond what was free, the reserve has to hold. */
const reserveEveryMs = 5_000;
const imagesEveryMs = 60_000;
const jobsEveryMs = 30_000;
const repositoryEveryMs = 5 * 60_000;
const movesEveryMs = 30_000;
const endedEveryMs = 60_000;

/** Starts what runs by itself once everything is wired, and stops it in order. */
@Injectable()
export class AgentLifecycle
  implements OnApplicationBootstrap, OnModuleDestroy, OnApplicationShutdown
{
  private readonly reconcilers: readonly Reconciler[];

  constructor(
    @Inject(HubLink) private readonly hub: HubLink,
    @Inject(Services) private readonly services: Services,
    @Inject(BACKUPS) private readonly backups: BackupService | undefined,
    @Inject(MoveSourceService) source: MoveSourceService,
    @Inject(ContainerReconciler) containers: ContainerReconciler,
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(StorageDriver) private readonly storage: StorageDriver,
    @Inject(MoveJournal) private readonly moves: MoveJournal,
    @Inject(ProjectRepository) private readonly books: ProjectRepository,
    @Inject(EndedWork) ended: EndedWork,
    @Inject(HostDatabase) private readonly database: HostDatabase,
    @Inject(Clock) clock: Clock,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {
    const shared = { clock, logger };
    const storageReconciler = () => this.reconcileStorage();
    this.reconcilers = [
      new Reconciler({
        ...shared,
        name: 'containers',
        everyMs: containersEveryMs,
        reconcile: async () => void (await containers.run()),
      }),
      new Reconciler({
        ...shared,
        name: 'storage',
        everyMs: storageEveryMs,
        reconcile: storageReconciler,
      }),
      new Reconciler({
        ...shared,
        name: 'disk reserve',
        everyMs: reserveEveryMs,
        reconcile: () => this.storage.keepReserve(),
      }),
      new Reconciler({
        ...shared,
        name: 'images',
        everyMs: imagesEveryMs,
        reconcile: () => this.collectImages(),
      }),
      new Reconciler({
        ...shared,
        name: 'jobs',
        everyMs: jobsEveryMs,
        reconcile: async () => this.backups?.recover(),
      }),
      new Reconciler({
        ...shared,
        name: 'repository',
        everyMs: repositoryEveryMs,
        // Only looks: what it finds goes to the hub with the next heartbeat.
        reconcile: async () => void (await this.backups?.repository()),
      }),
      new Reconciler({
        ...shared,
        name: 'moves',
        everyMs: movesEveryMs,
        reconcile: (signal) => source.converge(signal),
      }),
      new Reconciler({
        ...shared,
        name: 'ended work',
        everyMs: endedEveryMs,
        reconcile: (signal) => ended.run(signal),
      }),
    ];
  }

  async onApplicationBootstrap(): Promise<void> {
    // Before anyone can ask for new work: what was under way when we died is settled.
    await this.backups?.recover().catch((error: unknown) => {
      this.logger.error({ err: error }, 'work of the last run could not be settled');
    });
    for (const reconciler of this.reconcilers) reconciler.start();
    this.books.onChange(() => this.hub.reportSoon());
    this.hub.start();
  }

  /** Takes no more calls and ends work; moves end by their own module. */
  async onModuleDestroy(): Promise<void> {
    await this.services.close();
    await this.hub.stop();
    await Promise.all(this.reconcilers.map((reconciler) => reconciler.stop()));
    await this.backups?.close();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.storage.close();
    await this.database.close();
  }

  private async reconcileStorage(): Promise<void> {
    // Claims first, volumes second: what appears in between is young and left alone.
    const rows = await this.books.list();
    const moves = await moveClaims(this.moves);
    const backups = await this.backups?.claims();
    const repairs = await this.storage.reconcile({
      projects: rows
        // What a restore fills has room to spare until it is complete.
        .filter(({ restoringBy }) => restoringBy === null)
        .map(({ projectId, spec }) => ({ projectId, quotaBytes: spec.quota.diskBytes })),
      moves: moves.moves,
      frozen: [...moves.frozen, ...(backups?.frozen ?? [])],
      stagedPaths: backups?.stagedPaths ?? [],
      retired: [],
    });
    const expected = new Set([
      ...rows.map(({ projectId }) => projectId),
      ...(backups?.volumes ?? []),
    ]);
    for (const { kind, subject } of repairs) {
      if (kind === 'unknown-volume-found' && expected.has(subject)) continue;
      this.logger.info({ kind, subject }, 'the storage was set right');
    }
    await this.books.expire();
  }

  private async collectImages(): Promise<void> {
    const { images } = await moveClaims(this.moves);
    const rows = await this.books.list();
    const pinned = rows.flatMap(({ imageDigest, spec }) => [imageDigest, spec.imageDigest]);
    const inUse = [...images, ...pinned].filter((digest) => typeof digest === 'string');
    await this.images.collect(new Set(inUse));
  }
}
