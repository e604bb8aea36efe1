import { Injectable } from '@nestjs/common';
import { CoreErrors } from '@rookery/core';
import { DataSource } from 'typeorm';
import { pageOfRows, type Page, type PageRequest } from '../api/pages.js';
import { AuditService } from '../audit/audit.service.js';
import { actorOf, type Caller } from './auth.service.js';

/** Swept in one statement; the rest in the next. */
const sweptAtOnceMax = 500;

export interface SessionRow {
  readonly id: string;
  readonly key_id: string;
  readonly key_name: string;
  readonly created_at: Date;
  readonly last_used_at: Date | null;
  readonly expires_at: Date;
  readonly user_agent: string;
  readonly address: string;
}

/** Lists browsers' sessions and ends them. Whatever is open for one ends with it, by its trigger. */
@Injectable()
export class SessionsService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
  ) {}

  /** Newest first. */
  list(accountId: string, page: PageRequest): Promise<Page<SessionRow>> {
    return pageOfRows<SessionRow>(
      this.dataSource.manager,
      {
        select: `SELECT s.id, s.key_id, k.name AS key_name, s.created_at, s.last_used_at,
            s.expires_at, s.user_agent, s.address
          FROM sessions s JOIN api_keys k ON k.id = s.key_id
          WHERE s.account_id = $1 AND s.expires_at > now()`,
        parameters: [accountId],
        by: ['created_at', 'id'],
        newestFirst: true,
      },
      page,
    );
  }

  /** Its unused sign-in links go with it. @throws NOT_FOUND */
  async end(caller: Caller, accountId: string, sessionId: string): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      const [, ended] = await manager.query<[unknown[], number]>(
        'DELETE FROM sessions WHERE id = $1 AND account_id = $2',
        [sessionId, accountId],
      );
      if (ended === 0) throw CoreErrors.NOT_FOUND({ what: 'session', id: sessionId });
      await this.audit.record(manager, {
        actor: actorOf(caller),
        action: 'session.end',
        subject: actorOf({ accountId }),
        details: { sessionId },
      });
    });
  }

  /** All sessions and all unused sign-in links of an account; how many sessions they were. */
  async endAll(caller: Caller, accountId: string): Promise<number> {
    return this.dataSource.transaction(async (manager) => {
      await manager.query('DELETE FROM login_tickets WHERE account_id = $1', [accountId]);
      const [, ended] = await manager.query<[unknown[], number]>(
        'DELETE FROM sessions WHERE account_id = $1',
        [accountId],
      );
      await this.audit.record(manager, {
        actor: actorOf(caller),
        action: 'session.end-all',
        subject: actorOf({ accountId }),
        details: { ended },
      });
      return ended;
    });
  }

  /**
   * Ends what has expired. Requests notice by themselves; for connections that are open this is
   * the change that every process hears of.
   */
  async sweep(): Promise<void> {
    await this.dataSource.query(
      `UPDATE api_keys SET expiry_told_at = now() WHERE id IN (
         SELECT id FROM api_keys WHERE expires_at <= now() AND expiry_told_at IS NULL
         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)`,
      [sweptAtOnceMax],
    );
    await this.dataSource.query(
      `DELETE FROM sessions WHERE id IN (
         SELECT id FROM sessions WHERE expires_at <= now()
         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)`,
      [sweptAtOnceMax],
    );
    await this.dataSource.query('DELETE FROM login_tickets WHERE expires_at <= now()');
  }
}
