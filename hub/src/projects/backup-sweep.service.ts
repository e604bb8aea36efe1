import { Injectable, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import type { Logger } from '@rookery/core';
import { DataSource } from 'typeorm';
import { BackupIndex } from './backup-index.service.js';

const sweepLock = 728_412;

/**
 * Corrects the index of backups without being asked: now and then one project, taken by chance, so
 * that nothing must be remembered and every one has its turn. One worker at a time.
 */
@Injectable()
export class BackupSweep implements OnApplicationBootstrap, OnModuleDestroy {
  private timer: NodeJS.Timeout | undefined;
  private under: Promise<unknown> = Promise.resolve();
  private readonly closing = new AbortController();

  constructor(
    private readonly dataSource: DataSource,
    private readonly index: BackupIndex,
    private readonly options: {
      readonly enabled: boolean;
      readonly everyMs: number;
      readonly log: Logger;
    },
  ) {}

  onApplicationBootstrap(): void {
    if (this.options.enabled) this.schedule();
  }

  async onModuleDestroy(): Promise<void> {
    this.closing.abort();
    clearTimeout(this.timer);
    await this.under;
  }

  private schedule(): void {
    if (this.closing.signal.aborted) return;
    // Processes that began together do not stay together.
    const delayMs = this.options.everyMs * (0.5 + Math.random());
    this.timer = setTimeout(() => {
      this.under = this.one()
        .catch((error: unknown) => this.options.log.warn({ err: error }, 'reindexing failed'))
        .finally(() => this.schedule());
    }, delayMs);
  }

  private async one(): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      const [{ locked }] = await manager.query<[{ locked: boolean }]>(
        'SELECT pg_try_advisory_xact_lock($1) AS locked',
        [sweepLock],
      );
      if (!locked) return;
      const [project] = await manager.query<{ id: string }[]>(
        `SELECT id FROM projects WHERE deleted_at IS NULL AND last_backup_at IS NOT NULL
         ORDER BY random() LIMIT 1`,
      );
      if (project) await this.index.refresh(project.id, this.closing.signal);
    });
  }
}
