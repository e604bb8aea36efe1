import { Injectable } from '@nestjs/common';
import { BackupErrors } from '@rookery/backup';
import { CodedError, newId } from '@rookery/core';
import { type EntityManager } from 'typeorm';
import type { Operation } from '../database/entities/operation.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { Backup } from '../database/entities/record.entity.js';
import {
  PlacementService,
  type ChosenHost,
  type PlacementRequest,
} from '../hosts/placement.service.js';
import { HubErrors } from '../hub.errors.js';
import { OperationsService } from '../operations/operations.service.js';
import { BackupIndex } from './backup-index.service.js';
import { homeless, imageOf, ProjectQueries } from './project.queries.js';
import { ProjectOperations } from './project-operations.service.js';
import { isAlive, shouldRun, type RequestContext } from './project-request.js';

export interface RestoreChoice {
  readonly host?: string | undefined;
  readonly path?: string | undefined;
  readonly replace: boolean;
  readonly discard?: boolean | undefined;
  readonly name?: string | undefined;
  readonly start: boolean;
}

interface Chosen {
  readonly backup: Backup;
  /** Not this one in particular: when it is gone, the next will do. */
  readonly latest: boolean;
}

/** Begins what brings content back: from snapshots, from backups, from the archive. */
@Injectable()
export class RestoreOperations {
  constructor(
    private readonly operations: OperationsService,
    private readonly placement: PlacementService,
    private readonly queries: ProjectQueries,
    private readonly work: ProjectOperations,
    private readonly index: BackupIndex,
  ) {}

  async snapshot(
    asking: RequestContext,
    projectId: string,
    name: string,
    path: string | undefined,
  ): Promise<Operation> {
    return this.work.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId, 'editor');
      if (project.hostId === null) throw homeless(project);
      return this.operations.insert(manager, {
        kind: 'snapshot.restore',
        lane: 'lifecycle',
        ...asking,
        projectId,
        input: {
          projectId,
          name,
          wasRunning: isAlive(project),
          ...(path !== undefined && { path }),
        },
      });
    });
  }

  async backUp(asking: RequestContext, projectId: string): Promise<Operation> {
    return this.work.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId, 'editor');
      if (project.hostId === null) throw homeless(project);
      return this.operations.insert(manager, {
        kind: 'backup.run',
        lane: 'backup',
        ...asking,
        projectId,
        input: { projectId, tags: [] },
      });
    });
  }

  /** Into a new project, in place of the old one, or one path of it. */
  async backup(
    asking: RequestContext,
    projectId: string,
    backupId: string,
    choice: RestoreChoice,
  ): Promise<Operation> {
    await this.look(asking, projectId);
    return this.work.begin(async (manager) => {
      const role = choice.replace ? 'owner' : 'editor';
      const project = await this.lock(manager, asking, projectId, role);
      const backup = await this.find(manager, projectId, backupId);
      const latest = backupId === 'latest';
      if (choice.path !== undefined) {
        return this.path(manager, asking, project, { backup, latest, path: choice.path });
      }
      if (choice.replace)
        return this.replace(manager, asking, project, { backup, latest, ...choice });
      return this.intoNew(manager, asking, project, { backup, latest, ...choice });
    });
  }

  async rehydrate(
    asking: RequestContext,
    projectId: string,
    choice: { host?: string | undefined; start: boolean },
  ): Promise<Operation> {
    await this.look(asking, projectId);
    return this.work.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId, 'editor');
      if (project.state !== 'archived') throw HubErrors.PROJECT_NOT_ARCHIVED();
      const backup = await this.find(manager, projectId, 'latest');
      return this.replace(manager, asking, project, { backup, latest: true, ...choice });
    });
  }

  /** "latest" is the newest that the repository still holds, whatever the index says. */
  private async look({ caller }: RequestContext, projectId: string): Promise<void> {
    await this.queries.require(caller, projectId, 'editor');
    await this.index.refresh(projectId);
  }

  private async path(
    manager: EntityManager,
    asking: RequestContext,
    project: Project,
    what: Chosen & { path: string },
  ): Promise<Operation> {
    if (project.hostId === null) throw homeless(project);
    const { id: projectId } = project;
    return this.operations.insert(manager, {
      kind: 'backup.restore-path',
      lane: 'lifecycle',
      ...asking,
      projectId,
      input: {
        projectId,
        fromProjectId: projectId,
        path: what.path,
        backupId: what.backup.id,
        latest: what.latest,
      },
    });
  }

  private async intoNew(
    manager: EntityManager,
    asking: RequestContext,
    project: Project,
    choice: Omit<RestoreChoice, 'path' | 'replace'> & Chosen,
  ): Promise<Operation> {
    const {
      backup,
      latest,
      name = `${project.title} (restored)`.slice(0, 100),
      host,
      start,
    } = choice;
    const fresh = {
      name,
      host,
      image: imageOf(project),
      imageDigest: project.imageDigest,
      quota: project.runQuota,
      egress: project.egress,
      usedBytes: backup.bytes,
      desiredState: start ? ('running' as const) : ('stopped' as const),
    };
    return this.work.insertProject(manager, asking, fresh, (made) =>
      this.operations.insert(manager, {
        kind: 'backup.restore',
        lane: 'lifecycle',
        ...asking,
        id: made.operationId,
        projectId: made.id,
        input: {
          projectId: made.id,
          fromProjectId: project.id,
          start,
          backupId: backup.id,
          latest,
        },
      }),
    );
  }

  private async replace(
    manager: EntityManager,
    asking: RequestContext,
    project: Project,
    choice: Chosen & {
      host?: string | undefined;
      start: boolean;
      discard?: boolean | undefined;
    },
  ): Promise<Operation> {
    const { id: projectId, hostId } = project;
    await this.operations.refuseConflict(manager, projectId, {
      kind: 'backup.replace',
      lane: 'lifecycle',
    });
    const request = {
      ...this.work.placementOf(project, { host: choice.host }),
      usedBytes: choice.backup.bytes,
    };
    const target = await this.placeAtHome(manager, request, hostId);
    const moveId = newId();
    const here = target.id === hostId;
    const operation = await this.operations.insert(manager, {
      kind: here ? 'backup.replace-here' : 'backup.replace',
      lane: 'lifecycle',
      ...asking,
      projectId,
      hostId: target.id,
      id: request.operationId,
      input: {
        projectId,
        moveId,
        fromHostId: hostId,
        toHostId: target.id,
        fromGeneration: project.placementGeneration,
        fromProjectId: projectId,
        backupId: choice.backup.id,
        latest: choice.latest,
        wasRunning: shouldRun(project),
        start: choice.start,
        discard: choice.discard === true,
      },
    });
    await this.work.insertMoveRow(manager, operation, project, {
      moveId,
      toHostId: target.id,
      reason: 'restore',
    });
    if (project.state === 'archived') {
      await manager.update(Project, projectId, {
        desiredState: choice.start ? 'running' : 'stopped',
      });
    }
    await this.placement.reserve(manager, request, target.id);
    return operation;
  }

  /** Where the project is, its snapshots stay; on another host only if that one cannot take it. */
  private async placeAtHome(
    manager: EntityManager,
    request: PlacementRequest,
    hostId: string | null,
  ): Promise<ChosenHost> {
    if (request.host === undefined && hostId !== null) {
      try {
        return await this.placement.place(manager, { ...request, host: hostId });
      } catch (error) {
        if (!(error instanceof CodedError)) throw error;
      }
    }
    return this.placement.place(manager, request);
  }

  /** @throws BACKUP_NOT_FOUND */
  private async find(manager: EntityManager, projectId: string, id: string): Promise<Backup> {
    const backup = await manager.findOne(Backup, {
      where: id === 'latest' ? { projectId } : { projectId, id },
      order: { createdAt: 'DESC' },
    });
    if (!backup)
      throw BackupErrors.BACKUP_NOT_FOUND({
        backupId: id,
        projectId,
        repository: 'any repository that the hub knows',
      });
    return backup;
  }

  private async lock(
    manager: EntityManager,
    asking: RequestContext,
    projectId: string,
    role: 'owner' | 'editor',
  ): Promise<Project> {
    const options = { manager, lock: true };
    return (await this.queries.require(asking.caller, projectId, role, options)).project;
  }
}
