import type { ProjectAccess } from '@rookery/fleet';

interface Change {
  readonly revision: number;
  readonly accountId: string;
  readonly credentialId?: string;
}

/** The hub's rights for one host: what it has, and a log of what has changed. */
export class FakeAccess {
  revision = 7;
  /** Older changes are not known any more. */
  knownFrom = 0;
  pageSize = 100;
  /** Something else happens while pages are asked for. */
  onPage: () => void = () => undefined;
  asked: (number | undefined)[] = [];
  /** Said with the first page of everything. */
  lately: { accountId: string; credentialId: string }[] = [];
  onCredentials: () => void = () => undefined;
  private readonly grants = new Map<string, readonly ProjectAccess[]>();
  private readonly log: Change[] = [];

  set(accountId: string, projects: readonly ProjectAccess[]): void {
    if (projects.length > 0) this.grants.set(accountId, projects);
    else this.grants.delete(accountId);
    this.revision += 1;
    this.log.push({ revision: this.revision, accountId });
  }

  revoke(accountId: string, credentialId: string): void {
    this.revision += 1;
    this.log.push({ revision: this.revision, accountId, credentialId });
  }

  credentials(credentialIds: readonly string[]) {
    this.onCredentials();
    const gone = new Set(this.log.map(({ credentialId }) => credentialId));
    return { ended: credentialIds.filter((id) => gone.has(id)) };
  }

  answer(since?: number, after?: string) {
    this.asked.push(since);
    const { revision } = this;
    if (since === undefined || since < this.knownFrom) return this.page(after);
    const news = this.log.filter((change) => change.revision > since);
    const ids = [...new Set(news.map(({ accountId }) => accountId))].sort();
    const rest = ids.filter((id) => after === undefined || id > after);
    const page = rest.slice(0, this.pageSize);
    this.onPage();
    return {
      revision,
      whole: false,
      accounts: page.map((accountId) => ({
        accountId,
        projects: [...(this.grants.get(accountId) ?? [])],
      })),
      revoked: news.flatMap(({ accountId, credentialId }) =>
        credentialId === undefined || !page.includes(accountId)
          ? []
          : [{ accountId, credentialId }],
      ),
      ...(rest.length > page.length && { next: page.at(-1)! }),
    };
  }

  private page(after = '') {
    const all = [...this.grants].sort(([a], [b]) => (a < b ? -1 : 1));
    const rest = all.filter(([accountId]) => accountId > after);
    const accounts = rest
      .slice(0, this.pageSize)
      .map(([accountId, projects]) => ({ accountId, projects: [...projects] }));
    const next = rest.length > this.pageSize ? accounts.at(-1)!.accountId : undefined;
    const revoked = after === '' ? this.lately : [];
    return { revision: this.revision, whole: true, accounts, revoked, ...(next && { next }) };
  }
}
