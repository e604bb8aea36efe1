import { Injectable } from '@nestjs/common';
import { newId } from '@rookery/core';
import { StorageErrors } from '@rookery/storage';
import type { Fence } from '@rookery/core/contract';
import { DataSource } from 'typeorm';
import { actorOf, type Caller } from '../accounts/auth.service.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { AuditService } from '../audit/audit.service.js';
import type { Project } from '../database/entities/project.entity.js';
import { HostConnections } from '../hosts/host-connections.js';
import { HubErrors } from '../hub.errors.js';
import { OperationsService } from '../operations/operations.service.js';
import { ProjectQueries } from './project.queries.js';
import { RestoreOperations } from './restore-operations.service.js';

type Names =
  'createSnapshot' | 'listSnapshots' | 'updateSnapshot' | 'deleteSnapshot' | 'restoreSnapshot';

/** Snapshots take milliseconds: they are asked of the host at once, without an operation. */
@Injectable()
export class SnapshotsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    createSnapshot: async ({ caller, params, body }) => {
      const name = body.name ?? `manual-${new Date().toISOString().replace(/\.\d+Z$/, 'Z')}`;
      return this.change(caller, params.projectId, 'create', name, (host, fence) =>
        host.create({ fence, name }),
      );
    },
    listSnapshots: async ({ caller, params }) => {
      const { project } = await this.queries.require(caller, params.projectId, 'viewer');
      if (project.hostId === null) throw HubErrors.PROJECT_ARCHIVED();
      const host = this.hosts.snapshots(project.hostId, { patienceMs: 0 });
      return { items: (await host.list({ projectId: project.id })).snapshots };
    },
    updateSnapshot: async ({ caller, params, body }) =>
      this.change(caller, params.projectId, 'lock', params.name, (host, fence) =>
        host.setLocked({ fence, name: params.name, locked: body.locked }),
      ),
    deleteSnapshot: async ({ caller, params }) =>
      this.change(caller, params.projectId, 'delete', params.name, async (host, fence) => {
        // To the host, deleting what is gone is done; a caller has mistyped the name.
        const { projectId, name } = params;
        refuseUnknown(await host.list({ projectId }), projectId, name);
        return host.delete({ fence, name });
      }),
    restoreSnapshot: async ({ caller, idempotencyKey, params, body }) => {
      const { projectId, name } = params;
      const asking = { caller, idempotencyKey };
      await this.refuseUnknown(caller, projectId, name);
      const operation = await this.restores.snapshot(asking, projectId, name, body.path);
      return this.operations.started(operation, caller);
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly queries: ProjectQueries,
    private readonly hosts: HostConnections,
    private readonly operations: OperationsService,
    private readonly restores: RestoreOperations,
    private readonly audit: AuditService,
  ) {}

  /**
   * A mistyped name shall not stop a running project. A host that does not answer now is asked by
   * the work itself.
   * @throws SNAPSHOT_NOT_FOUND
   */
  private async refuseUnknown(caller: Caller, projectId: string, name: string): Promise<void> {
    const { project } = await this.queries.require(caller, projectId, 'editor');
    if (project.hostId === null) throw HubErrors.PROJECT_ARCHIVED();
    const host = this.hosts.snapshots(project.hostId, { patienceMs: 0 });
    const known = await host.list({ projectId }).catch(() => undefined);
    if (known) refuseUnknown(known, projectId, name);
  }

  /**
   * Asks the host, then writes the audit row. A conflict that begins meanwhile is refused by the
   * host itself, which fences every writer before a move takes its last picture.
   */
  private async change<T>(
    caller: Caller,
    projectId: string,
    verb: string,
    name: string,
    task: (host: ReturnType<HostConnections['snapshots']>, fence: Fence) => Promise<T>,
  ): Promise<T> {
    const { project } = await this.queries.require(caller, projectId, 'editor');
    if (project.hostId === null) throw HubErrors.PROJECT_ARCHIVED();
    await this.operations.refuseConflict(this.dataSource.manager, projectId, {
      kind: 'project.update',
      lane: 'lifecycle',
    });
    const operationId = newId();
    const host = this.hosts.snapshots(project.hostId, { patienceMs: 0 });
    const result = await task(host, fenceOf(project, operationId));
    await this.audit.record(this.dataSource.manager, {
      actor: actorOf(caller),
      action: `snapshot.${verb}`,
      subject: `project:${projectId}`,
      details: { name, operationId },
    });
    return result;
  }
}

/** @throws SNAPSHOT_NOT_FOUND */
function refuseUnknown(
  { snapshots }: { readonly snapshots: readonly { readonly name: string }[] },
  projectId: string,
  name: string,
): void {
  if (snapshots.some((each) => each.name === name)) return;
  throw StorageErrors.SNAPSHOT_NOT_FOUND({ projectId, name });
}

const fenceOf = (project: Project, operationId: string): Fence => ({
  projectId: project.id,
  generation: project.placementGeneration,
  operationId,
  attempt: 1,
});
