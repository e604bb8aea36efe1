import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { requireAdmin } from './accounts.api.js';
import { AccountsService } from './accounts.service.js';
import { isOwn, type Caller } from './auth.service.js';
import { SessionsService, type SessionRow } from './sessions.service.js';

type Names = 'listSessions' | 'endSession' | 'endSessions';

/** Where the caller is signed in. */
@Injectable()
export class SessionsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listSessions: async ({ caller, query }) => {
      const page = await this.sessions.list(await this.accountOf(caller, query.accountId), query);
      return {
        items: page.items.map(sessionView),
        nextCursor: page.nextCursor,
      };
    },
    endSession: async ({ caller, params, query }) => {
      const accountId = await this.accountOf(caller, query.accountId);
      await this.sessions.end(caller, accountId, params.sessionId);
      return {};
    },
    endSessions: async ({ caller, query }) => ({
      ended: await this.sessions.endAll(caller, await this.accountOf(caller, query.accountId)),
    }),
  };

  constructor(
    private readonly sessions: SessionsService,
    private readonly accounts: AccountsService,
    private readonly dataSource: DataSource,
  ) {}

  /** The caller's own account, or another's for administrators. @throws FORBIDDEN */
  private async accountOf(caller: Caller, name: string | undefined): Promise<string> {
    if (name === undefined || isOwn(caller, name)) return caller.accountId;
    requireAdmin(caller);
    return (await this.accounts.find(this.dataSource.manager, name)).id;
  }
}

const sessionView = (row: SessionRow) => ({
  id: row.id,
  keyId: row.key_id,
  keyName: row.key_name,
  address: row.address,
  userAgent: row.user_agent,
  createdAt: row.created_at.toISOString(),
  lastUsedAt: row.last_used_at?.toISOString() ?? null,
  expiresAt: row.expires_at.toISOString(),
});
