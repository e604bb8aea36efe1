import { Injectable, OnModuleInit } from '@nestjs/common';
import { connectionPermissions } from '@rookery/fleet';
import { Broker } from '@rookery/conat';
import { accountOfIdentity, hostOfIdentity, identityNames } from '@rookery/fleet/contract';
import { DataSource } from 'typeorm';
import { goodCredentials } from '../accounts/credentials.js';
import { AccessChanges, type AccessChange } from '../access/access-changes.js';
import { HubAuthenticator } from './hub-authenticator.js';

const accountsAtOnceMax = 200;
/** Gives this process's connections the rights of now, or cuts them, whenever access changes. */
@Injectable()
export class BrokerAccess implements OnModuleInit {
  private readonly waiting = new Set<string>();
  private checking = false;

  constructor(
    private readonly broker: Broker,
    private readonly authenticator: HubAuthenticator,
    private readonly changes: AccessChanges,
    private readonly dataSource: DataSource,
  ) {}

  onModuleInit(): void {
    this.changes.onChange((change) => this.hear(change));
  }

  private hear(change: AccessChange): void {
    switch (change.kind) {
      case 'host':
        this.broker.disconnect(identityNames.host(change.hostId));
        return;
      case 'credentials':
        this.endCredential(change.accountId, change.credentialId);
        return;
      case 'rights':
        if (change.accountId !== undefined) this.check([change.accountId]);
        else this.checkProject(change.projectId);
        return;
      case 'all':
        this.checkAll();
        return;
    }
  }

  private checkProject(projectId: string): void {
    this.dataSource
      .query<{ id: string }[]>('SELECT account_id AS id FROM collaborators WHERE project_id = $1', [
        projectId,
      ])
      .then(
        (rows) => this.check(rows.map(({ id }) => id)),
        () => this.checkAll(),
      );
  }

  private endCredential(accountId: string, credentialId: string | undefined): void {
    const name = identityNames.account(accountId);
    this.broker.disconnect(name, 'revoked', ({ credential = credentialId }) => {
      return credentialId === undefined || credential === credentialId;
    });
  }

  /** Which keys and sessions ended is not known: those that opened what is open are asked for. */
  private async checkCredentials(): Promise<void> {
    const open = this.broker
      .identities()
      .filter(({ name }) => accountOfIdentity(name) !== undefined);
    const ids = open.flatMap(({ credential }) => credential ?? []);
    // What cannot be asked for is as good as none.
    const good = await goodCredentials(this.dataSource, ids).catch(() => new Set<string>());
    const asked = new Set(ids);
    for (const name of new Set(open.map((identity) => identity.name))) {
      this.broker.disconnect(name, 'revoked', ({ credential }) => {
        // Who came meanwhile was looked at as it is now.
        return credential === undefined || (asked.has(credential) && !good.has(credential));
      });
    }
  }

  private checkAll(): void {
    void this.checkCredentials();
    const names = this.broker.identityNames();
    this.check(names.map(accountOfIdentity).filter((id) => id !== undefined));
    const hosts = names.map(hostOfIdentity).filter((id) => id !== undefined);
    this.dataSource
      .query<{ id: string }[]>(
        `SELECT id FROM project_hosts WHERE status = 'active' AND id = ANY($1)`,
        [hosts],
      )
      .then((active) => {
        const known = new Set(active.map(({ id }) => id));
        for (const id of hosts) if (!known.has(id)) this.broker.disconnect(identityNames.host(id));
      })
      // Hosts go on while nobody can be asked: their projects do.
      .catch(() => undefined);
  }

  /** One look at a time: what was read later is never overwritten by what was read before. */
  private check(accountIds: readonly string[]): void {
    for (const id of accountIds) this.waiting.add(id);
    if (this.checking || this.waiting.size === 0) return;
    this.checking = true;
    void this.checkWaiting().finally(() => (this.checking = false));
  }

  private async checkWaiting(): Promise<void> {
    while (this.waiting.size > 0) {
      const ids = [...this.waiting].slice(0, accountsAtOnceMax);
      for (const id of ids) this.waiting.delete(id);
      // Who cannot be asked about has no rights.
      const rights = await this.authenticator
        .projectsOfAll(ids)
        .catch(() => new Map<string, never>());
      for (const id of ids) {
        const name = identityNames.account(id);
        const projects = rights.get(id);
        if (projects) {
          this.broker.updatePermissions(name, ({ onlySpace }) =>
            connectionPermissions(id, projects, onlySpace),
          );
        } else {
          this.broker.disconnect(name);
        }
      }
    }
  }
}
