import { Injectable, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import type { Logger } from '@rookery/core';
import { AccessLogReader } from './access/access-log-reader.js';
import { SessionsService } from './accounts/sessions.service.js';
import { IdempotencyService } from './api/idempotency.service.js';
import { AuditService } from './audit/audit.service.js';
import { Retention } from './retention.service.js';

const sealEveryMs = 5000;
/** What an expired API key or session has open ends within about this. */
const sweepEveryMs = 2000;
const forgetEveryMs = 3_600_000;

/** What a worker does now and then. */
@Injectable()
export class Maintenance implements OnApplicationBootstrap, OnModuleDestroy {
  private readonly timers: NodeJS.Timeout[] = [];
  private under: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly audit: AuditService,
    private readonly idempotency: IdempotencyService,
    private readonly access: AccessLogReader,
    private readonly sessions: SessionsService,
    private readonly retention: Retention,
    private readonly enabled: boolean,
    private readonly log: Logger,
  ) {}

  onApplicationBootstrap(): void {
    if (!this.enabled) return;
    this.every(sweepEveryMs, () => this.sessions.sweep());
    this.every(sealEveryMs, () => this.audit.seal());
    this.every(forgetEveryMs, () => this.idempotency.forgetOld());
    this.every(forgetEveryMs, () => this.access.forgetOld());
    this.every(forgetEveryMs, () => this.retention.run());
  }

  async onModuleDestroy(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    await this.under;
  }

  private every(ms: number, task: () => Promise<unknown>): void {
    const run = (): void => {
      this.under = this.under
        .then(task)
        .catch((error: unknown) => this.log.warn({ err: error }, 'maintenance failed'));
    };
    this.timers.push(setInterval(run, ms));
  }
}
