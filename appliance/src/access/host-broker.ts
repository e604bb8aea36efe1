import { connectionPermissions, type ProjectAccess } from '@rookery/fleet';
import type { Broker, ConatIdentity } from '@rookery/conat';
import { accountOfIdentity, identityNames } from '@rookery/fleet/contract';
import type { ProjectRepository } from '../projects/project.repository.js';
import type { ProjectRow } from '../database/entities/project.entity.js';
import type { AccessStore, AccessDifference } from './access-store.js';
import type { AccessSync, OpenedBy } from './access-sync.js';
import type { ProjectTokens } from './project-tokens.js';

/** Nothing for who is no account. */
function openedBy({ name, credential: credentialId }: ConatIdentity): OpenedBy[] {
  const accountId = accountOfIdentity(name);
  return accountId === undefined ? [] : [{ accountId, credentialId }];
}

/** States in which a project's container may run. */
const withContainer: readonly ProjectRow['state'][] = ['starting', 'running', 'stopping'];

export interface HostBrokerDependencies {
  readonly books: ProjectRepository;
  readonly access: AccessStore;
  readonly sync: AccessSync;
  readonly tokens: ProjectTokens;
}

/**
 * Who may do what on the host's broker, at every moment: an account what the hub has told, in
 * projects that are here; a project's programs as long as its container runs. Connections that are
 * open follow each change at once and are told why.
 */
export class HostBroker {
  private readonly here = new Map<string, ProjectRow['state']>();
  private broker: Broker | undefined;

  constructor(private readonly parts: HostBrokerDependencies) {}

  async open(): Promise<void> {
    const { books, access, sync, tokens } = this.parts;
    books.onChange((id) => void this.look(id));
    access.onChange((news) => this.follow(news));
    sync.onRevoked((ends) => this.cut(ends));
    sync.attachOpen(() => this.opened());
    for (const row of await books.list()) this.note(row.projectId, row);
    for (const id of tokens.projectIds) if (!this.mayRun(id)) await tokens.forget(id);
  }

  /** The broker is made with an authenticator that asks us, so it comes later. */
  attach(broker: Broker): void {
    this.broker = broker;
  }

  projectOf(token: string): string | null {
    const projectId = this.parts.tokens.projectOf(token);
    return projectId !== undefined && this.mayRun(projectId) ? projectId : null;
  }

  /** Null for an account that may enter nothing here. */
  projectsOf(accountId: string, credentialId?: string): readonly ProjectAccess[] | null {
    const { access, sync } = this.parts;
    if (credentialId !== undefined && sync.isRevoked(credentialId)) return null;
    const projects = access
      .projectsOf(accountId)
      .filter(({ projectId }) => this.here.has(projectId));
    return projects.length > 0 ? projects : null;
  }

  private mayRun(projectId: string): boolean {
    const state = this.here.get(projectId);
    return state !== undefined && withContainer.includes(state);
  }

  private async look(projectId: string): Promise<void> {
    const wasHere = this.here.has(projectId);
    // Until it is known to be here it counts as gone.
    const row = await this.parts.books.get(projectId).catch(() => undefined);
    this.note(projectId, row);
    if (!this.mayRun(projectId)) {
      this.broker?.disconnect(identityNames.project(projectId));
      await this.parts.tokens.forget(projectId);
    }
    if (wasHere !== this.here.has(projectId)) this.follow('all');
  }

  private note(projectId: string, row: ProjectRow | undefined): void {
    if (row && row.ingressState !== 'moved') this.here.set(projectId, row.state);
    else this.here.delete(projectId);
  }

  /** Who still may comes back at once, with something that is still good. */
  private cut(ends: (by: OpenedBy) => boolean): void {
    const { broker } = this;
    if (!broker) return;
    const names = new Set(
      this.opened()
        .filter(ends)
        .map(({ accountId }) => identityNames.account(accountId)),
    );
    for (const name of names) {
      broker.disconnect(name, 'revoked', (identity) => openedBy(identity).some(ends));
    }
  }

  private opened(): OpenedBy[] {
    return (this.broker?.identities() ?? []).flatMap(openedBy);
  }

  private follow(news: AccessDifference): void {
    const { broker } = this;
    if (!broker) return;
    for (const name of broker.identityNames()) {
      const accountId = accountOfIdentity(name);
      if (accountId === undefined || (news !== 'all' && !news.has(accountId))) continue;
      const projects = this.projectsOf(accountId);
      if (projects) {
        broker.updatePermissions(name, ({ onlySpace }) =>
          connectionPermissions(accountId, projects, onlySpace),
        );
      } else {
        broker.disconnect(name, this.parts.access.isCurrent ? 'revoked' : 'expired');
      }
    }
  }
}
