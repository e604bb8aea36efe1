import { Injectable } from '@nestjs/common';
import { AuditView } from '@rookery/api';
import { DataSource } from 'typeorm';
import type { z } from 'zod';
import { requireAdmin } from '../accounts/accounts.api.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { pageOfRows } from '../api/pages.js';

interface Row {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly details: z.input<typeof AuditView>['details'];
}

@Injectable()
export class AuditApi implements ApiPart<'listAudit'> {
  readonly handlers: ApiHandlers<'listAudit'> = {
    listAudit: async ({ caller, query }) => {
      requireAdmin(caller);
      const page = await pageOfRows<Row>(
        this.dataSource.manager,
        {
          select: `SELECT id, at, actor, action, subject, details FROM audit_log
            WHERE $1::text IS NULL OR subject = $1`,
          parameters: [query.subject ?? null],
          by: ['at', 'id'],
          newestFirst: true,
          idType: 'bigint',
        },
        query,
      );
      return {
        items: page.items.map(({ id, at, actor, action, subject, details }) => ({
          id,
          actor,
          action,
          subject,
          details,
          at: at.toISOString(),
        })),
        nextCursor: page.nextCursor,
      };
    },
  };

  constructor(private readonly dataSource: DataSource) {}
}
