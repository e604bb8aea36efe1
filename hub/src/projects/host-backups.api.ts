import { Injectable } from '@nestjs/common';
import { nameOfTags } from '@rookery/fleet/contract';
import type { ProjectBackupsView } from '@rookery/api';
import { DataSource } from 'typeorm';
import type { z } from 'zod';
import { requireAdmin } from '../accounts/accounts.api.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { pageOfRows } from '../api/pages.js';
import { activeHost } from '../hosts/active-host.js';
import { OperationsService } from '../operations/operations.service.js';
import { BackupAdoption } from './backup-adoption.service.js';
import { BackupIndex, ofSameRepository } from './backup-index.service.js';

type Names = 'listHostBackups' | 'reindexHostBackups' | 'adoptBackup';

interface GroupRow {
  readonly project_id: string;
  readonly title: string | null;
  readonly state: z.output<typeof ProjectBackupsView>['state'];
  readonly backups: number;
  readonly latest_id: string;
  readonly latest_at: Date;
  readonly latest_bytes: string;
  readonly tags: string[];
}

const groups = `
  SELECT b.project_id, p.title, count(*)::int AS backups, max(b.created_at) AS latest_at,
    (array_agg(b.id ORDER BY b.created_at DESC))[1] AS latest_id,
    (array_agg(b.bytes ORDER BY b.created_at DESC))[1] AS latest_bytes,
    (array_agg(b.tags ORDER BY b.created_at DESC))[1] AS tags,
    CASE WHEN p.id IS NULL THEN 'unknown' WHEN p.deleted_at IS NULL THEN 'known' ELSE 'deleted' END
      AS state
  FROM backups b LEFT JOIN project_hosts o ON o.id = b.host_id
    LEFT JOIN projects p ON p.id = b.project_id, project_hosts h
  WHERE h.id = $1 AND ${ofSameRepository}
    AND ($2 = false OR p.id IS NULL OR p.deleted_at IS NOT NULL)
  GROUP BY b.project_id, p.id`;

/** Repositories as a whole, for administrators: also what no project of this hub has. */
@Injectable()
export class HostBackupsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listHostBackups: async ({ caller, params: { hostId }, query }) => {
      requireAdmin(caller);
      await activeHost(this.dataSource.manager, hostId);
      // Later pages go on in what the first one found.
      if (query.cursor === undefined) await this.index.refreshHost(hostId);
      const { items, nextCursor } = await pageOfRows<GroupRow>(
        this.dataSource.manager,
        {
          select: groups,
          parameters: [hostId, query.unknown === 'true'],
          by: ['latest_at', 'project_id'],
          newestFirst: true,
        },
        query,
      );
      return { items: items.map(toView), nextCursor };
    },
    reindexHostBackups: async ({ caller, params: { hostId } }) => {
      requireAdmin(caller);
      await activeHost(this.dataSource.manager, hostId);
      return this.index.refreshHost(hostId);
    },
    adoptBackup: async ({ caller, idempotencyKey, params, body }) => {
      requireAdmin(caller);
      const { hostId, projectId } = params;
      await activeHost(this.dataSource.manager, hostId);
      const asking = { caller, idempotencyKey };
      const operation = await this.adoption.adopt(asking, hostId, projectId, body);
      return this.operations.started(operation, caller);
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly index: BackupIndex,
    private readonly adoption: BackupAdoption,
    private readonly operations: OperationsService,
  ) {}
}

function toView(row: GroupRow): z.input<typeof ProjectBackupsView> {
  return {
    projectId: row.project_id,
    name: row.title ?? nameOfTags(row.tags) ?? null,
    state: row.state,
    backups: row.backups,
    latestId: row.latest_id,
    latestAt: row.latest_at.toISOString(),
    latestBytes: Number(row.latest_bytes),
  };
}
