import { Injectable } from '@nestjs/common';
import { newId, newSecret } from '@rookery/core';
import { DataSource } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { HubErrors } from '../hub.errors.js';
import { actorOf, AuthService, hashOf, type Caller } from './auth.service.js';

const ticketMinutes = 10;
const sessionDays = 30;
export const sessionSeconds = sessionDays * 86_400;

/** Signs browsers in: a one-time ticket or a pasted token becomes a session. */
@Injectable()
export class LoginService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly auth: AuthService,
    private readonly audit: AuditService,
  ) {}

  async createTicket(caller: Caller, next: string): Promise<{ ticket: string; expiresAt: Date }> {
    const ticket = newSecret('ticket');
    return this.dataSource.transaction(async (manager) => {
      await manager.query('DELETE FROM login_tickets WHERE expires_at < now()');
      const [row] = await manager.query<[{ expires_at: Date }]>(
        `INSERT INTO login_tickets (token_hash, account_id, next, expires_at)
         VALUES ($1, $2, $3, now() + make_interval(mins => $4)) RETURNING expires_at`,
        [hashOf(ticket), caller.accountId, next, ticketMinutes],
      );
      await this.audit.record(manager, {
        actor: actorOf(caller),
        action: 'login-ticket.create',
        subject: actorOf(caller),
      });
      return { ticket, expiresAt: row.expires_at };
    });
  }

  /** Uses the ticket up. @throws LOGIN_TICKET_INVALID */
  async withTicket(ticket: string): Promise<{ session: string; next: string }> {
    return this.dataSource.transaction(async (manager) => {
      const [rows] = await manager.query<[{ account_id: string; next: string }[], number]>(
        `DELETE FROM login_tickets t USING accounts a
         WHERE t.token_hash = $1 AND t.expires_at > now()
           AND a.id = t.account_id AND a.blocked_at IS NULL
         RETURNING account_id, next`,
        [hashOf(ticket)],
      );
      const row = rows[0];
      if (!row) throw HubErrors.LOGIN_TICKET_INVALID();
      return { session: await this.open(manager, row.account_id), next: row.next };
    });
  }

  /** @throws UNAUTHENTICATED */
  async withToken(token: string): Promise<{ session: string }> {
    const caller = await this.auth.byToken(token);
    if (!caller) throw HubErrors.UNAUTHENTICATED();
    return this.dataSource.transaction(async (manager) => ({
      session: await this.open(manager, caller.accountId),
    }));
  }

  async end(session: string): Promise<void> {
    await this.dataSource.query('DELETE FROM sessions WHERE token_hash = $1', [hashOf(session)]);
  }

  private async open(
    manager: Parameters<AuditService['record']>[0],
    accountId: string,
  ): Promise<string> {
    const session = newSecret('session');
    await manager.query('DELETE FROM sessions WHERE expires_at < now()');
    await manager.query(
      `INSERT INTO sessions (id, account_id, token_hash, expires_at)
       VALUES ($1, $2, $3, now() + make_interval(secs => $4))`,
      [newId(), accountId, hashOf(session), sessionSeconds],
    );
    await this.audit.record(manager, {
      actor: actorOf({ accountId }),
      action: 'session.open',
      subject: actorOf({ accountId }),
    });
    return session;
  }
}
