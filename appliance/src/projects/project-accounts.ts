import { join } from 'node:path';
import {
  AccountDirectory,
  spaceAccount,
  type JetStream,
  type JetStreamAccount,
} from '@rookery/jetstream';
import { projectSpaceRoot } from '@rookery/fleet/contract';
import { KeyedLock, type Logger } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import type { StorageDriver } from '@rookery/storage';
import type { ProjectRow } from '../database/entities/project.entity.js';
import type { ProjectRepository } from './project.repository.js';

const fileName = 'conat.sqlite';

/** A restore that has not ended is not a project yet; one that left is served elsewhere. */
const isHere = (row: ProjectRow | undefined): row is ProjectRow =>
  row !== undefined && row.generation >= 0 && row.ingressState !== 'moved';

const isClosed = (row: ProjectRow): boolean =>
  row.fencedBy !== null || row.restoringBy !== null || row.shutOutBy !== null;

/** Persistence follows the books: whose store is served, closed for a move or restore, or gone. */
export class ProjectAccounts extends AccountDirectory {
  private readonly locks = new KeyedLock();
  /** Projects whose store is closed for a while, and by how many. */
  private readonly held = new Map<ProjectId, number>();
  private jetStream: JetStream | null = null;

  constructor(
    private readonly books: ProjectRepository,
    private readonly storage: StorageDriver,
    private readonly logger: Logger,
  ) {
    super();
  }

  /** Those that are served from the start; the closed ones follow with {@link attach}. */
  async list(): Promise<readonly JetStreamAccount[]> {
    const rows = (await this.books.list()).filter((row) => isHere(row) && !isClosed(row));
    const accounts = await Promise.all(rows.map(({ projectId }) => this.account(projectId)));
    return accounts.filter((account) => account !== null);
  }

  /** From here on changes in the books reach it. */
  async attach(jetStream: JetStream): Promise<void> {
    this.jetStream = jetStream;
    this.books.onChange((projectId) => {
      this.settle(projectId).catch((error: unknown) => {
        this.logger.error({ err: error, projectId }, 'persistence could not follow the books');
      });
    });
    for (const { projectId } of await this.books.list()) await this.settle(projectId);
  }

  /** When it resolves, the project's store is as the books say: a closed one is one whole file. */
  settle(projectId: ProjectId): Promise<void> {
    return this.locks.run(projectId, async () => {
      const { jetStream } = this;
      if (!jetStream) return;
      const row = await this.books.get(projectId);
      if (!isHere(row)) return jetStream.drop(projectId);
      const fenced = isClosed(row) || this.held.has(projectId);
      if (!jetStream.has(projectId)) {
        const account = await this.account(projectId);
        if (account) await jetStream.open(account, { fenced });
      } else if (fenced) await jetStream.fence(projectId);
      else await jetStream.unfence(projectId);
    });
  }

  /** For what reads the file as it lies there, where storage has no snapshots. */
  async whileClosed<T>(projectId: ProjectId, task: () => Promise<T>): Promise<T> {
    this.held.set(projectId, (this.held.get(projectId) ?? 0) + 1);
    try {
      await this.settle(projectId);
      return await task();
    } finally {
      const others = this.held.get(projectId)! - 1;
      if (others > 0) this.held.set(projectId, others);
      else this.held.delete(projectId);
      await this.settle(projectId);
    }
  }

  private async account(projectId: ProjectId): Promise<JetStreamAccount | null> {
    const volume = await this.storage.volume(projectId);
    const space = { root: projectSpaceRoot, id: projectId };
    return volume ? spaceAccount(space, join(volume.paths.persistence, fileName)) : null;
  }
}
