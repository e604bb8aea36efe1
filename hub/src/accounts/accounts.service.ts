import { writeFile } from 'node:fs/promises';
import { Inject, Injectable } from '@nestjs/common';
import { newId } from '@rookery/core';
import { DataSource, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { Account, ApiKey } from '../database/entities/account.entity.js';
import { HubErrors } from '../hub.errors.js';
import { hashOf, newApiToken } from './auth.service.js';

const bootstrapLock = 728_405;

export interface NewAccount {
  readonly email: string;
  readonly name: string;
  readonly admin: boolean;
}

@Injectable()
export class AccountsService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}

  /** @throws ACCOUNT_EXISTS */
  async create(
    manager: EntityManager,
    actor: string,
    fresh: NewAccount,
  ): Promise<{ account: Account; token: string }> {
    const email = fresh.email.toLowerCase();
    const id = newId();
    const rows = await manager.query<unknown[]>(
      `INSERT INTO accounts (id, email, name, admin) VALUES ($1, $2, $3, $4)
       ON CONFLICT (email) DO NOTHING RETURNING id`,
      [id, email, fresh.name, fresh.admin],
    );
    if (rows.length === 0) throw HubErrors.ACCOUNT_EXISTS({ email });
    await this.audit.record(manager, {
      actor,
      action: 'account.create',
      subject: `account:${id}`,
      details: { email, admin: fresh.admin },
    });
    const { token } = await this.createKey(manager, actor, id, { name: 'first key' });
    return { account: await manager.findOneByOrFail(Account, { id }), token };
  }

  /** By id or email. @throws ACCOUNT_UNKNOWN */
  async find(manager: EntityManager, name: string): Promise<Account> {
    const where = name.includes('@') ? { email: name.toLowerCase() } : { id: name };
    const found = await manager.findOneBy(Account, where);
    if (!found) throw HubErrors.ACCOUNT_UNKNOWN({ id: name });
    return found;
  }

  /** Keys and sessions stay, and count for nothing meanwhile. @throws ACCOUNT_UNKNOWN */
  async block(
    manager: EntityManager,
    actor: string,
    id: string,
    blocked: boolean,
  ): Promise<Account> {
    const { affected } = await manager.update(Account, id, {
      blockedAt: blocked ? () => 'coalesce(blocked_at, now())' : null,
    });
    if (affected === 0) throw HubErrors.ACCOUNT_UNKNOWN({ id });
    await this.audit.record(manager, {
      actor,
      action: blocked ? 'account.block' : 'account.unblock',
      subject: `account:${id}`,
    });
    return manager.findOneByOrFail(Account, { id });
  }

  async createKey(
    manager: EntityManager,
    actor: string,
    accountId: string,
    choice: { name: string; expiresInDays?: number | undefined },
  ): Promise<{ key: ApiKey; token: string }> {
    const token = newApiToken();
    const id = newId();
    await manager.query(
      `INSERT INTO api_keys (id, account_id, name, token_hash, expires_at)
       VALUES ($1, $2, $3, $4, now() + make_interval(days => $5))`,
      [id, accountId, choice.name, hashOf(token), choice.expiresInDays ?? null],
    );
    await this.audit.record(manager, {
      actor,
      action: 'api-key.create',
      subject: `account:${accountId}`,
      details: { keyId: id, name: choice.name },
    });
    return { key: await manager.findOneByOrFail(ApiKey, { id }), token };
  }

  /**
   * The first start makes the first administrator and writes the token where the operator said.
   * Without a file there is no way to hand the token over, so nothing is made.
   */
  async bootstrap(): Promise<void> {
    const { bootstrapFile, publicUrl } = this.config;
    if (bootstrapFile === undefined) return;
    await this.dataSource.transaction(async (manager) => {
      await manager.query('SELECT pg_advisory_xact_lock($1)', [bootstrapLock]);
      if ((await manager.count(Account)) > 0) return;
      const fresh = { email: 'admin@localhost', name: 'Administrator', admin: true };
      const { account, token } = await this.create(manager, 'hub', fresh);
      const content = { url: publicUrl, token, accountId: account.id, email: account.email };
      // Before the commit: an account whose token nobody has would lock everybody out.
      await writeFile(bootstrapFile, `${JSON.stringify(content, null, 2)}\n`, { mode: 0o600 });
    });
  }
}
