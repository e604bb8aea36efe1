import { Injectable } from '@nestjs/common';
import { newId, newSecret } from '@rookery/core';
import { DataSource, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { HubErrors } from '../hub.errors.js';
import { actorOf, AuthService, hashOf, type Caller } from './auth.service.js';

const ticketMinutes = 10;
const sessionDays = 30;
export const sessionSeconds = sessionDays * 86_400;
const userAgentCharsMax = 300;

/** Where somebody signs in: shown in the list of sessions, so that its owner knows it again. */
export interface SignInPlace {
  readonly address: string;
  readonly userAgent: string;
}

/**
 * Signs browsers in: a one-time ticket or a pasted token becomes a session. Both belong to the API
 * key behind them: what ends the key ends them.
 */
@Injectable()
export class LoginService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly auth: AuthService,
    private readonly audit: AuditService,
  ) {}

  async createTicket(caller: Caller, next: string): Promise<{ ticket: string; expiresAt: Date }> {
    const ticket = newSecret('ticket');
    const sessionId = caller.via === 'session' ? caller.credentialId : null;
    return this.dataSource.transaction(async (manager) => {
      await manager.query('DELETE FROM login_tickets WHERE expires_at < now()');
      // The key's row is locked: a key that is being deleted makes no tickets any more.
      const [row] = await manager.query<{ expires_at: Date }[]>(
        `INSERT INTO login_tickets (token_hash, account_id, key_id, session_id, next, expires_at)
         SELECT $1, k.account_id, k.id, $3, $4,
           least(now() + make_interval(mins => $5), k.expires_at)
         FROM api_keys k WHERE k.id = $2 AND (k.expires_at IS NULL OR k.expires_at > now())
           AND ($3::uuid IS NULL OR EXISTS (SELECT 1 FROM sessions s WHERE s.id = $3 FOR KEY SHARE))
         FOR KEY SHARE RETURNING expires_at`,
        [hashOf(ticket), caller.keyId, sessionId, next, ticketMinutes],
      );
      if (!row) throw HubErrors.UNAUTHENTICATED();
      await this.audit.record(manager, {
        actor: actorOf(caller),
        action: 'login-ticket.create',
        subject: actorOf(caller),
      });
      return { ticket, expiresAt: row.expires_at };
    });
  }

  /** Uses the ticket up. @throws LOGIN_TICKET_INVALID */
  async withTicket(ticket: string, from: SignInPlace): Promise<{ session: string; next: string }> {
    return this.dataSource.transaction(async (manager) => {
      const [rows] = await manager.query<[{ key_id: string; next: string }[], number]>(
        `DELETE FROM login_tickets t USING accounts a
         WHERE t.token_hash = $1 AND t.expires_at > now()
           AND a.id = t.account_id AND a.blocked_at IS NULL
         RETURNING t.key_id, t.next`,
        [hashOf(ticket)],
      );
      const session = rows[0] && (await this.open(manager, rows[0].key_id, from));
      if (!rows[0] || session === undefined) throw HubErrors.LOGIN_TICKET_INVALID();
      return { session, next: rows[0].next };
    });
  }

  /** @throws UNAUTHENTICATED */
  async withToken(token: string, from: SignInPlace): Promise<{ session: string }> {
    const caller = await this.auth.byToken(token);
    if (!caller) throw HubErrors.UNAUTHENTICATED();
    return this.dataSource.transaction(async (manager) => {
      const session = await this.open(manager, caller.keyId, from);
      if (session === undefined) throw HubErrors.UNAUTHENTICATED();
      return { session };
    });
  }

  async end(session: string): Promise<void> {
    await this.dataSource.query('DELETE FROM sessions WHERE token_hash = $1', [hashOf(session)]);
  }

  /** Undefined when the key is gone meanwhile; else it stays until the session is there. */
  private async open(
    manager: EntityManager,
    keyId: string,
    { address, userAgent }: SignInPlace,
  ): Promise<string | undefined> {
    const session = newSecret('session');
    const [row] = await manager.query<{ account_id: string }[]>(
      `INSERT INTO sessions (id, account_id, key_id, token_hash, address, user_agent, expires_at)
       SELECT $1, k.account_id, k.id, $3, $4, $5,
         least(now() + make_interval(secs => $6), k.expires_at)
       FROM api_keys k WHERE k.id = $2 AND (k.expires_at IS NULL OR k.expires_at > now())
       FOR KEY SHARE RETURNING account_id`,
      [
        newId(),
        keyId,
        hashOf(session),
        address,
        userAgent.slice(0, userAgentCharsMax),
        sessionSeconds,
      ],
    );
    if (!row) return undefined;
    const subject = actorOf({ accountId: row.account_id });
    await this.audit.record(manager, { actor: subject, action: 'session.open', subject });
    return session;
  }
}
