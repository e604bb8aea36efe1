import { Injectable, OnModuleInit } from '@nestjs/common';
import { Broker } from '@rookery/conat';
import { createServiceClient } from '@rookery/rpc';
import { hostAccess, hostOfIdentity } from '@rookery/fleet/contract';
import { DataSource } from 'typeorm';
import { AccessChanges, type AccessChange } from '../access/access-changes.js';
import { HubConat } from './hub-conat.js';

/**
 * Tells hosts at once that rights have changed; they ask for them then. Only the hosts that are
 * connected to this process: each is told by one. What gets lost shows in the next heartbeat.
 */
@Injectable()
export class HostAccessNotifier implements OnModuleInit {
  /** Hosts being told; true: once more after that. */
  private readonly telling = new Map<string, boolean>();

  constructor(
    private readonly broker: Broker,
    private readonly conat: HubConat,
    private readonly changes: AccessChanges,
    private readonly dataSource: DataSource,
  ) {}

  onModuleInit(): void {
    this.changes.onChange((change) => void this.hear(change));
  }

  private async hear(change: AccessChange): Promise<void> {
    if (change.kind === 'host') return;
    const connected = this.broker.identityNames().map(hostOfIdentity);
    const hosts = await this.concerned(change).catch(() => undefined);
    for (const hostId of connected) {
      if (hostId !== undefined && (hosts?.has(hostId) ?? true)) void this.tell(hostId);
    }
  }

  /** Undefined: all of them. */
  private async concerned(change: AccessChange): Promise<Set<string> | undefined> {
    // Without an account it may be the project's host that has changed: the old one must know too.
    if (change.kind !== 'rights' || change.accountId === undefined) return undefined;
    const rows = await this.dataSource.query<{ id: string | null }[]>(
      'SELECT host_id AS id FROM projects WHERE id = $1',
      [change.projectId],
    );
    return new Set(rows.flatMap(({ id }) => id ?? []));
  }

  private async tell(hostId: string): Promise<void> {
    if (this.telling.has(hostId)) {
      this.telling.set(hostId, true);
      return;
    }
    do {
      this.telling.set(hostId, false);
      try {
        const client = await this.conat.client();
        await createServiceClient(client, hostAccess, { hostId }).changed({});
      } catch {
        // The heartbeat's answer will say so again.
      }
    } while (this.telling.get(hostId) === true);
    this.telling.delete(hostId);
  }
}
