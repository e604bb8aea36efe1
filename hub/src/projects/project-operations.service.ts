import { Injectable } from '@nestjs/common';
import { newId } from '@rookery/core';
import { egressWithin, Quota, type Egress, type ProjectRole } from '@rookery/core/contract';
import { MoveErrors } from '@rookery/move';
import { StorageErrors } from '@rookery/storage';
import { DataSource, type EntityManager } from 'typeorm';
import { Operation, ProjectMove } from '../database/entities/operation.entity.js';
import { Collaborator, Project } from '../database/entities/project.entity.js';
import { ProjectHost } from '../database/entities/host.entity.js';
import {
  PlacementService,
  type ChosenHost,
  type PlacementRequest,
} from '../hosts/placement.service.js';
import { HubErrors } from '../hub.errors.js';
import { isLaneTaken, OperationsService } from '../operations/operations.service.js';
import { isAlive, type RequestContext, type NewProject } from './project-request.js';
import { defaultImage, homeless, imageOf, ProjectQueries } from './project.queries.js';

/** Begins the long work of projects: each method is one transaction with its checks inside. */
@Injectable()
export class ProjectOperations {
  constructor(
    private readonly dataSource: DataSource,
    private readonly operations: OperationsService,
    private readonly placement: PlacementService,
    private readonly queries: ProjectQueries,
  ) {}

  async create(
    asking: RequestContext,
    choice: {
      name: string;
      image: string | undefined;
      quota: Quota;
      egress: Egress | null;
      host?: string | undefined;
    },
    start: boolean,
  ): Promise<Operation> {
    const { name, image = defaultImage, quota, egress, host } = choice;
    return this.begin(async (manager) => {
      const fresh = {
        name,
        image,
        quota,
        egress,
        host,
        desiredState: start ? 'running' : 'stopped',
      } as const;
      return this.insertProject(manager, asking, fresh, (project) =>
        this.operations.insert(manager, {
          kind: 'project.create',
          lane: 'lifecycle',
          ...asking,
          projectId: project.id,
          id: project.operationId,
          input: { projectId: project.id, start },
        }),
      );
    });
  }

  /**
   * Starting what starts already is the same start, if it is in the same mode.
   * @param rescue with a clean root filesystem, its own mounted aside
   */
  async start(asking: RequestContext, projectId: string, rescue: boolean): Promise<Operation> {
    return this.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId);
      const active = await this.operations.active(manager, projectId);
      if (active && startsIt(active, rescue)) return active;
      const input = { projectId, before: project.state, rescue };
      const operation = await this.operations.insert(manager, {
        kind: 'project.start',
        lane: 'lifecycle',
        ...asking,
        projectId,
        input,
      });
      await manager.update(Project, projectId, { desiredState: 'running' });
      return operation;
    });
  }

  async stop(asking: RequestContext, projectId: string, graceMs: number): Promise<Operation> {
    return this.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId);
      const active = await this.operations.active(manager, projectId);
      if (active?.kind === 'project.stop') return active;
      const input = { projectId, graceMs, before: project.state };
      const operation = await this.operations.insert(manager, {
        kind: 'project.stop',
        lane: 'lifecycle',
        ...asking,
        projectId,
        input,
      });
      await manager.update(Project, projectId, { desiredState: 'stopped' });
      return operation;
    });
  }

  async resetRootfs(
    asking: RequestContext,
    projectId: string,
    discard: boolean,
  ): Promise<Operation> {
    return this.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId);
      // One that cannot start is to run all the same.
      const wasRunning = isAlive(project) || project.desiredState === 'running';
      return this.operations.insert(manager, {
        kind: 'project.reset-rootfs',
        lane: 'lifecycle',
        ...asking,
        projectId,
        input: { projectId, wasRunning, discard },
      });
    });
  }

  async delete(asking: RequestContext, projectId: string, force: boolean): Promise<Operation> {
    return this.begin(async (manager) => {
      const { project } = await this.queries.require(asking.caller, projectId, 'owner', {
        manager,
        lock: true,
      });
      await this.operations.refuseConflict(manager, projectId, {
        kind: 'project.delete',
        lane: 'lifecycle',
      });
      if (isAlive(project) && !force) throw HubErrors.PROJECT_RUNNING();
      const input = { projectId, before: project.state };
      return this.operations.insert(manager, {
        kind: 'project.delete',
        lane: 'lifecycle',
        ...asking,
        projectId,
        input,
      });
    });
  }

  /** @throws MOVE_SAME_HOST, MOVE_UNSUPPORTED and what placement throws */
  async move(
    asking: RequestContext,
    projectId: string,
    host: string | undefined,
  ): Promise<Operation> {
    return this.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId);
      return this.insertMove(manager, project, { host, asking });
    });
  }

  /** Begins a move in a transaction that holds the project's row. */
  async insertMove(
    manager: EntityManager,
    project: Project,
    options: { host?: string | undefined; asking?: RequestContext; parentId?: string },
  ): Promise<Operation> {
    const { host, asking, parentId } = options;
    const { id: projectId, hostId } = project;
    if (hostId === null) throw homeless(project);
    await this.operations.refuseConflict(manager, projectId, {
      kind: 'project.move',
      lane: 'lifecycle',
    });
    if (host !== undefined) await this.refuseSameHost(manager, host, hostId);
    const request = this.placementOf(project, { host, exceptHostId: hostId });
    const target = await this.placement.place(manager, request);
    await this.refuseUnmovable(manager, [hostId, target.id]);
    const moveId = newId();
    const operation = await this.operations.insert(manager, {
      kind: 'project.move',
      lane: 'lifecycle',
      ...asking,
      projectId,
      hostId: target.id,
      id: request.operationId,
      ...(parentId !== undefined && { parentId }),
      input: { moveId, projectId, fromHostId: hostId, toHostId: target.id },
    });
    await this.insertMoveRow(manager, operation, project, {
      moveId,
      toHostId: target.id,
      reason: 'move',
    });
    await this.placement.reserve(manager, request, target.id);
    return operation;
  }

  async clone(
    asking: RequestContext,
    fromProjectId: string,
    choice: {
      name: string;
      snapshot?: string | undefined;
      host?: string | undefined;
      start: boolean;
    },
  ): Promise<Operation> {
    const { name, snapshot, host, start } = choice;
    return this.begin(async (manager) => {
      const source = await this.lock(manager, asking, fromProjectId);
      const owner = await this.placement.find(manager, source.hostId!);
      if (!owner.online) throw HubErrors.HOST_OFFLINE({ host: owner.name });
      const target = host === undefined ? undefined : await this.placement.find(manager, host);
      const elsewhere = target !== undefined && target.id !== owner.id;
      const fresh: NewProject = {
        name,
        image: imageOf(source),
        imageDigest: source.imageDigest,
        onHost: owner,
        quota: source.runQuota,
        egress: source.egress,
        ...(elsewhere && { toHost: target }),
        usedBytes: source.diskUsedBytes ?? undefined,
        desiredState: start ? 'running' : 'stopped',
      };
      return this.insertProject(manager, asking, fresh, (project) =>
        this.operations.insert(manager, {
          kind: 'project.clone',
          lane: 'lifecycle',
          ...asking,
          projectId: project.id,
          id: project.operationId,
          input: {
            projectId: project.id,
            fromProjectId,
            start,
            ...(snapshot !== undefined && { snapshot }),
            ...(elsewhere && { toHost: target.id }),
          },
        }),
      );
    });
  }

  async archive(asking: RequestContext, projectId: string): Promise<Operation> {
    return this.begin(async (manager) => {
      const project = await this.lock(manager, asking, projectId);
      return this.operations.insert(manager, {
        kind: 'project.archive',
        lane: 'lifecycle',
        ...asking,
        projectId,
        input: {
          projectId,
          wasRunning: isAlive(project),
          hostId: project.hostId!,
          fromGeneration: project.placementGeneration,
        },
      });
    });
  }

  /** The row that the commit transaction asks; one active a project. */
  async insertMoveRow(
    manager: EntityManager,
    operation: Operation,
    project: Project,
    move: { moveId: string; toHostId: string; reason: 'move' | 'restore' },
  ): Promise<void> {
    await manager.insert(ProjectMove, {
      id: move.moveId,
      operationId: operation.id,
      projectId: project.id,
      reason: move.reason,
      state: 'queued',
      details: {},
      toHostId: move.toHostId,
      fromHostId: project.hostId,
      fromGeneration: project.placementGeneration,
    });
    if (move.reason === 'move') {
      await manager.update(Project, project.id, {
        moveStatus: { operationId: operation.id, state: 'queued' },
      });
    }
  }

  placementOf(
    project: Project,
    more: { host?: string | undefined; exceptHostId?: string | null },
  ): PlacementRequest {
    return {
      operationId: newId(),
      projectId: project.id,
      quota: project.runQuota,
      usedBytes: project.diskUsedBytes ?? undefined,
      image: imageOf(project),
      imageDigest: project.imageDigest,
      ...more,
    };
  }

  /** A new project, placed, with its owner and room, and the operation that makes it. */
  async insertProject(
    manager: EntityManager,
    asking: RequestContext,
    fresh: NewProject,
    operate: (made: { id: string; operationId: string }) => Promise<Operation>,
  ): Promise<Operation> {
    const request: PlacementRequest = {
      operationId: newId(),
      projectId: fresh.id ?? newId(),
      quota: fresh.quota,
      host: fresh.host,
      image: fresh.image,
      imageDigest: fresh.imageDigest ?? null,
      usedBytes: fresh.usedBytes,
    };
    const host = await this.placeNew(manager, request, fresh);
    // A copy keeps what its source has; only a choice is refused.
    const isCopy = fresh.isCopy === true || fresh.onHost !== undefined;
    if (fresh.egress && !isCopy) await this.refuseEgress(manager, host.id, fresh.egress);
    const id = request.projectId;
    await manager.insert(Project, {
      id,
      title: fresh.name,
      hostId: host.id,
      placementGeneration: 1,
      host: { name: host.name, publicUrl: host.publicUrl },
      rootfsImage: fresh.image,
      imageDigest: fresh.imageDigest ?? null,
      runQuota: fresh.quota,
      egress: fresh.egress,
      publicPorts: fresh.publicPorts ?? [],
      state: 'created',
      provisioned: false,
      desiredState: fresh.desiredState,
    });
    const role: ProjectRole = 'owner';
    const accountId = fresh.ownerId ?? asking.caller.accountId;
    await manager.insert(Collaborator, { projectId: id, accountId, role });
    const operation = await operate({ id, operationId: request.operationId });
    for (const { id: hostId } of [host, ...(fresh.toHost ? [fresh.toHost] : [])]) {
      await this.placement.reserve(manager, request, hostId);
    }
    return operation;
  }

  /** A clone that ends elsewhere is a guest where it begins: only its destination must hold it. */
  private async placeNew(
    manager: EntityManager,
    request: PlacementRequest,
    { onHost, toHost }: NewProject,
  ): Promise<ChosenHost> {
    if (!onHost) return this.placement.place(manager, request);
    if (toHost) await this.placement.place(manager, { ...request, host: toHost.id });
    else await this.placement.place(manager, { ...request, host: onHost.id, stays: true });
    return onHost;
  }

  /**
   * A project may be held to less than its host allows, never to more. A host of an earlier release
   * does not say what it allows, and a move to a stricter one makes the project's policy stricter.
   * @throws EGRESS_NOT_ALLOWED
   */
  async refuseEgress(
    manager: EntityManager,
    hostId: string | null,
    { mode }: Egress,
  ): Promise<void> {
    const host = hostId === null ? null : await manager.findOneBy(ProjectHost, { id: hostId });
    const most = host?.capabilities.egress;
    if (host && most !== undefined && !egressWithin(mode, most)) {
      throw HubErrors.EGRESS_NOT_ALLOWED({ host: host.name, most, mode });
    }
  }

  /** @throws QUOTA_OVER_HOST */
  promiseQuota(
    manager: EntityManager,
    operation: Operation,
    project: Project,
    wanted: Quota,
  ): Promise<void> {
    return this.placement.promise(manager, operation.id, project, wanted);
  }

  /** A project that the caller may change, locked. @throws PROJECT_ARCHIVED */
  private async lock(
    manager: EntityManager,
    asking: RequestContext,
    projectId: string,
  ): Promise<Project> {
    const { project } = await this.queries.require(asking.caller, projectId, 'editor', {
      manager,
      lock: true,
    });
    if (project.hostId === null) throw homeless(project);
    return project;
  }

  /**
   * One transaction; the workers are told after its commit. Where other work began meanwhile it is
   * tried once more, and then sees whose it is.
   */
  async begin(task: (manager: EntityManager) => Promise<Operation>): Promise<Operation> {
    const attempt = (): Promise<Operation> => this.dataSource.transaction(task);
    const operation = await attempt().catch((error: unknown) => {
      if (!isLaneTaken(error)) throw error;
      return attempt();
    });
    this.operations.nudge();
    return operation;
  }

  private async refuseSameHost(
    manager: EntityManager,
    host: string,
    hostId: string,
  ): Promise<void> {
    const target = await this.placement.find(manager, host);
    if (target.id !== hostId) return;
    throw MoveErrors.MOVE_SAME_HOST({ hostId, host: target.name });
  }

  private async refuseUnmovable(manager: EntityManager, hostIds: string[]): Promise<void> {
    for (const id of hostIds) {
      const host = await manager.findOneByOrFail(ProjectHost, { id });
      if (!host.capabilities.sendReceive) throw StorageErrors.MOVE_UNSUPPORTED({ host: host.name });
    }
  }
}

function startsIt({ kind, input }: Operation, rescue: boolean): boolean {
  if (kind === 'project.start') return (input['rescue'] === true) === rescue;
  return kind === 'project.create' && input['start'] === true && !rescue;
}
