import type { hostReports } from '@rookery/conat/contract';
import type { Clock, Logger } from '@rookery/core';
import type { ServiceClient } from '@rookery/core/contract';
import type { AccessBook, AccountAccess } from './access-book.js';

type Reports = ServiceClient<typeof hostReports>;

/** Longer than any access token lives. */
const revocationKeptMs = 10 * 60_000;

/**
 * Keeps the book of rights equal to the hub's. The hub's rights have a revision: it says at once
 * when there is a newer one (`hostAccess.changed`), and again with every answer to a heartbeat; then
 * we ask for what changed since ours. A hub that does not know that any more answers with all.
 */
export class AccessSync {
  private reports: Reports | undefined;
  private pulling: Promise<void> | undefined;
  private again = false;
  private readonly revoked = new Map<string, number>();
  private readonly listeners = new Set<(accountId?: string) => void>();

  constructor(
    private readonly book: AccessBook,
    private readonly clock: Clock,
    private readonly logger: Logger,
  ) {}

  /** The line to ask on. */
  attach(reports: Reports): void {
    this.reports = reports;
  }

  /** What the account's connections were opened with is gone; after a gap that may be anybody's. */
  onRevoked(listener: (accountId?: string) => void): void {
    this.listeners.add(listener);
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
      await this.pullWhole(reports, since !== undefined);
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
      for (const { accountId, credentialId } of page.revoked) this.revoke(accountId, credentialId);
      after = page.next;
      await this.book.apply(after === undefined ? revision : since, page.accounts);
      if (after === undefined) return true;
    }
  }

  private async pullWhole(reports: Reports, isGap: boolean): Promise<void> {
    const accounts: AccountAccess[] = [];
    let revision: number | undefined;
    for (let after: string | undefined; ;) {
      const page = await reports.access(after === undefined ? {} : { after });
      revision ??= page.revision;
      accounts.push(...page.accounts);
      after = page.next;
      if (after === undefined) break;
    }
    this.logger.info({ accounts: accounts.length }, 'learned anew who may enter');
    await this.book.replace(revision, accounts);
    // What was revoked meanwhile is not known: who is here shows again what opens the door.
    if (isGap) for (const listener of this.listeners) listener();
  }

  private revoke(accountId: string, credentialId: string | undefined): void {
    const now = this.clock.now();
    for (const [id, until] of this.revoked) if (until < now) this.revoked.delete(id);
    if (credentialId !== undefined) this.revoked.set(credentialId, now + revocationKeptMs);
    for (const listener of this.listeners) listener(accountId);
  }
}
