import { CodedError, toCodedError } from '@rookery/core';
import type { BackupDriver } from './backup.driver.js';
import { BackupErrors } from './backup.errors.js';
import type { BackupJournal } from './backup.ports.js';
import type { RepositoryView } from '@rookery/fleet/contract';

/**
 * Lets a host work with one repository: the first that it met, or was told to adopt. An empty folder
 * in its place (a disk that is not mounted) is none, and another repository is not this one.
 */
export class RepositoryGate {
  private seen: RepositoryView | undefined;

  constructor(
    private readonly driver: BackupDriver,
    private readonly journal: BackupJournal,
  ) {}

  /** What the last look found; undefined before the first. */
  get last(): RepositoryView | undefined {
    return this.seen;
  }

  /** Before every use. @throws REPOSITORY_MISSING, REPOSITORY_CHANGED, REPOSITORY_UNREACHABLE */
  async open(): Promise<void> {
    await this.use(() => this.driver.open(), false);
  }

  /** @throws REPOSITORY_CHANGED unless `adopt` */
  async init(adopt: boolean): Promise<RepositoryView> {
    return this.use(() => this.driver.init(), adopt);
  }

  async view(): Promise<RepositoryView> {
    try {
      return await this.use(() => this.driver.open(), false);
    } catch (error) {
      if (this.seen) return this.seen;
      throw error;
    }
  }

  private async use(find: () => Promise<string>, adopt: boolean): Promise<RepositoryView> {
    const known = await this.journal.repositoryId();
    const name = this.driver.repository;
    let id: string | undefined;
    try {
      id = await find();
      if (known !== undefined && known !== id && !adopt) {
        throw BackupErrors.REPOSITORY_CHANGED({ repository: name, known, found: id });
      }
      if (known !== id) await this.journal.rememberRepository(id);
      this.seen = { name, state: 'ok', id, knownId: id };
      return this.seen;
    } catch (error) {
      const { code, message, status, retryable } = toCodedError(error).toJSON();
      this.seen = {
        name,
        state: stateOf(error),
        ...(id !== undefined && { id }),
        ...(known !== undefined && { knownId: known }),
        error: { code, message, status, retryable },
      };
      throw error;
    }
  }
}

function stateOf(error: unknown): RepositoryView['state'] {
  if (CodedError.is(error, 'REPOSITORY_MISSING')) return 'missing';
  return CodedError.is(error, 'REPOSITORY_CHANGED') ? 'changed' : 'unreachable';
}
