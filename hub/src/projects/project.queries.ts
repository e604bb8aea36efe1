import { Inject, Injectable, Optional } from '@nestjs/common';
import type { ProjectView } from '@rookery/api';
import { CodedError } from '@rookery/core';
import type { ProjectRole, ProjectSpec } from '@rookery/core/contract';
import { ProjectOrigins } from '@rookery/proxy';
import { DataSource, In, IsNull, type EntityManager } from 'typeorm';
import type { z } from 'zod';
import type { Caller } from '../accounts/auth.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { ProjectMove } from '../database/entities/operation.entity.js';
import { Collaborator, Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';

export const defaultImage = 'localhost/rookery/debian:13';

export type ProjectViewInput = z.input<typeof ProjectView>;

const rank: Record<ProjectRole, number> = { viewer: 0, editor: 1, owner: 2 };

export const imageOf = (project: Project): string =>
  project.rootfsImage ?? project.computeImage ?? defaultImage;

/** What a host is told of a project. */
export const specOf = (project: Project): ProjectSpec => ({
  image: imageOf(project),
  ...(project.imageDigest !== null && { imageDigest: project.imageDigest }),
  quota: project.runQuota,
  publicPorts: project.publicPorts,
  ...(project.egress !== null && { egress: project.egress }),
  ...(project.rescue && { rescue: true }),
});

/** Why a project has no host. */
export function homeless(project: Pick<Project, 'error'>): CodedError {
  if (project.error?.code === 'PROJECT_LOST') return new CodedError(project.error);
  return HubErrors.PROJECT_ARCHIVED();
}

/** Reads projects as callers may see them. */
@Injectable()
export class ProjectQueries {
  constructor(
    private readonly dataSource: DataSource,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
    @Optional() private readonly origins?: ProjectOrigins,
  ) {}

  /**
   * A project on which the caller has at least `role`.
   * A project of others is as unknown as none at all.
   * @param options.lock holds the row until the transaction ends.
   * @throws PROJECT_UNKNOWN, FORBIDDEN
   */
  async require(
    caller: Pick<Caller, 'accountId'>,
    projectId: string,
    role: ProjectRole,
    options: { manager?: EntityManager; lock?: boolean } = {},
  ): Promise<{ project: Project; role: ProjectRole }> {
    const manager = options.manager ?? this.dataSource.manager;
    const found = await manager.findOneBy(Collaborator, {
      projectId,
      accountId: caller.accountId,
    });
    const project =
      found &&
      (await manager.findOne(Project, {
        where: { id: projectId, deletedAt: IsNull() },
        ...(options.lock === true && { lock: { mode: 'pessimistic_write' } }),
      }));
    if (!found || !project) throw HubErrors.PROJECT_UNKNOWN({ id: projectId });
    if (rank[found.role] < rank[role]) throw HubErrors.FORBIDDEN({ role });
    return { project, role: found.role };
  }

  async roleOf(accountId: string, projectId: string): Promise<ProjectRole | undefined> {
    const found = await this.dataSource.manager.findOneBy(Collaborator, { projectId, accountId });
    return found?.role;
  }

  /** False for one that was deleted, or never came to be. */
  isThere(projectId: string): Promise<boolean> {
    return this.dataSource.manager.existsBy(Project, { id: projectId, deletedAt: IsNull() });
  }

  async view(
    project: Project,
    role: ProjectRole,
    manager: EntityManager = this.dataSource.manager,
  ): Promise<ProjectViewInput> {
    const [view] = await this.views([project], new Map([[project.id, role]]), manager);
    return view!;
  }

  async views(
    projects: readonly Project[],
    roles: ReadonlyMap<string, ProjectRole>,
    manager: EntityManager = this.dataSource.manager,
  ): Promise<ProjectViewInput[]> {
    const ids = projects.map((project) => project.id);
    const moves = await manager.findBy(ProjectMove, {
      projectId: In(ids),
      endedAt: IsNull(),
      reason: 'move',
    });
    const moveOf = new Map(moves.map((move) => [move.projectId, move]));
    return projects.map((project) => ({
      ...toProjectView(project, roles.get(project.id) ?? 'viewer', moveOf.get(project.id)),
      url: `${this.config.publicUrl}/${project.id}/port/`,
      appUrl: this.origins ? `${this.origins.originOf(project.id, '{port}')}/` : null,
    }));
  }
}

/** States in which no mode is told: the next start chooses it. */
const atRest: readonly Project['state'][] = ['created', 'stopped', 'archived'];

/** A project that a move has stopped does not run, though nobody asked for it to be stopped. */
function shownState({ state, moveStatus }: Project): Project['state'] {
  if (moveStatus?.fenced !== true || (state !== 'running' && state !== 'starting')) return state;
  if (moveStatus.state === 'cutover') return 'stopping';
  return moveStatus.state === 'activating' ? 'starting' : 'stopped';
}

function toProjectView(
  project: Project,
  role: ProjectRole,
  move: ProjectMove | undefined,
): Omit<ProjectViewInput, 'url' | 'appUrl'> {
  return {
    id: project.id,
    name: project.title,
    state: shownState(project),
    desiredState: project.desiredState,
    hostId: project.hostId,
    host: project.host?.name ?? null,
    placementGeneration: project.placementGeneration,
    image: imageOf(project),
    imageDigest: project.imageDigest,
    quota: project.runQuota,
    diskUsedBytes: project.diskUsedBytes,
    publicPorts: project.publicPorts,
    egress: project.egress,
    rescue: project.rescue && !atRest.includes(project.state),
    role,
    lastBackupAt: project.lastBackupAt?.toISOString() ?? null,
    createdAt: project.createdAt.toISOString(),
    move:
      move && move.fromHostId !== null
        ? {
            id: move.id,
            operationId: move.operationId,
            state: move.stuck ? 'stuck' : move.state,
            fromHostId: move.fromHostId,
            toHostId: move.toHostId,
          }
        : null,
    error: project.error,
  };
}
