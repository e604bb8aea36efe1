import { Injectable } from '@nestjs/common';
import { DataSource, In } from 'typeorm';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { pageOfRows } from '../api/pages.js';
import { Backup } from '../database/entities/record.entity.js';
import { OperationsService } from '../operations/operations.service.js';
import { BackupIndex } from './backup-index.service.js';
import { ProjectQueries } from './project.queries.js';
import { RestoreOperations } from './restore-operations.service.js';

type Names = 'runBackup' | 'listBackups' | 'restoreBackup' | 'reindexBackups';

@Injectable()
export class BackupsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    runBackup: async ({ caller, idempotencyKey, params }) => {
      const operation = await this.restores.backUp({ caller, idempotencyKey }, params.projectId);
      return this.operations.started(operation, caller);
    },
    listBackups: async ({ caller, params, query }) => {
      const { projectId } = params;
      await this.queries.require(caller, projectId, 'viewer');
      // Later pages go on in what the first one found.
      if (query.cursor === undefined) await this.index.refresh(projectId);
      const page = await pageOfRows<{ id: string }>(
        this.dataSource.manager,
        {
          select: 'SELECT id, created_at FROM backups WHERE project_id = $1',
          parameters: [projectId],
          by: ['created_at', 'id'],
          newestFirst: true,
          idType: 'text',
        },
        query,
      );
      const ids = page.items.map(({ id }) => id);
      const rows = await this.dataSource.manager.findBy(Backup, { projectId, id: In(ids) });
      const byId = new Map(rows.map((row) => [row.id, row]));
      return { items: ids.map((id) => toView(byId.get(id)!)), nextCursor: page.nextCursor };
    },
    reindexBackups: async ({ caller, params: { projectId } }) => {
      await this.queries.require(caller, projectId, 'editor');
      const asked = await this.index.refresh(projectId);
      return { asked, backups: await this.dataSource.manager.countBy(Backup, { projectId }) };
    },
    restoreBackup: async ({ caller, idempotencyKey, params, body }) => {
      const { projectId, backupId } = params;
      const asking = { caller, idempotencyKey };
      const operation = await this.restores.backup(asking, projectId, backupId, body);
      return this.operations.started(operation, caller);
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly queries: ProjectQueries,
    private readonly restores: RestoreOperations,
    private readonly index: BackupIndex,
    private readonly operations: OperationsService,
  ) {}
}

const toView = (row: Backup) => ({ ...row, createdAt: row.createdAt.toISOString() });
