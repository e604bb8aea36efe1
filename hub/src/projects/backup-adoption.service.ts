import { Injectable } from '@nestjs/common';
import { BackupErrors } from '@rookery/backup';
import type { BackupRecord } from '@rookery/fleet/contract';
import { newId } from '@rookery/core';
import type { ProjectId, ProjectSpec } from '@rookery/core/contract';
import { DataSource, type EntityManager } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';
import { actorOf } from '../accounts/auth.service.js';
import { AuditService } from '../audit/audit.service.js';
import type { Operation } from '../database/entities/operation.entity.js';
import { ProjectHost } from '../database/entities/host.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HostConnections } from '../hosts/host-connections.js';
import { HubErrors } from '../hub.errors.js';
import { isUnique, OperationsService } from '../operations/operations.service.js';
import { BackupIndex } from './backup-index.service.js';
import { ProjectOperations } from './project-operations.service.js';
import { type RequestContext, type NewProject } from './project-request.js';

export interface AdoptionChoice {
  readonly backupId: string;
  readonly name?: string | undefined;
  /** Id or email of an account. */
  readonly owner?: string | undefined;
  readonly host?: string | undefined;
  readonly newId: boolean;
  readonly start: boolean;
}

/**
 * Makes projects of backups alone: of what was made elsewhere, or before the hub's database was lost.
 * What the hub would know of the project comes from the note in the backup.
 */
@Injectable()
export class BackupAdoption {
  constructor(
    private readonly dataSource: DataSource,
    private readonly hosts: HostConnections,
    private readonly operations: OperationsService,
    private readonly accounts: AccountsService,
    private readonly audit: AuditService,
    private readonly work: ProjectOperations,
    private readonly index: BackupIndex,
  ) {}

  /**
   * The project gets its own id again where it is free, so that its addresses, clones and further
   * backups go on; a deleted project's id is not.
   * @throws BACKUP_NOT_FOUND, PROJECT_KNOWN, PROJECT_COPY_FOUND and what placement throws
   */
  async adopt(
    asking: RequestContext,
    hostId: string,
    projectId: ProjectId,
    choice: AdoptionChoice,
  ): Promise<Operation> {
    const host = this.hosts.backups(hostId, { patienceMs: 0 });
    const { backups } = await host.list({ projectId });
    const backup = chosenOf(backups, choice.backupId);
    if (!backup) {
      const details = {
        backupId: choice.backupId,
        projectId,
        repository: 'the repository of that host',
      };
      throw BackupErrors.BACKUP_NOT_FOUND(details);
    }
    const { backupId } = backup;
    const { spec, name } = await host.describe({ projectId, backupId });
    // Later steps of the restore look for the next one in the index.
    await this.index.add(this.dataSource.manager, hostId, backups);
    const id = await this.idFor(projectId, choice.newId);
    const fresh = freshOf(spec, {
      id,
      host: choice.host ?? hostId,
      usedBytes: backup.bytes,
      start: choice.start,
      name: choice.name ?? name ?? `restored ${projectId.slice(0, 8)}`,
    });
    const from = { fromProjectId: projectId, backupId, latest: choice.backupId === 'latest' };
    try {
      return await this.work.begin((manager) => this.insert(manager, asking, fresh, choice, from));
    } catch (error) {
      // Two at once: the other one was first.
      if (!isUnique(error, 'projects_pkey')) throw error;
      throw HubErrors.PROJECT_KNOWN({ projectId, name: fresh.name });
    }
  }

  private async insert(
    manager: EntityManager,
    asking: RequestContext,
    fresh: NewProject,
    choice: AdoptionChoice,
    from: { fromProjectId: ProjectId; backupId: string; latest: boolean },
  ): Promise<Operation> {
    const { owner, start } = choice;
    const ownerId =
      owner === undefined ? asking.caller.accountId : (await this.accounts.find(manager, owner)).id;
    return this.work.insertProject(manager, asking, { ...fresh, ownerId }, async (made) => {
      await this.audit.record(manager, {
        actor: actorOf(asking.caller),
        action: 'backup.adopt',
        subject: `project:${made.id}`,
        details: { ...from, ownerId },
      });
      return this.operations.insert(manager, {
        kind: 'backup.restore',
        lane: 'lifecycle',
        ...asking,
        id: made.operationId,
        projectId: made.id,
        input: { ...from, projectId: made.id, start },
      });
    });
  }

  private async idFor(projectId: ProjectId, wantsNew: boolean): Promise<ProjectId> {
    if (wantsNew) return newId();
    const row = await this.dataSource.manager.findOneBy(Project, { id: projectId });
    if (row?.deletedAt === null) throw HubErrors.PROJECT_KNOWN({ projectId, name: row.title });
    if (row) return newId();
    await this.refuseCopies(projectId);
    return projectId;
  }

  /**
   * A host that was there before the database was lost may still have the project itself, newer than
   * any backup. One that is away now has an older copy when it comes back, which counts for nothing.
   */
  private async refuseCopies(projectId: ProjectId): Promise<void> {
    const hosts = await this.dataSource.manager.findBy(ProjectHost, { status: 'active' });
    const found = await Promise.all(
      hosts.map(async ({ id, name }) => {
        const view = await this.hosts
          .projects(id, { patienceMs: 0 })
          .get({ projectId })
          .catch(() => undefined);
        return view && name;
      }),
    );
    const host = found.find((name) => name !== undefined);
    if (host !== undefined) throw HubErrors.PROJECT_COPY_FOUND({ host, projectId });
  }
}

function chosenOf(backups: readonly BackupRecord[], id: string): BackupRecord | undefined {
  const newestFirst = [...backups].sort((a, b) => b.createdAt.localeCompare(a.createdAt));
  return id === 'latest'
    ? newestFirst[0]
    : newestFirst.find(({ backupId }) => backupId.startsWith(id));
}

function freshOf(
  spec: ProjectSpec,
  more: { id: string; name: string; host: string; usedBytes: number; start: boolean },
): NewProject {
  const { image, imageDigest = null, quota, publicPorts, egress = null } = spec;
  const { start, ...rest } = more;
  return {
    ...rest,
    image,
    imageDigest,
    quota,
    publicPorts,
    egress,
    isCopy: true,
    desiredState: start ? 'running' : 'stopped',
  };
}
