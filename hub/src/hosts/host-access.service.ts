import { Injectable } from '@nestjs/common';
import { hostReports, identityNames } from '@rookery/fleet/contract';
import { CoreErrors } from '@rookery/core';
import type { Handlers } from '@rookery/rpc/contract';
import { DataSource } from 'typeorm';
import type { z } from 'zod';
import { goodCredentials } from '../accounts/credentials.js';
import { SigningKeys } from '../keys/signing-keys.service.js';
import { refuseOthers } from './refuse-others.js';

type Access = z.input<(typeof hostReports)['methods']['access']['output']>;
type Served = Pick<Handlers<typeof hostReports>, 'access' | 'credentials' | 'projectToken'>;

/** One answer has so many accounts at most; more come in pages. */
const accountsMax = 200;
/** Longer than any access token lives. */
const revokedMinutes = 10;

interface AccessRow {
  readonly revision: string;
  readonly whole: boolean;
  readonly accounts: Access['accounts'] | null;
  readonly revoked: Access['revoked'] | null;
}

/** What hosts need to let accounts and their projects' own programs in by themselves. */
@Injectable()
export class HostAccess {
  readonly reports: Served = {
    access: async ({ since, after, paged }, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      if (since === undefined) return this.page(hostId, after);
      const delta = await this.changes(hostId, since, after);
      return delta && (paged || delta.next === undefined) ? delta : this.page(hostId, undefined);
    },
    credentials: async ({ credentialIds }, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      const good = await goodCredentials(this.dataSource, credentialIds);
      return { ended: credentialIds.filter((id) => !good.has(id)) };
    },
    projectToken: async ({ projectId, generation }, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      await this.requireOwner(hostId, projectId, generation);
      const sub = `project:${projectId}`;
      return {
        token: await this.keys.mint({ aud: 'conat', sub, project: projectId, role: 'project' }),
      };
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly keys: SigningKeys,
  ) {}

  private async page(hostId: string, after: string | undefined): Promise<Access> {
    // One statement, one snapshot: nothing of a later revision is missing from what follows it.
    const [row] = await this.dataSource.query<AccessRow[]>(
      `WITH accounts AS (
         SELECT c.account_id AS id,
           json_agg(json_build_object('projectId', p.id, 'role', c.role)) AS projects
         FROM collaborators c
         JOIN projects p ON p.id = c.project_id AND p.deleted_at IS NULL AND p.host_id = $1
         JOIN accounts a ON a.id = c.account_id AND a.blocked_at IS NULL
         WHERE $2::uuid IS NULL OR c.account_id > $2
         GROUP BY c.account_id ORDER BY c.account_id LIMIT $3)
       SELECT r.revision, (SELECT json_agg(json_build_object('accountId', id,
         'projects', projects) ORDER BY id) FROM accounts) AS accounts,
         (SELECT json_agg(DISTINCT jsonb_strip_nulls(jsonb_build_object('accountId', account_id,
           'credentialId', credential_id))) FROM access_changes
           WHERE kind = 'credentials' AND $2::uuid IS NULL
             AND at > now() - make_interval(mins => $4)) AS revoked
       FROM access_revision r`,
      [hostId, after ?? null, accountsMax, revokedMinutes],
    );
    const accounts = row?.accounts ?? [];
    const revision = Number(row?.revision ?? 0);
    const next = accounts.length === accountsMax ? accounts.at(-1)?.accountId : undefined;
    const revoked = row?.revoked ?? [];
    return { revision, whole: true, accounts, revoked, ...(next !== undefined && { next }) };
  }

  /** Undefined when the log does not reach back so far. */
  private async changes(
    hostId: string,
    since: number,
    after: string | undefined,
  ): Promise<Access | undefined> {
    const [row] = await this.dataSource.query<AccessRow[]>(
      `WITH news AS (SELECT * FROM access_changes WHERE revision > $2),
       affected AS (
         SELECT id FROM (
           SELECT account_id AS id FROM news WHERE account_id IS NOT NULL
           UNION SELECT c.account_id FROM news n
           JOIN collaborators c ON c.project_id = n.project_id WHERE n.account_id IS NULL) u
         WHERE $3::uuid IS NULL OR id > $3 ORDER BY id LIMIT $4),
       accounts AS (
         SELECT f.id, coalesce(json_agg(json_build_object('projectId', p.id, 'role', c.role))
           FILTER (WHERE p.id IS NOT NULL), '[]'::json) AS projects
         FROM affected f
         LEFT JOIN accounts a ON a.id = f.id AND a.blocked_at IS NULL
         LEFT JOIN collaborators c ON c.account_id = a.id
         LEFT JOIN projects p ON p.id = c.project_id AND p.deleted_at IS NULL AND p.host_id = $1
         GROUP BY f.id)
       SELECT r.revision,
         r.revision < $2 OR (r.revision > $2
           AND NOT EXISTS (SELECT 1 FROM news WHERE revision = $2 + 1)) AS whole,
         (SELECT json_agg(json_build_object('accountId', id, 'projects', projects) ORDER BY id)
           FROM accounts) AS accounts,
         (SELECT json_agg(json_strip_nulls(json_build_object('accountId', account_id,
           'credentialId', credential_id))) FROM news
           WHERE kind = 'credentials' AND account_id IN (SELECT id FROM affected)) AS revoked
       FROM access_revision r`,
      [hostId, since, after ?? null, accountsMax],
    );
    if (!row || row.whole) return undefined;
    const accounts = row.accounts ?? [];
    const next = accounts.length === accountsMax ? accounts.at(-1)?.accountId : undefined;
    return {
      revision: Number(row.revision),
      whole: false,
      accounts,
      revoked: row.revoked ?? [],
      ...(next !== undefined && { next }),
    };
  }

  /** The revision that a heartbeat's answer names. */
  async revision(): Promise<number> {
    const [row] = await this.dataSource.query<{ revision: string }[]>(
      'SELECT revision FROM access_revision',
    );
    return Number(row?.revision ?? 0);
  }

  private async requireOwner(hostId: string, projectId: string, given: number): Promise<void> {
    const [row] = await this.dataSource.query<{ generation: number; hostId: string | null }[]>(
      `SELECT placement_generation AS generation, host_id AS "hostId" FROM projects
       WHERE id = $1 AND deleted_at IS NULL`,
      [projectId],
    );
    if (row?.hostId !== hostId) throw CoreErrors.NOT_FOUND({ what: 'project', id: projectId });
    const { generation: current } = row;
    if (given !== current) throw CoreErrors.STALE_GENERATION({ given, current });
  }
}
