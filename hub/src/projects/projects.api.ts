import { Injectable } from '@nestjs/common';
import { AuditService } from '../audit/audit.service.js';
import { actorOf } from '../accounts/auth.service.js';
import { pageOfRows } from '../api/pages.js';
import type { ApiCall, ApiHandlers, ApiPart } from '../api/handlers.js';
import { Project } from '../database/entities/project.entity.js';
import { PlacementDecision } from '../database/entities/placement.entity.js';
import { HostConnections } from '../hosts/host-connections.js';
import { HubErrors } from '../hub.errors.js';
import { OperationsService } from '../operations/operations.service.js';
import type { Api } from '@rookery/api';
import type { ProjectRole } from '@rookery/core/contract';
import { DataSource, In } from 'typeorm';
import { ProjectQueries, type ProjectViewInput } from './project.queries.js';
import { ProjectOperations } from './project-operations.service.js';
import { quotaWith } from './project-request.js';

type Names = 'listProjects' | 'getProject' | 'updateProject' | 'getStats' | 'listPlacements';

const updateMsMax = 60_000;

/** Reading projects, and what is changed at once. */
@Injectable()
export class ProjectsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listProjects: (call) => this.list(call),
    getProject: async ({ caller, params }) => {
      const { project, role } = await this.queries.require(caller, params.projectId, 'viewer');
      return this.queries.view(project, role);
    },
    updateProject: (call) => this.update(call),
    getStats: async ({ caller, params, signal }) => {
      const { project } = await this.queries.require(caller, params.projectId, 'viewer');
      if (project.hostId === null) throw HubErrors.PROJECT_ARCHIVED();
      const host = this.hosts.projects(project.hostId, { patienceMs: 0 });
      return host.stats({ projectId: project.id }, { signal });
    },
    listPlacements: async ({ caller, params, query }) => {
      await this.queries.require(caller, params.projectId, 'viewer');
      const page = await pageOfRows<{ id: string }>(
        this.dataSource.manager,
        {
          select: 'SELECT id, created_at FROM placement_decisions WHERE project_id = $1',
          parameters: [params.projectId],
          by: ['created_at', 'id'],
          newestFirst: true,
        },
        query,
      );
      const rows = await this.inOrder(PlacementDecision, page.items);
      return {
        items: rows.map((row) => ({ ...row, createdAt: row.createdAt.toISOString() })),
        nextCursor: page.nextCursor,
      };
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly queries: ProjectQueries,
    private readonly hosts: HostConnections,
    private readonly operations: OperationsService,
    private readonly work: ProjectOperations,
    private readonly audit: AuditService,
  ) {}

  private async list({ caller, query }: ApiCall<Api['listProjects']>) {
    const page = await pageOfRows<{ id: string; role: ProjectRole }>(
      this.dataSource.manager,
      {
        select: `SELECT p.id, p.created_at, c.role FROM projects p
          JOIN collaborators c ON c.project_id = p.id AND c.account_id = $1
          WHERE p.deleted_at IS NULL AND ($2::text IS NULL OR p.title = $2)
            AND ($3::uuid IS NULL OR p.host_id = $3)`,
        parameters: [caller.accountId, query.name ?? null, query.hostId ?? null],
        by: ['created_at', 'id'],
        newestFirst: false,
      },
      query,
    );
    const projects = await this.inOrder(Project, page.items);
    const roles = new Map(page.items.map((item) => [item.id, item.role]));
    return { items: await this.queries.views(projects, roles), nextCursor: page.nextCursor };
  }

  private async update(call: ApiCall<Api['updateProject']>): Promise<ProjectViewInput> {
    const { caller, body, params } = call;
    const { projectId } = params;
    const { name, quota, publicPorts, egress } = body;
    await this.queries.require(caller, projectId, 'editor');
    if (quota !== undefined || publicPorts !== undefined || egress !== undefined) {
      const operation = await this.work.begin(async (manager) => {
        const { project } = await this.queries.require(caller, projectId, 'editor', {
          manager,
          lock: true,
        });
        const input = {
          projectId,
          quota: quotaWith(quota ?? {}, project.runQuota),
          publicPorts: publicPorts ?? project.publicPorts,
          egress: egress === undefined ? project.egress : egress,
        };
        if (egress) await this.work.refuseEgress(manager, project.hostId, egress);
        const update = await this.operations.insert(manager, {
          kind: 'project.update',
          lane: 'lifecycle',
          caller,
          projectId,
          input,
        });
        await this.work.promiseQuota(manager, update, project, input.quota);
        return update;
      });
      await this.operations.ended(operation.id, updateMsMax);
    }
    if (name !== undefined) {
      await this.dataSource.transaction(async (manager) => {
        await manager.update(Project, projectId, { title: name });
        await this.audit.record(manager, {
          actor: actorOf(caller),
          action: 'project.rename',
          subject: `project:${projectId}`,
          details: { name },
        });
      });
    }
    const { project, role } = await this.queries.require(caller, projectId, 'viewer');
    return this.queries.view(project, role);
  }

  private async inOrder<T extends { id: string }>(
    entity: new () => T,
    ids: readonly { id: string }[],
  ): Promise<T[]> {
    const where = { id: In(ids.map(({ id }) => id)) } as never;
    const rows = await this.dataSource.manager.findBy(entity, where);
    const byId = new Map(rows.map((row) => [row.id, row]));
    return ids.flatMap(({ id }) => byId.get(id) ?? []);
  }
}
