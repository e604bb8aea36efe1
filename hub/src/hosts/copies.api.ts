import { Injectable } from '@nestjs/common';
import type { HostCopyView } from '@rookery/api';
import type { ProjectCopy } from '@rookery/fleet/contract';
import { DataSource, In, type EntityManager } from 'typeorm';
import type { z } from 'zod';
import { requireAdmin } from '../accounts/accounts.api.js';
import { actorOf } from '../accounts/auth.service.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { AuditService } from '../audit/audit.service.js';
import type { ProjectHost } from '../database/entities/host.entity.js';
import { Project } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { OperationsService } from '../operations/operations.service.js';
import { activeHost } from './active-host.js';
import { HostConnections } from './host-connections.js';

type Names = 'listHostCopies' | 'updateHostCopy' | 'deleteHostCopy' | 'adoptHostCopy';
type View = z.input<typeof HostCopyView>;

/** What hosts hold beside their own projects, for administrators: show it, keep it, end it. */
@Injectable()
export class HostCopiesApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listHostCopies: async ({ caller, params }) => {
      requireAdmin(caller);
      const host = await activeHost(this.dataSource.manager, params.hostId);
      const { copies } = await this.hosts.copies(host.id).list({});
      return { items: await this.views(host, copies) };
    },
    updateHostCopy: async ({ caller, params, body }) => {
      requireAdmin(caller);
      const host = await activeHost(this.dataSource.manager, params.hostId);
      const { projectId } = params;
      const { kept } = body;
      const copy = await this.copy(host, projectId);
      await this.hosts.copies(host.id).keep({ projectId, kept });
      await this.audit.record(this.dataSource.manager, {
        actor: actorOf(caller),
        action: 'host.keep-copy',
        subject: `host:${host.id}`,
        details: { projectId, kept },
      });
      const [view] = await this.views(host, [{ ...copy, kept }]);
      return view!;
    },
    deleteHostCopy: async ({ caller, idempotencyKey, params }) => {
      requireAdmin(caller);
      const host = await activeHost(this.dataSource.manager, params.hostId);
      const { projectId } = params;
      const copy = await this.copy(host, projectId);
      const operation = await this.dataSource.transaction(async (manager) => {
        const project = await lockProject(manager, projectId);
        if (project && project.deletedAt === null && project.hostId === host.id) {
          throw HubErrors.COPY_IS_OWNED({ host: host.name, projectId });
        }
        // Of a project that the hub does not know, the copy that was shown is the one that goes.
        const generation = project?.placementGeneration ?? copy.generation ?? 0;
        return this.operations.insert(manager, {
          kind: 'host.delete-copy',
          caller,
          idempotencyKey,
          hostId: host.id,
          ...(project && { projectId, lane: 'lifecycle' as const }),
          input: { hostId: host.id, projectId, generation },
        });
      });
      this.operations.nudge();
      return this.operations.started(operation, caller);
    },
    adoptHostCopy: async ({ caller, idempotencyKey, params }) => {
      requireAdmin(caller);
      const host = await activeHost(this.dataSource.manager, params.hostId);
      const { projectId } = params;
      const operation = await this.dataSource.transaction(async (manager) => {
        const project = await lockProject(manager, projectId);
        if (!project) throw HubErrors.PROJECT_UNKNOWN({ id: projectId });
        if (project.deletedAt !== null || project.hostId !== host.id) {
          const place = placeOf(project);
          throw HubErrors.COPY_NOT_OWNED({ host: host.name, projectId, place });
        }
        const start = project.desiredState === 'running';
        return this.operations.insert(manager, {
          kind: 'project.adopt',
          lane: 'lifecycle',
          caller,
          idempotencyKey,
          projectId,
          hostId: host.id,
          input: { projectId, before: project.state, start },
        });
      });
      this.operations.nudge();
      return this.operations.started(operation, caller);
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly operations: OperationsService,
    private readonly audit: AuditService,
    private readonly hosts: HostConnections,
  ) {}

  /** @throws COPY_UNKNOWN */
  private async copy(host: ProjectHost, projectId: string): Promise<ProjectCopy> {
    const { copies } = await this.hosts.copies(host.id).list({});
    const found = copies.find((each) => each.projectId === projectId);
    if (!found) throw HubErrors.COPY_UNKNOWN({ host: host.name, projectId });
    return found;
  }

  private async views(host: ProjectHost, copies: readonly ProjectCopy[]): Promise<View[]> {
    const ids = copies.map(({ projectId }) => projectId);
    const projects = await this.dataSource.manager.findBy(Project, { id: In(ids) });
    const byId = new Map(projects.map((each) => [each.id, each]));
    return copies.map((copy) => {
      const project = byId.get(copy.projectId);
      return {
        projectId: copy.projectId,
        name: project?.title ?? null,
        kept: copy.kept,
        generation: copy.generation ?? null,
        usedBytes: copy.usedBytes ?? null,
        belongs: belonging(project, host),
        owner: project?.deletedAt === null ? (project.host?.name ?? null) : null,
      };
    });
  }
}

function belonging(project: Project | undefined, host: ProjectHost): View['belongs'] {
  if (!project) return 'unknown';
  if (project.deletedAt !== null) return 'deleted';
  if (project.hostId === null) return 'archived';
  return project.hostId === host.id ? 'here' : 'elsewhere';
}

function placeOf(project: Project): string {
  if (project.deletedAt !== null) return 'was deleted';
  return project.hostId === null ? 'is archived' : `belongs to the host ${project.host?.name}`;
}

function lockProject(manager: EntityManager, id: string): Promise<Project | null> {
  return manager.findOne(Project, { where: { id }, lock: { mode: 'pessimistic_write' } });
}
