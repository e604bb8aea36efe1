import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';
import { actorOf, isOwn } from '../accounts/auth.service.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { AuditService } from '../audit/audit.service.js';
import { Collaborator } from '../database/entities/project.entity.js';
import { HubErrors } from '../hub.errors.js';
import { ProjectQueries } from './project.queries.js';
import type { ProjectRole } from '@rookery/core/contract';
import type { EntityManager } from 'typeorm';

type Names = 'listCollaborators' | 'putCollaborator' | 'deleteCollaborator';

@Injectable()
export class CollaboratorsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listCollaborators: async ({ caller, params }) => {
      await this.queries.require(caller, params.projectId, 'viewer');
      const items = await this.dataSource.query<
        { accountId: string; email: string; role: ProjectRole }[]
      >(
        `SELECT c.account_id AS "accountId", a.email, c.role FROM collaborators c
         JOIN accounts a ON a.id = c.account_id WHERE c.project_id = $1 ORDER BY c.created_at`,
        [params.projectId],
      );
      return { items };
    },
    putCollaborator: async ({ caller, params, body }) => {
      const { projectId } = params;
      const { role } = body;
      return this.dataSource.transaction(async (manager) => {
        await this.queries.require(caller, projectId, 'owner', { manager, lock: true });
        const { id: accountId, email } = await this.accounts.find(manager, params.accountId);
        await manager.upsert(Collaborator, { projectId, accountId, role }, [
          'projectId',
          'accountId',
        ]);
        await refuseNoOwner(manager, projectId);
        await this.audit.record(manager, {
          actor: actorOf(caller),
          action: 'collaborator.put',
          subject: `project:${projectId}`,
          details: { accountId, role },
        });
        return { accountId, email, role };
      });
    },
    deleteCollaborator: async ({ caller, params }) => {
      const { projectId, accountId: account } = params;
      // Everybody may leave.
      const role = isOwn(caller, account) ? 'viewer' : 'owner';
      await this.dataSource.transaction(async (manager) => {
        await this.queries.require(caller, projectId, role, { manager, lock: true });
        const { id: accountId } = await this.accounts.find(manager, account);
        await manager.delete(Collaborator, { projectId, accountId });
        await refuseNoOwner(manager, projectId);
        await this.audit.record(manager, {
          actor: actorOf(caller),
          action: 'collaborator.delete',
          subject: `project:${projectId}`,
          details: { accountId },
        });
      });
      return {};
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly queries: ProjectQueries,
    private readonly accounts: AccountsService,
    private readonly audit: AuditService,
  ) {}
}

/** Checked after the change, in its transaction, which holds the project's row. @throws LAST_OWNER */
async function refuseNoOwner(manager: EntityManager, projectId: string): Promise<void> {
  const owners = await manager.countBy(Collaborator, { projectId, role: 'owner' });
  if (owners === 0) throw HubErrors.LAST_OWNER();
}
