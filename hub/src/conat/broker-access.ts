import { Injectable, OnModuleInit } from '@nestjs/common';
import { connectionPermissions, Broker } from '@rookery/conat';
import { accountOfIdentity, hostOfIdentity, identityNames } from '@rookery/conat/contract';
import { DataSource } from 'typeorm';
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
        // A connection does not say which key opened it: who has another one comes back at once.
        this.broker.disconnect(identityNames.account(change.accountId));
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

  private checkAll(): void {
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
          this.broker.updatePermissions(name, ({ onlyProject }) =>
            connectionPermissions(id, projects, onlyProject),
          );
        } else {
          this.broker.disconnect(name);
        }
      }
    }
  }
}
