import { Inject, Injectable } from '@nestjs/common';
import { CoreErrors } from '@rookery/core';
import { accessTokenSecondsMax } from '@rookery/core/contract';
import { identityNames } from '@rookery/fleet/contract';
import { DataSource, In } from 'typeorm';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { pageOfRows } from '../api/pages.js';
import { AuditService } from '../audit/audit.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { Account, ApiKey } from '../database/entities/account.entity.js';
import { HubErrors } from '../hub.errors.js';
import { SigningKeys } from '../keys/signing-keys.service.js';
import { AccountsService } from './accounts.service.js';
import { actorOf, type Caller } from './auth.service.js';
import { LoginService } from './login.service.js';

type Names =
  | 'getAccount'
  | 'listAccounts'
  | 'createAccount'
  | 'updateAccount'
  | 'listApiKeys'
  | 'createApiKey'
  | 'deleteApiKey'
  | 'createLoginTicket'
  | 'createConatToken';

/** @throws FORBIDDEN */
export function requireAdmin(caller: Caller): void {
  if (!caller.admin) throw HubErrors.FORBIDDEN({ role: 'administrator' });
}

@Injectable()
export class AccountsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    getAccount: async ({ caller }) => ({
      id: caller.accountId,
      email: caller.email,
      name: caller.name,
      admin: caller.admin,
      blocked: false,
      createdAt: caller.createdAt.toISOString(),
    }),
    listAccounts: async ({ caller, query }) => {
      requireAdmin(caller);
      const { manager } = this.dataSource;
      const page = await pageOfRows<{ id: string }>(
        manager,
        {
          select: 'SELECT id, created_at FROM accounts',
          parameters: [],
          by: ['created_at', 'id'],
          newestFirst: false,
        },
        query,
      );
      const ids = page.items.map(({ id }) => id);
      const found = await manager.findBy(Account, { id: In(ids) });
      const byId = new Map(found.map((account) => [account.id, account]));
      return { items: ids.map((id) => accountView(byId.get(id)!)), nextCursor: page.nextCursor };
    },
    createAccount: async ({ caller, body }) => {
      requireAdmin(caller);
      const { account, token } = await this.dataSource.transaction((manager) =>
        this.accounts.create(manager, actorOf(caller), body),
      );
      return { account: accountView(account), token };
    },
    updateAccount: async ({ caller, params, body }) => {
      requireAdmin(caller);
      const account = await this.dataSource.transaction(async (manager) => {
        const { id } = await this.accounts.find(manager, params.accountId);
        if (id === caller.accountId) throw HubErrors.ACCOUNT_OWN();
        return this.accounts.block(manager, actorOf(caller), id, body.blocked);
      });
      return accountView(account);
    },
    listApiKeys: async ({ caller, query }) => {
      const page = await pageOfRows<{ id: string }>(
        this.dataSource.manager,
        {
          select: 'SELECT id, created_at FROM api_keys WHERE account_id = $1',
          parameters: [caller.accountId],
          by: ['created_at', 'id'],
          newestFirst: false,
        },
        query,
      );
      const ids = page.items.map(({ id }) => id);
      const keys = await this.dataSource.manager.findBy(ApiKey, { id: In(ids) });
      const byId = new Map(keys.map((key) => [key.id, key]));
      return { items: ids.map((id) => keyView(byId.get(id)!)), nextCursor: page.nextCursor };
    },
    createApiKey: async ({ caller, body }) => {
      const { key, token } = await this.dataSource.transaction((manager) =>
        this.accounts.createKey(manager, actorOf(caller), caller.accountId, body),
      );
      return { key: keyView(key), token };
    },
    deleteApiKey: async ({ caller, params }) => {
      await this.dataSource.transaction(async (manager) => {
        const { keyId } = params;
        const { affected } = await manager.delete(ApiKey, {
          id: keyId,
          accountId: caller.accountId,
        });
        if (affected === 0) throw CoreErrors.NOT_FOUND({ what: 'API key', id: keyId });
        await this.audit.record(manager, {
          actor: actorOf(caller),
          action: 'api-key.delete',
          subject: actorOf(caller),
          details: { keyId },
        });
      });
      return {};
    },
    createLoginTicket: async ({ caller, body }) => {
      const { ticket, expiresAt } = await this.login.createTicket(caller, body.next);
      const url = `${this.config.publicUrl}/login?ticket=${ticket}`;
      return { url, expiresAt: expiresAt.toISOString() };
    },
    createConatToken: async ({ caller }) => ({
      url: `${this.config.publicUrl.replace(/^http/, 'ws')}/conat`,
      token: await this.keys.mint({
        aud: 'conat',
        sub: actorOf(caller),
        credential: caller.credentialId,
      }),
      inboxPrefix: `_INBOX.${identityNames.account(caller.accountId)}`,
      expiresAt: new Date(Date.now() + accessTokenSecondsMax * 1000).toISOString(),
    }),
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly accounts: AccountsService,
    private readonly login: LoginService,
    private readonly keys: SigningKeys,
    private readonly audit: AuditService,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}
}

const accountView = ({ id, email, name, admin, blockedAt, createdAt }: Account) => ({
  id,
  email,
  name,
  admin,
  blocked: blockedAt !== null,
  createdAt: createdAt.toISOString(),
});

const keyView = ({ id, name, createdAt, lastUsedAt, expiresAt }: ApiKey) => ({
  id,
  name,
  createdAt: createdAt.toISOString(),
  lastUsedAt: lastUsedAt?.toISOString() ?? null,
  expiresAt: expiresAt?.toISOString() ?? null,
});
