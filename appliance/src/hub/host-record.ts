import { isDeepStrictEqual } from 'node:util';
import type { VerificationKey } from '@rookery/core/contract';
import type { DataSource } from 'typeorm';
import { HostRow } from '../database/entities/host.entity.js';

export type HostFacts = Omit<HostRow, 'id'>;

/** What the hub told this host about itself; kept for the time when the hub is away. */
export class HostRecord {
  constructor(
    private readonly database: DataSource,
    private readonly onChange: () => void,
  ) {}

  async get(): Promise<HostFacts | undefined> {
    return (await this.database.manager.findOneBy(HostRow, { id: 1 })) ?? undefined;
  }

  async save(facts: HostFacts): Promise<void> {
    await this.database.manager.upsert(HostRow, { ...facts, id: 1 }, ['id']);
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
