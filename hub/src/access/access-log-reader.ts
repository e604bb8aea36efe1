import { Injectable, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import { backoffMs, SystemClock, type Logger } from '@rookery/core';
import pg from 'pg';
import { DataSource } from 'typeorm';
import { AccessChanges, type AccessChange } from './access-changes.js';

/** Asked without being told to, too: a notification is only a hint, and connections die silently. */
const lookEveryMs = 1000;
const answerWithinMs = 1500;
const retry = { firstMs: 50, maxMs: 1000 };
const rowsMax = 500;
const keptHours = 24;
const forgottenAtOnceMax = 1000;

interface LogRow {
  readonly head: string;
  readonly revision: string | null;
  readonly kind: AccessChange['kind'];
  readonly project_id: string | null;
  readonly account_id: string | null;
  readonly credential_id: string | null;
  readonly host_id: string | null;
}

export interface AccessLogReaderOptions {
  /** Out of touch with Postgres for so long, what is remembered counts for nothing. */
  readonly staleMs: number;
  readonly log: Logger;
}

/**
 * Brings the changes that any hub process committed, from the log that the tables' triggers write.
 *
 * The log is a versioned set: this process knows the last revision it has told, and reads on from
 * there whenever it is notified (LISTEN), every second, and first thing on a new connection. What
 * the log has dropped meanwhile, or a database that was put back to an earlier state, ends in
 * `all`. The connection is its own: a busy pool would delay it.
 */
@Injectable()
export class AccessLogReader implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly clock = new SystemClock();
  private readonly stopping = new AbortController();
  private client: pg.Client | undefined;
  private told = 0;
  private inTouchAt = 0;
  private stale = false;
  private nudge: () => void = () => undefined;
  private nudged = false;
  private running: Promise<void> = Promise.resolve();

  constructor(
    private readonly dataSource: DataSource,
    private readonly changes: AccessChanges,
    private readonly options: AccessLogReaderOptions,
  ) {}

  /** Nobody is connected yet: what was before now needs no telling. */
  async onApplicationBootstrap(): Promise<void> {
    await this.connect();
    const [row] = await this.rows(Number.MAX_SAFE_INTEGER);
    this.told = Number(row?.head ?? 0);
    this.touch();
    this.running = this.run();
  }

  async onModuleDestroy(): Promise<void> {
    this.stopping.abort();
    this.nudge();
    await this.running;
    await this.hangUp();
  }

  /** Drops what nobody needs any more. */
  async forgetOld(): Promise<void> {
    const deleteSome = () =>
      this.dataSource.query<[unknown[], number]>(
        `DELETE FROM access_changes WHERE revision IN (
           SELECT revision FROM access_changes WHERE at < now() - make_interval(hours => $1)
           ORDER BY at LIMIT $2)`,
        [keptHours, forgottenAtOnceMax],
      );
    for (;;) {
      const [, deleted] = await deleteSome();
      if (deleted < forgottenAtOnceMax) return;
    }
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    for (let failures = 0; !signal.aborted;) {
      try {
        if (!this.client) await this.connect();
        await this.catchUp();
        this.touch();
        failures = 0;
        await this.pause();
      } catch (error) {
        if (signal.aborted) return;
        if (failures === 0) this.options.log.warn({ err: error }, 'lost touch with access changes');
        await this.hangUp();
        this.expire();
        await this.clock.delay(backoffMs(failures, retry), signal).catch(() => undefined);
        failures += 1;
      }
    }
  }

  private async connect(): Promise<void> {
    const { url } = this.dataSource.options as { url: string };
    const client = new pg.Client({
      connectionString: url,
      application_name: 'rookery-access',
      keepAlive: true,
      connectionTimeoutMillis: answerWithinMs,
      query_timeout: answerWithinMs,
    });
    // Its end shows at the next look, which this hastens.
    client.on('error', () => this.wake());
    client.on('end', () => this.wake());
    client.on('notification', () => this.wake());
    try {
      await client.connect();
      await client.query('LISTEN rookery_access');
    } catch (error) {
      void client.end().catch(() => undefined);
      throw error;
    }
    this.client = client;
  }

  private async hangUp(): Promise<void> {
    const { client } = this;
    this.client = undefined;
    if (!client) return;
    // A connection that is dead in silence never says goodbye.
    const { signal } = this.stopping;
    const goodbye = client.end().catch(() => undefined);
    if (signal.aborted) await Promise.race([goodbye, this.clock.delay(answerWithinMs)]);
  }

  private async catchUp(): Promise<void> {
    for (;;) {
      const rows = await this.rows(this.told);
      const head = Number(rows[0]?.head ?? 0);
      const fresh = rows.filter((row) => row.revision !== null);
      const whole = fresh.length > 0 && Number(fresh[0]?.revision) === this.told + 1;
      if (head === this.told) return;
      if (head < this.told || !whole) {
        this.options.log.warn({ from: this.told, to: head }, 'access changes were missed');
        this.told = head;
        this.changes.publish({ kind: 'all' });
        return;
      }
      for (const row of fresh) {
        this.changes.publish(changeOf(row));
        this.told = Number(row.revision);
      }
    }
  }

  private async rows(after: number): Promise<LogRow[]> {
    if (!this.client) throw new Error('not connected');
    const { rows } = await this.client.query<LogRow>(
      `SELECT r.revision AS head, c.* FROM access_revision r LEFT JOIN LATERAL (
         SELECT revision, kind, project_id, account_id, credential_id, host_id
         FROM access_changes WHERE revision > $1 ORDER BY revision LIMIT $2) c ON true
       ORDER BY c.revision`,
      [after, rowsMax],
    );
    return rows;
  }

  private touch(): void {
    this.inTouchAt = this.clock.now();
    this.stale = false;
  }

  /** Nothing may be believed for ever: once, until we are in touch again. */
  private expire(): void {
    if (this.stale || this.clock.now() - this.inTouchAt < this.options.staleMs) return;
    this.stale = true;
    this.changes.publish({ kind: 'all' });
  }

  private wake(): void {
    this.nudged = true;
    this.nudge();
  }

  /** Until there is something to look at, or it is time to look anyway. */
  private async pause(): Promise<void> {
    if (!this.nudged && !this.stopping.signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, lookEveryMs);
        this.nudge = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.nudged = false;
  }
}

function changeOf(row: LogRow): AccessChange {
  const { kind, project_id: projectId, account_id: accountId, credential_id: credentialId } = row;
  switch (kind) {
    case 'rights':
      return { kind, projectId: projectId ?? '', ...(accountId !== null && { accountId }) };
    case 'credentials':
      return { kind, accountId: accountId ?? '', ...(credentialId !== null && { credentialId }) };
    case 'host':
      return { kind, hostId: row.host_id ?? '' };
    case 'all':
      return { kind };
  }
}
