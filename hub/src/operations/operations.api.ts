import { Injectable } from '@nestjs/common';
import { SagaErrors } from '@rookery/move';
import { DataSource, In } from 'typeorm';
import { requireAdmin } from '../accounts/accounts.api.js';
import { actorOf, type Caller } from '../accounts/auth.service.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { pageOfRows } from '../api/pages.js';
import { AuditService } from '../audit/audit.service.js';
import { Operation } from '../database/entities/operation.entity.js';
import { HubErrors } from '../hub.errors.js';
import { ProjectQueries } from '../projects/project.queries.js';
import { OperationResolver } from './operation-resolver.js';
import { OperationStore } from './operation.store.js';
import { OperationWatcher } from './operation-watcher.js';
import { toOperationView } from './operation.views.js';
import { WorkSignal } from './work-signal.js';

type Names =
  | 'listOperations'
  | 'getOperation'
  | 'watchOperation'
  | 'cancelOperation'
  | 'retryOperation'
  | 'resolveOperation';

/**
 * A caller sees what happens to its projects, and what it began; administrators see all. What it
 * began on a project that others have taken it out of is none of its business any more.
 */
@Injectable()
export class OperationsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listOperations: async ({ caller, query }) => {
      const page = await pageOfRows<{ id: string }>(
        this.dataSource.manager,
        {
          select: `SELECT o.id, o.created_at FROM operations o
            WHERE ($1 OR EXISTS (SELECT 1 FROM collaborators c
              WHERE c.project_id = o.project_id AND c.account_id = $2)
              OR (o.created_by = $2 AND NOT EXISTS (SELECT 1 FROM projects p
                WHERE p.id = o.project_id AND p.deleted_at IS NULL)))
            AND ($3::uuid IS NULL OR o.project_id = $3) AND ($4::text IS NULL OR o.state = $4)`,
          parameters: [
            caller.admin,
            caller.accountId,
            query.projectId ?? null,
            query.state ?? null,
          ],
          by: ['created_at', 'id'],
          newestFirst: true,
        },
        query,
      );
      const ids = page.items.map(({ id }) => id);
      const rows = await this.dataSource.manager.findBy(Operation, { id: In(ids) });
      const byId = new Map(rows.map((row) => [row.id, row]));
      return {
        items: ids.map((id) => toOperationView(byId.get(id)!)),
        nextCursor: page.nextCursor,
      };
    },
    getOperation: async ({ caller, params }) =>
      toOperationView(await this.require(caller, params.operationId)),
    watchOperation: {
      allow: ({ caller, params }) => this.require(caller, params.operationId),
      views: ({ params, signal }) => this.watcher.watch(params.operationId, signal),
    },
    cancelOperation: async ({ caller, params }) => {
      const operation = await this.require(caller, params.operationId);
      await this.refuseViewer(caller, operation);
      await this.store.requestCancel(operation.id);
      await this.audit.record(this.dataSource.manager, {
        actor: actorOf(caller),
        action: 'operation.cancel',
        subject: `operation:${operation.id}`,
      });
      this.signal.ring();
      return toOperationView(await this.require(caller, operation.id));
    },
    retryOperation: async ({ caller, params }) => {
      const { id } = await this.require(caller, params.operationId);
      await this.refuseViewer(caller, await this.require(caller, id));
      await this.resolver.retry(id, actorOf(caller));
      this.signal.ring();
      return toOperationView(await this.require(caller, id));
    },
    resolveOperation: async ({ caller, params, body }) => {
      requireAdmin(caller);
      const { id } = await this.require(caller, params.operationId);
      const reason = `an administrator called it ${body.as}`;
      await this.resolver.resolve(id, { as: body.as, actor: actorOf(caller), reason });
      this.signal.ring();
      return toOperationView(await this.require(caller, id));
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly queries: ProjectQueries,
    private readonly store: OperationStore,
    private readonly watcher: OperationWatcher,
    private readonly audit: AuditService,
    private readonly signal: WorkSignal,
    private readonly resolver: OperationResolver,
  ) {}

  /** @throws OPERATION_UNKNOWN also for what the caller may not see. */
  private async require(caller: Caller, operationId: string): Promise<Operation> {
    const operation = await this.dataSource.manager.findOneBy(Operation, { id: operationId });
    if (operation && (await this.mayRead(caller, operation))) return operation;
    throw SagaErrors.OPERATION_UNKNOWN({ operationId });
  }

  private async mayRead(caller: Caller, operation: Operation): Promise<boolean> {
    if (caller.admin) return true;
    const own = operation.createdBy === caller.accountId;
    if (operation.projectId === null) return own;
    const role = await this.queries.roleOf(caller.accountId, operation.projectId);
    return role !== undefined || (own && !(await this.queries.isThere(operation.projectId)));
  }

  private async refuseViewer(caller: Caller, operation: Operation): Promise<void> {
    if (caller.admin || operation.projectId === null) return;
    const role = await this.queries.roleOf(caller.accountId, operation.projectId);
    if (role !== 'owner' && role !== 'editor') throw HubErrors.FORBIDDEN({ role: 'editor' });
  }
}
