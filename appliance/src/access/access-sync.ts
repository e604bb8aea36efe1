import { credentialsMax, type hostReports } from '@rookery/fleet/contract';
import { CodedError, type Clock, type Logger } from '@rookery/core';
import type { ServiceClient } from '@rookery/rpc/contract';
import type { AccessStore, AccountAccess } from './access-store.js';

type Reports = ServiceClient<typeof hostReports>;

/** Whose a connection is, and the API key or session that opened it. */
export interface OpenedBy {
  readonly accountId: string;
  readonly credentialId?: string | undefined;
}

/** Longer than any access token lives. */
const revocationKeptMs = 10 * 60_000;

/**
 * Keeps the book of rights equal to the hub's. The hub's rights have a revision: it says at once
 * when there is a newer one (`hostAccess.changed`), and again with every answer to a heartbeat; then
 * we ask for what changed since ours. A hub that does not know that any more answers with all, and
 * which of the keys and sessions behind open connections have ended: nobody is cut for the gap alone.
 */
export class AccessSync {
  private reports: Reports | undefined;
  private pulling: Promise<void> | undefined;
  private again = false;
  private readonly revoked = new Map<string, number>();
  private readonly listeners = new Set<(ends: (by: OpenedBy) => boolean) => void>();
  private opened: () => readonly OpenedBy[] = () => [];

  constructor(
    private readonly book: AccessStore,
    private readonly clock: Clock,
    private readonly logger: Logger,
  ) {}

  /** The line to ask on. */
  attach(reports: Reports): void {
    this.reports = reports;
  }

  /** What connections were opened with is gone: those end of which the listener is told so. */
  onRevoked(listener: (ends: (by: OpenedBy) => boolean) => void): void {
    this.listeners.add(listener);
  }

  /** What is open now: after a gap the hub is asked whether it may stay. */
  attachOpen(opened: () => readonly OpenedBy[]): void {
    this.opened = opened;
  }

  /** Was what a token was made with ended, as far as we know? */
  isRevoked(credentialId: string): boolean {
    return this.revoked.has(credentialId);
  }

  /** The hub's revision by its answer to a heartbeat. */
  async learn(revision: number): Promise<void> {
    if (revision === this.book.revision) await this.book.confirm();
    else await this.pull();
  }

  /** There is something new; asked again once more when that is said meanwhile. */
  async pull(): Promise<void> {
    if (this.pulling) {
      this.again = true;
      return this.pulling;
    }
    this.pulling = this.pullAll().finally(() => (this.pulling = undefined));
    return this.pulling;
  }

  private async pullAll(): Promise<void> {
    do {
      this.again = false;
      await this.pullOnce();
    } while (this.again);
  }

  private async pullOnce(): Promise<void> {
    const { reports, book } = this;
    if (!reports) return;
    const since = book.revision;
    if (since === undefined || !(await this.pullChanges(reports, since))) {
      await this.pullWhole(reports, since);
    }
  }

  /**
   * Each page holds from when it comes. Only after the last one we know the first one's revision:
   * what changes meanwhile may be missing from pages that were there before.
   * @returns false: the hub does not know any more what has changed since
   */
  private async pullChanges(reports: Reports, since: number): Promise<boolean> {
    let revision: number | undefined;
    for (let after: string | undefined; ;) {
      const more = after !== undefined && { after };
      const page = await reports.access({ since, paged: true, ...more });
      if (page.whole) return false;
      revision ??= page.revision;
      this.revoke(page.revoked);
      after = page.next;
      await this.book.apply(after === undefined ? revision : since, page.accounts);
      if (after === undefined) return true;
    }
  }

  private async pullWhole(reports: Reports, since: number | undefined): Promise<void> {
    const accounts: AccountAccess[] = [];
    let revision: number | undefined;
    for (let after: string | undefined; ;) {
      const page = await reports.access(after === undefined ? {} : { after });
      revision ??= page.revision;
      accounts.push(...page.accounts);
      this.revoke(page.revoked);
      after = page.next;
      if (after === undefined) break;
    }
    this.logger.info({ accounts: accounts.length }, 'learned anew who may enter');
    if (since !== undefined) {
      // Until the end of this we have what we had: what fails is begun anew with the next heartbeat.
      await this.book.replace(since, accounts);
      await this.checkOpen(reports);
    }
    await this.book.replace(revision, accounts);
  }

  /** What was revoked meanwhile is not known: what opened the connections of now is asked for. */
  private async checkOpen(reports: Reports): Promise<void> {
    const ids = [...new Set(this.opened().flatMap(({ credentialId }) => credentialId ?? []))];
    const ended = new Set<string>();
    try {
      for (let at = 0; at < ids.length; at += credentialsMax) {
        const credentialIds = ids.slice(at, at + credentialsMax);
        for (const id of (await reports.credentials({ credentialIds })).ended) ended.add(id);
      }
    } catch (error) {
      if (!CodedError.is(error, 'SERVICE_UNAVAILABLE')) throw error;
      // A hub of an earlier release: everybody shows again what opens the door.
      this.tell(() => true);
      return;
    }
    for (const id of ended) this.remember(id);
    this.tell(({ credentialId }) => credentialId === undefined || ended.has(credentialId));
  }

  private revoke(revoked: readonly OpenedBy[]): void {
    if (revoked.length === 0) return;
    const accounts = new Set<string>();
    const credentials = new Set<string>();
    const concerned = new Set(revoked.map(({ accountId }) => accountId));
    for (const { accountId, credentialId } of revoked) {
      if (credentialId === undefined) accounts.add(accountId);
      else credentials.add(credentialId);
    }
    for (const id of credentials) this.remember(id);
    this.tell(({ accountId, credentialId }) => {
      if (accounts.has(accountId)) return true;
      // What does not say what opened it may have been opened by any of the account's.
      return credentialId === undefined ? concerned.has(accountId) : credentials.has(credentialId);
    });
  }

  private remember(credentialId: string): void {
    const now = this.clock.now();
    for (const [id, until] of this.revoked) if (until < now) this.revoked.delete(id);
    this.revoked.set(credentialId, now + revocationKeptMs);
  }

  private tell(ends: (by: OpenedBy) => boolean): void {
    for (const listener of this.listeners) listener(ends);
  }
}
