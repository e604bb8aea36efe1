import type { ProjectAccess } from '@rookery/conat';
import type { Clock } from '@rookery/core';
import type { DataSource } from 'typeorm';
import { AccessGrantRow, AccessStateRow } from '../database/entities/access.entity.js';

export interface AccountAccess {
  readonly accountId: string;
  readonly projects: readonly ProjectAccess[];
}

/** Accounts whose rights may be others now; `all` after a gap, and when they expired. */
export type AccessNews = ReadonlySet<string> | 'all';

/** A confirmation is written down so much later than it came, at most. */
const confirmationMs = 60_000;
/** Timers run no longer. */
const timerMsMax = 2 ** 31 - 1;

/**
 * Who may enter this host's projects, as the hub said it last: in memory for asking, on disk for
 * the time when the hub is away. It counts for nothing once the hub has been away too long.
 */
export class AccessBook {
  private readonly grants = new Map<string, readonly ProjectAccess[]>();
  private readonly listeners = new Set<(news: AccessNews) => void>();
  private state: { revision: number; confirmedAt: number } | undefined;
  private writtenAt = 0;
  private expiry: NodeJS.Timeout | undefined;

  constructor(
    private readonly database: DataSource,
    private readonly clock: Clock,
    private readonly offlineMs: number,
  ) {}

  /** Reads what was known before. */
  async open(): Promise<void> {
    const { manager } = this.database;
    const state = await manager.findOneBy(AccessStateRow, { id: 1 });
    if (!state) return;
    for (const { accountId, projectId, role } of await manager.find(AccessGrantRow)) {
      const projects = this.grants.get(accountId) ?? [];
      this.grants.set(accountId, [...projects, { projectId, role }]);
    }
    this.state = { revision: state.revision, confirmedAt: state.confirmedAt };
    this.writtenAt = state.confirmedAt;
    this.watchExpiry();
  }

  close(): void {
    clearTimeout(this.expiry);
  }

  /** Undefined before the hub has ever said anything. */
  get revision(): number | undefined {
    return this.state?.revision;
  }

  /** False when nobody may be believed: the hub has been away too long, or never told. */
  get isCurrent(): boolean {
    return this.state !== undefined && this.clock.now() < this.state.confirmedAt + this.offlineMs;
  }

  /** Empty for an account without rights here. */
  projectsOf(accountId: string): readonly ProjectAccess[] {
    return this.isCurrent ? (this.grants.get(accountId) ?? []) : [];
  }

  onChange(listener: (news: AccessNews) => void): void {
    this.listeners.add(listener);
  }

  /** The hub knows nothing newer than we do. */
  async confirm(): Promise<void> {
    if (!this.state) return;
    const wasCurrent = this.isCurrent;
    this.state.confirmedAt = this.clock.now();
    this.watchExpiry();
    if (!wasCurrent) this.tell('all');
    if (this.clock.now() - this.writtenAt < Math.min(confirmationMs, this.offlineMs / 4)) return;
    await this.writeState();
  }

  /** What has changed up to a revision: each of these accounts has these rights, and no others. */
  async apply(revision: number, accounts: readonly AccountAccess[]): Promise<void> {
    for (const { accountId, projects } of accounts) this.set(accountId, projects);
    await this.save(revision, accounts);
    this.tell(new Set(accounts.map(({ accountId }) => accountId)));
  }

  /** All there is. */
  async replace(revision: number, accounts: readonly AccountAccess[]): Promise<void> {
    const gone = new Set(this.grants.keys());
    for (const { accountId } of accounts) gone.delete(accountId);
    const all = [...accounts, ...[...gone].map((accountId) => ({ accountId, projects: [] }))];
    for (const { accountId, projects } of all) this.set(accountId, projects);
    await this.save(revision, all);
    this.tell('all');
  }

  private set(accountId: string, projects: readonly ProjectAccess[]): void {
    if (projects.length > 0) this.grants.set(accountId, projects);
    else this.grants.delete(accountId);
  }

  private async save(revision: number, accounts: readonly AccountAccess[]): Promise<void> {
    this.state = { revision, confirmedAt: this.clock.now() };
    this.watchExpiry();
    await this.database.transaction(async (manager) => {
      for (const { accountId, projects } of accounts) {
        await manager.delete(AccessGrantRow, { accountId });
        await manager.insert(
          AccessGrantRow,
          projects.map(({ projectId, role }) => ({ accountId, projectId, role })),
        );
      }
      await manager.upsert(AccessStateRow, { id: 1, ...this.state }, ['id']);
    });
    this.writtenAt = this.state.confirmedAt;
  }

  private async writeState(): Promise<void> {
    await this.database.manager.upsert(AccessStateRow, { id: 1, ...this.state }, ['id']);
    this.writtenAt = this.state?.confirmedAt ?? 0;
  }

  private watchExpiry(): void {
    clearTimeout(this.expiry);
    if (!this.state) return;
    const leftMs = this.state.confirmedAt + this.offlineMs - this.clock.now();
    if (leftMs <= 0) return;
    this.expiry = setTimeout(
      () => {
        if (this.isCurrent) this.watchExpiry();
        else this.tell('all');
      },
      Math.min(leftMs, timerMsMax),
    ).unref();
  }

  private tell(news: AccessNews): void {
    for (const listener of this.listeners) listener(news);
  }
}
