import { isDeepStrictEqual } from 'node:util';
import type { VerificationKey } from '@rookery/core/contract';
import { HostRow } from '../database/entities/host.entity.js';
import type { HostDatabase } from '../database/host-database.js';

export type HostFacts = Omit<HostRow, 'id'>;

/** What the hub told this host about itself; kept for the time when the hub is away. */
export class HostRecord {
  constructor(
    private readonly database: HostDatabase,
    private readonly onChange: () => void,
  ) {}

  async get(): Promise<HostFacts | undefined> {
    return this.database.findOne(HostRow, { id: 1 });
  }

  async save(facts: HostFacts): Promise<void> {
    this.database.write((rows) => rows.put(HostRow, { ...facts, id: 1 }));
    this.onChange();
  }

  async update(change: {
    verificationKeys: VerificationKey[];
    heartbeatEveryMs: number;
  }): Promise<void> {
    const known = await this.get();
    if (!known) return;
    const { verificationKeys, heartbeatEveryMs } = change;
    const next = { ...known, verificationKeys, heartbeatEveryMs };
    if (!isDeepStrictEqual({ ...next }, { ...known })) await this.save(next);
  }
}
