import type { ProjectAccess } from '@rookery/fleet';
import type { Clock } from '@rookery/core';
import { AccessGrantRow, AccessStateRow } from '../database/entities/access.entity.js';
import type { HostDatabase } from '../database/host-database.js';

export interface AccountAccess {
  readonly accountId: string;
  readonly projects: readonly ProjectAccess[];
}

/** Accounts whose rights may be others now; `all` after a gap, and when they expired. */
export type AccessDifference = ReadonlySet<string> | 'all';

/** A confirmation is written down so much later than it came, at most. */
const confirmationMs = 60_000;
/** Timers run no longer. */
const timerMsMax = 2 ** 31 - 1;

/**
 * Who may enter this host's projects, as the hub said it last: in memory for asking, on disk for
 * the time when the hub is away. It counts for nothing once the hub has been away too long.
 */
export class AccessStore {
  private readonly grants = new Map<string, readonly ProjectAccess[]>();
  private readonly listeners = new Set<(news: AccessDifference) => void>();
  private state: { revision: number; confirmedAt: number } | undefined;
  private writtenAt = 0;
  private expiry: NodeJS.Timeout | undefined;

  constructor(
    private readonly database: HostDatabase,
    private readonly clock: Clock,
    private readonly offlineMs: number,
  ) {}

  /** Reads what was known before. */
  async open(): Promise<void> {
    const state = this.database.findOne(AccessStateRow, { id: 1 });
    if (!state) return;
    for (const { accountId, projectId, role } of this.database.find(AccessGrantRow)) {
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

  onChange(listener: (news: AccessDifference) => void): void {
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
    const state = this.state;
    this.database.write((rows) => rows.put(AccessStateRow, { id: 1, ...state }));
    this.writtenAt = state.confirmedAt;
  }

  /** What has changed up to a revision: each of these accounts has these rights, and no others. */
  async apply(revision: number, accounts: readonly AccountAccess[]): Promise<void> {
    this.take(revision, accounts);
  }

  /** All there is. */
  async replace(revision: number, accounts: readonly AccountAccess[]): Promise<void> {
    const gone = new Set(this.grants.keys());
    for (const { accountId } of accounts) gone.delete(accountId);
    const all = [...accounts, ...[...gone].map((accountId) => ({ accountId, projects: [] }))];
    this.take(revision, all);
  }

  /**
   * Rights hold, and connections follow them, from now on, even when the disk is full: who was shut
   * out must not stay in for that. The revision is ours only once it is on disk with its rights;
   * until then we ask for the same again. Told are only those whose rights are others now, unless
   * nobody was believed before.
   */
  private take(revision: number, accounts: readonly AccountAccess[]): void {
    const wasCurrent = this.isCurrent;
    const changed = new Set<string>();
    for (const { accountId, projects } of accounts) {
      if (sameRights(this.grants.get(accountId) ?? [], projects)) continue;
      changed.add(accountId);
      if (projects.length > 0) this.grants.set(accountId, projects);
      else this.grants.delete(accountId);
    }
    try {
      this.save(revision, accounts);
    } finally {
      if (!wasCurrent) this.tell('all');
      else if (changed.size > 0) this.tell(changed);
    }
  }

  private save(revision: number, accounts: readonly AccountAccess[]): void {
    const state = { revision, confirmedAt: this.clock.now() };
    this.database.write((rows) => {
      for (const { accountId, projects } of accounts) {
        rows.delete(AccessGrantRow, { accountId });
        for (const { projectId, role } of projects) {
          rows.put(AccessGrantRow, { accountId, projectId, role });
        }
      }
      rows.put(AccessStateRow, { id: 1, ...state });
    });
    this.state = state;
    this.writtenAt = state.confirmedAt;
    this.watchExpiry();
  }

  /** A timer may fire a millisecond early: only one that finds the rights expired tells so. */
  private watchExpiry(): void {
    clearTimeout(this.expiry);
    if (!this.state) return;
    const leftMs = Math.max(0, this.state.confirmedAt + this.offlineMs - this.clock.now());
    this.expiry = setTimeout(
      () => {
        if (this.isCurrent) this.watchExpiry();
        else this.tell('all');
      },
      Math.min(leftMs, timerMsMax),
    ).unref();
  }

  private tell(news: AccessDifference): void {
    for (const listener of this.listeners) listener(news);
  }
}

function sameRights(some: readonly ProjectAccess[], others: readonly ProjectAccess[]): boolean {
  if (some.length !== others.length) return false;
  const roles = new Map(some.map(({ projectId, role }) => [projectId, role]));
  return others.every(({ projectId, role }) => roles.get(projectId) === role);
}
