import { Injectable } from '@nestjs/common';
import type { BackupRecord, HostProjectView } from '@rookery/fleet/contract';
import type { Fence } from '@rookery/core/contract';
import { DataSource, In, Not, type EntityManager } from 'typeorm';
import { AuditService } from '../audit/audit.service.js';
import { Operation } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { Backup } from '../database/entities/record.entity.js';
import { HubErrors } from '../hub.errors.js';
import { ofSameRepository } from './backup-index.service.js';

export type ProjectChange = Partial<
  Pick<
    Project,
    | 'state'
    | 'error'
    | 'imageDigest'
    | 'provisioned'
    | 'rescue'
    | 'runQuota'
    | 'publicPorts'
    | 'egress'
    | 'desiredState'
    | 'deletedAt'
    | 'hostId'
    | 'host'
    | 'placementGeneration'
    | 'moveStatus'
  >
>;

/** Where a saga stands when it writes: a superseded attempt must change nothing. */
export type Writer = Pick<Fence, 'operationId' | 'attempt'>;

/** What sagas write about projects. Every write is refused to an attempt that was superseded. */
@Injectable()
export class ProjectRepository {
  constructor(
    private readonly dataSource: DataSource,
    private readonly audit: AuditService,
  ) {}

  async load(projectId: string): Promise<Project> {
    const project = await this.dataSource.manager.findOneBy(Project, { id: projectId });
    if (!project) throw HubErrors.PROJECT_UNKNOWN({ id: projectId });
    return project;
  }

  operation(id: string): Promise<Operation> {
    return this.dataSource.manager.findOneByOrFail(Operation, { id });
  }

  /**
   * The project as no write of this attempt will change it that is refused once it turned back: one
   * whose answer was lost has ended, or ends with nothing.
   */
  async settled(writer: Writer, projectId: string): Promise<Project> {
    return this.dataSource.transaction(async (manager) => {
      await this.holdAttempt(manager, writer);
      return manager.findOneByOrFail(Project, { id: projectId });
    });
  }

  /**
   * @param options.unlessUndoing also refused once the operation has turned back: a write that was
   * thought lost must not come in behind its undo
   * @throws PROJECT_STATE_CHANGED for a superseded attempt or another generation.
   */
  async change(
    writer: Writer,
    at: Pick<Project, 'id' | 'placementGeneration'>,
    change: ProjectChange,
    options: { readonly unlessUndoing?: boolean } = {},
  ): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      const operation = await this.holdAttempt(manager, writer);
      if (options.unlessUndoing === true && isUndoing(operation)) throw changed(writer);
      const { affected } = await manager.update(
        Project,
        { id: at.id, placementGeneration: at.placementGeneration },
        { ...change, ...(change.state !== undefined && { stateSetAt: () => 'now()' }) },
      );
      if (affected === 0) throw changed(writer);
    });
  }

  /** Takes over what a host answered. */
  async fromHost(
    writer: Writer,
    at: Pick<Project, 'id' | 'placementGeneration'>,
    view: HostProjectView,
    more: ProjectChange = {},
  ): Promise<void> {
    await this.change(writer, at, {
      state: view.state,
      error: view.error ?? null,
      provisioned: true,
      rescue: view.spec.rescue === true,
      ...(view.spec.imageDigest !== undefined && { imageDigest: view.spec.imageDigest }),
      ...more,
    });
  }

  async addBackup(writer: Writer, hostId: string, record: BackupRecord): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      await this.holdAttempt(manager, writer);
      const { projectId, driver, repository, bytes, files, bytesAdded, durationMs, tags } = record;
      const createdAt = new Date(record.createdAt);
      await manager.upsert(
        Backup,
        {
          id: record.backupId,
          projectId,
          hostId,
          driver,
          repository,
          bytes,
          files,
          bytesAdded,
          durationMs,
          tags,
          createdAt,
        },
        ['id', 'projectId'],
      );
      await manager.query(
        `UPDATE projects SET last_backup_at = greatest(last_backup_at, $2) WHERE id = $1`,
        [projectId, createdAt],
      );
      await this.audit.record(manager, {
        actor: 'hub',
        action: 'backup.recorded',
        subject: `project:${projectId}`,
        details: { backupId: record.backupId, repository, bytes },
      });
    });
  }

  /**
   * The host's repository does not hold it. A row of another repository stays.
   * @returns whether the row went
   */
  async dropBackup(writer: Writer, hostId: string, projectId: string, id: string) {
    return this.dataSource.transaction(async (manager) => {
      await this.holdAttempt(manager, writer);
      const [, dropped] = await manager.query<[unknown, number]>(
        `DELETE FROM backups d USING backups b LEFT JOIN project_hosts o ON o.id = b.host_id,
           project_hosts h
         WHERE b.project_id = $1 AND b.id = $2 AND h.id = $3 AND ${ofSameRepository}
           AND d.project_id = b.project_id AND d.id = b.id`,
        [projectId, id, hostId],
      );
      return dropped > 0;
    });
  }

  async newestBackup(projectId: string, except: readonly string[]): Promise<string | undefined> {
    const found = await this.dataSource.manager.findOne(Backup, {
      where: { projectId, id: Not(In(except)) },
      order: { createdAt: 'DESC' },
    });
    return found?.id;
  }

  /**
   * Holds the operation's row until the transaction ends: while it does, nobody can claim it anew.
   * @throws PROJECT_STATE_CHANGED
   */
  async holdAttempt(manager: EntityManager, writer: Writer): Promise<Operation> {
    const operation = await manager.findOne(Operation, {
      where: { id: writer.operationId, attempt: writer.attempt },
      lock: { mode: 'pessimistic_write' },
    });
    if (!operation || operation.endedAt !== null) throw changed(writer);
    return operation;
  }
}

const isUndoing = ({ saga }: Operation): boolean => saga?.['direction'] === 'undoing';

const changed = ({ operationId }: Writer): Error =>
  HubErrors.PROJECT_STATE_CHANGED({ operationId });
