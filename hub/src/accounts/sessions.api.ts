import { Injectable } from '@nestjs/common';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { requireAdmin } from './accounts.api.js';
import type { Caller } from './auth.service.js';
import { SessionsService, type SessionRow } from './sessions.service.js';

type Names = 'listSessions' | 'endSession' | 'endSessions';

/** Where the caller is signed in. */
@Injectable()
export class SessionsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listSessions: async ({ caller, query }) => {
      const page = await this.sessions.list(accountOf(caller, query.accountId), query);
      return {
        items: page.items.map(sessionView),
        nextCursor: page.nextCursor,
      };
    },
    endSession: async ({ caller, params, query }) => {
      await this.sessions.end(caller, accountOf(caller, query.accountId), params.sessionId);
      return {};
    },
    endSessions: async ({ caller, query }) => ({
      ended: await this.sessions.endAll(caller, accountOf(caller, query.accountId)),
    }),
  };

  constructor(private readonly sessions: SessionsService) {}
}

/** The caller's own account, or another's for administrators. @throws FORBIDDEN */
function accountOf(caller: Caller, accountId: string | undefined): string {
  if (accountId !== undefined && accountId !== caller.accountId) requireAdmin(caller);
  return accountId ?? caller.accountId;
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
