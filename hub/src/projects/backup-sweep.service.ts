import { Injectable, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import type { Logger } from '@rookery/core';
import { DataSource } from 'typeorm';
import { RecurringTask } from '../recurring-task.js';
import { BackupIndex } from './backup-index.service.js';

/** Of Postgres: who claims a host holds it. */
const claimLock = 728_424;

/** A new host, or one that is back, waits this long at most. */
const lookEveryMs = 60_000;

/**
 * Corrects the index of backups without being asked, repository by repository: what was made
 * elsewhere, or before the hub's database was lost, is found as well.
 */
@Injectable()
export class BackupSweep implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly recurring: RecurringTask;

  constructor(
    private readonly dataSource: DataSource,
    private readonly index: BackupIndex,
    private readonly options: {
      readonly enabled: boolean;
      /** A host's repository has its turn about this often. */
      readonly everyMs: number;
      readonly hostOfflineAfterMs: number;
      readonly log: Logger;
    },
  ) {
    const { everyMs, log } = options;
    this.recurring = new RecurringTask(() => this.sweepDue(), {
      // Processes that began together do not stay together.
      delayMs: () => Math.min(lookEveryMs, everyMs) * (0.5 + Math.random()),
      log,
      failed: 'reindexing failed',
    });
  }

  onApplicationBootstrap(): void {
    if (this.options.enabled) this.recurring.start();
  }

  async onModuleDestroy(): Promise<void> {
    await this.recurring.close();
  }

  /** One host after the other, as long as there is one whose turn has come. */
  async sweepDue(): Promise<void> {
    const { signal } = this.recurring;
    for (;;) {
      const hostId = signal.aborted ? undefined : await this.claim();
      if (hostId === undefined) return;
      await this.index.refreshHost(hostId, signal).catch((error: unknown) => {
        if (!signal.aborted) this.options.log.warn({ err: error, hostId }, 'reindexing failed');
      });
    }
  }

  /**
   * The claim is the time of the last sweep; processes claim one after the other. A repository that
   * several hosts share is read by one of them, by chance, so that a host which cannot read it does not
   * keep the others from it.
   */
  private async claim(): Promise<string | undefined> {
    return this.dataSource.transaction(async (manager) => {
      // Two that each held one host of a repository would wait for each other's for ever.
      await manager.query('SELECT pg_advisory_xact_lock($1)', [claimLock]);
      const [rows] = await manager.query<[{ id: string; swept: boolean }[], number]>(
        `WITH next AS (
           SELECT id, capabilities->'backupRepository'->>'id' AS repository FROM project_hosts
           WHERE status = 'active' AND jsonb_array_length(capabilities->'backupDrivers') > 0
             AND last_seen > now() - make_interval(secs => $2::float8 / 1000)
             AND (backups_swept_at IS NULL
               OR backups_swept_at < now() - make_interval(secs => $1::float8 / 1000))
           ORDER BY backups_swept_at NULLS FIRST, random() LIMIT 1
         ), taken AS (
           SELECT h.id FROM project_hosts h, next
           WHERE h.id = next.id OR h.capabilities->'backupRepository'->>'id' = next.repository
           ORDER BY h.id FOR UPDATE OF h
         )
         UPDATE project_hosts h SET backups_swept_at = now() FROM taken, next
         WHERE h.id = taken.id RETURNING h.id, h.id = next.id AS swept`,
        [this.options.everyMs, this.options.hostOfflineAfterMs],
      );
      return rows.find(({ swept }) => swept)?.id;
    });
  }
}
