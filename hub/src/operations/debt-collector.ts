import { OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import { toCodedError, type Logger } from '@rookery/core';
import { payMoveDebt, type MoveDebt } from '@rookery/move';
import type { DataSource } from 'typeorm';
import type { HostDebt } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import type { HostConnections } from '../hosts/host-connections.js';
import { RecurringTask } from '../recurring-task.js';

export interface DebtCollectorOptions {
  readonly enabled: boolean;
  readonly everyMs: number;
  /** A host that was heard of within this is asked. */
  readonly hostOfflineAfterMs: number;
  readonly log: Logger;
}

const atOnceMax = 16;
/** One that a host refuses is tried again after 1, 2, 4 … s, at most this. */
const retryMaxS = 300;
const payMs = 60_000;

/** Pays hosts that are back what moves owe them. */
export class DebtCollector implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly recurring: RecurringTask;

  constructor(
    private readonly dataSource: DataSource,
    private readonly hosts: HostConnections,
    private readonly options: DebtCollectorOptions,
  ) {
    const { everyMs, log } = options;
    this.recurring = new RecurringTask(() => this.collect(), {
      delayMs: () => everyMs,
      log,
      failed: 'paying hosts failed',
    });
  }

  onApplicationBootstrap(): void {
    if (this.options.enabled) this.recurring.start();
  }

  async onModuleDestroy(): Promise<void> {
    await this.recurring.close();
  }

  private async collect(): Promise<void> {
    const [due] = await this.dataSource.query<[Pick<HostDebt, 'id' | 'debt'>[], number]>(
      `UPDATE host_debts SET tries = tries + 1,
         next_at = now() + make_interval(secs => least($3, 2 ^ least(tries, 20)))
       WHERE id IN (
         SELECT d.id FROM host_debts d JOIN project_hosts h ON h.id = d.host_id
         WHERE d.next_at <= now()
           AND h.last_seen > now() - make_interval(secs => $2::float8 / 1000)
         ORDER BY d.next_at LIMIT $1 FOR UPDATE OF d SKIP LOCKED)
       RETURNING id, debt`,
      [atOnceMax, this.options.hostOfflineAfterMs, retryMaxS],
    );
    await Promise.all(due.map((each) => this.pay(each)));
  }

  private async pay({ id, debt }: Pick<HostDebt, 'id' | 'debt'>): Promise<void> {
    const { hostId, moveId, kind } = debt;
    const patient = { patienceMs: 0 };
    const hosts = {
      source: (host: string) => this.hosts.source(host, patient),
      destination: (host: string) => this.hosts.destination(host, patient),
    };
    const signal = AbortSignal.any([this.recurring.signal, AbortSignal.timeout(payMs)]);
    try {
      await payMoveDebt(hosts, await this.asOfNow(debt), { signal });
      await this.dataSource.query('DELETE FROM host_debts WHERE id = $1', [id]);
      this.options.log.info({ hostId, moveId, kind }, 'a host was told what a move owed it');
    } catch (error) {
      const coded = toCodedError(error).toJSON();
      await this.dataSource.query('UPDATE host_debts SET last_error = $2 WHERE id = $1', [
        id,
        JSON.stringify(coded),
      ]);
    }
  }

  /** A project that went elsewhere meanwhile must not run there again. */
  private async asOfNow(debt: MoveDebt): Promise<MoveDebt> {
    if (debt.kind !== 'resume') return debt;
    const { takeBack, ...rest } = debt;
    const { projectId, generation } = debt.fence;
    const project = await this.dataSource.manager.findOneBy(Project, { id: projectId });
    const isOwner =
      project?.hostId === debt.hostId &&
      project.deletedAt === null &&
      project.placementGeneration === (takeBack?.generation ?? generation);
    return isOwner ? debt : { ...rest, restart: false };
  }
}
