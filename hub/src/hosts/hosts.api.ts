import { Inject, Injectable } from '@nestjs/common';
import type { HostView } from '@rookery/api';
import { newSecret } from '@rookery/core';
import { DataSource, In, type EntityManager } from 'typeorm';
import type { z } from 'zod';
import { requireAdmin } from '../accounts/accounts.api.js';
import { actorOf, hashOf, type Caller } from '../accounts/auth.service.js';
import type { ApiHandlers, ApiPart } from '../api/handlers.js';
import { pageOfRows } from '../api/pages.js';
import { AuditService } from '../audit/audit.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { ProjectHost } from '../database/entities/host.entity.js';
import { HubErrors } from '../hub.errors.js';
import { firstWord } from './image-trees.service.js';
import { HostConnections } from './host-connections.js';
import { LostHosts } from './lost-host.service.js';
import { OperationsService } from '../operations/operations.service.js';

type Names =
  | 'listHosts'
  | 'getHost'
  | 'createJoinToken'
  | 'updateHost'
  | 'drainHost'
  | 'removeHost'
  | 'initBackupRepository';

/** The fleet, for administrators. */
@Injectable()
export class HostsApi implements ApiPart<Names> {
  readonly handlers: ApiHandlers<Names> = {
    listHosts: async ({ caller, query }) => {
      requireAdmin(caller);
      const page = await pageOfRows<{ id: string }>(
        this.dataSource.manager,
        {
          select: `SELECT id, created_at FROM project_hosts WHERE status = 'active'`,
          parameters: [],
          by: ['created_at', 'id'],
          newestFirst: false,
        },
        query,
      );
      const items = await this.views(page.items.map(({ id }) => id));
      return { items, nextCursor: page.nextCursor };
    },
    getHost: async ({ caller, params }) => {
      requireAdmin(caller);
      return this.view(params.hostId);
    },
    createJoinToken: async ({ caller, body }) => {
      requireAdmin(caller);
      const token = newSecret('join');
      const expiresAt = await this.dataSource.transaction(async (manager) => {
        const [row] = await manager.query<[{ expires_at: Date }]>(
          `INSERT INTO join_tokens (token_hash, created_by, expires_at)
           VALUES ($1, $2, now() + make_interval(mins => $3)) RETURNING expires_at`,
          [hashOf(token), caller.accountId, body.expiresInMinutes],
        );
        await this.record(manager, caller, 'join-token.create', 'new');
        return row.expires_at;
      });
      return { token, expiresAt: expiresAt.toISOString() };
    },
    updateHost: async ({ caller, params, body }) => {
      requireAdmin(caller);
      await this.dataSource.transaction(async (manager) => {
        const host = await lockHost(manager, params.hostId);
        await manager.update(ProjectHost, host.id, { schedulable: body.schedulable });
        await this.record(manager, caller, body.schedulable ? 'uncordon' : 'cordon', host.id);
      });
      return this.view(params.hostId);
    },
    drainHost: async ({ caller, idempotencyKey, params, body }) => {
      requireAdmin(caller);
      const { hostId } = params;
      const operation = await this.dataSource.transaction(async (manager) => {
        const host = await lockHost(manager, hostId);
        await manager.update(ProjectHost, host.id, { schedulable: false });
        return this.operations.insert(manager, {
          kind: 'host.drain',
          caller,
          idempotencyKey,
          hostId,
          input: { hostId, parallel: body.parallel },
        });
      });
      this.operations.nudge();
      return this.operations.started(operation, caller);
    },
    initBackupRepository: async ({ caller, params, body }) => {
      requireAdmin(caller);
      const { id } = await this.view(params.hostId);
      const made = await this.hosts.backups(id).init(body);
      await this.record(this.dataSource.manager, caller, 'backup-repository', id);
      return made;
    },
    removeHost: async ({ caller, params, query }) => {
      requireAdmin(caller);
      const isLost = query.lost === 'true';
      const settled = await this.dataSource.transaction(async (manager) => {
        const host = await lockHost(manager, params.hostId);
        if (isLost) await this.refuseOnline(manager, host);
        else await refuseNeeded(manager, host);
        await manager.update(ProjectHost, host.id, { status: 'removed', schedulable: false });
        await manager.query('UPDATE host_keys SET retired_at = now() WHERE host_id = $1', [
          host.id,
        ]);
        await manager.query('DELETE FROM host_debts WHERE host_id = $1', [host.id]);
        await this.record(manager, caller, isLost ? 'remove-lost' : 'remove', host.id);
        return isLost ? this.lost.settle(manager, host, actorOf(caller)) : {};
      });
      this.operations.nudge();
      return settled;
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly operations: OperationsService,
    private readonly audit: AuditService,
    private readonly hosts: HostConnections,
    private readonly lost: LostHosts,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}

  private async view(hostId: string) {
    const [view] = await this.views([hostId]);
    if (!view) throw HubErrors.HOST_UNKNOWN({ host: hostId });
    return view;
  }

  private async views(ids: string[]): Promise<z.input<typeof HostView>[]> {
    const { manager } = this.dataSource;
    const rows = await manager.findBy(ProjectHost, { id: In(ids), status: 'active' });
    const figures = await manager.query<(Figures & { id: string })[]>(
      `SELECT h.id, (SELECT count(*)::int FROM projects p
         WHERE p.host_id = h.id AND p.deleted_at IS NULL) AS projects,
         (SELECT count(*)::int FROM projects p WHERE p.host_id = h.id AND p.deleted_at IS NULL
           AND p.error->>'code' = 'PROJECT_MISSING') AS missing,
         (SELECT count(*)::int FROM host_debts d WHERE d.host_id = h.id) AS owed,
         (SELECT coalesce(json_agg(w.image_digest ORDER BY w.image_digest), '[]') FROM (
           SELECT DISTINCT ON (image_digest) image_digest, tree_digest FROM image_trees
           WHERE host_id = h.id ORDER BY image_digest, said_at DESC, seq DESC) AS w
          WHERE h.images ? w.image_digest AND w.tree_digest <> ${firstWord('w.image_digest')}
         ) AS differing,
         coalesce(h.last_seen > now() - make_interval(secs => $2::float8 / 1000), false) AS online
       FROM project_hosts h WHERE h.id = ANY($1)`,
      [ids, this.config.hostOfflineAfterMs],
    );
    return ids.flatMap((id) => {
      const row = rows.find((each) => each.id === id);
      const figure = figures.find((each) => each.id === id);
      return row && figure ? [toView(row, figure)] : [];
    });
  }

  /** @throws HOST_ONLINE */
  private async refuseOnline(manager: EntityManager, host: ProjectHost): Promise<void> {
    const [{ online }] = await manager.query<[{ online: boolean }]>(
      `SELECT coalesce(last_seen > now() - make_interval(secs => $2::float8 / 1000), false) AS online
       FROM project_hosts WHERE id = $1`,
      [host.id, this.config.hostOfflineAfterMs],
    );
    if (online) throw HubErrors.HOST_ONLINE({ host: host.name });
  }

  private record(
    manager: EntityManager,
    caller: Caller,
    verb: string,
    hostId: string,
  ): Promise<void> {
    const actor = actorOf(caller);
    return this.audit.record(manager, { actor, action: `host.${verb}`, subject: `host:${hostId}` });
  }
}

async function lockHost(manager: EntityManager, id: string): Promise<ProjectHost> {
  const host = await manager.findOne(ProjectHost, {
    where: { id, status: 'active' },
    lock: { mode: 'pessimistic_write' },
  });
  if (!host) throw HubErrors.HOST_UNKNOWN({ host: id });
  return host;
}

/** @throws HOST_NOT_EMPTY, HOST_BUSY */
async function refuseNeeded(manager: EntityManager, host: ProjectHost): Promise<void> {
  const [{ projects, moves }] = await manager.query<[{ projects: number; moves: number }]>(
    `SELECT
       (SELECT count(*)::int FROM projects WHERE host_id = $1 AND deleted_at IS NULL) AS projects,
       (SELECT count(*)::int FROM project_moves
         WHERE ended_at IS NULL AND (from_host_id = $1 OR to_host_id = $1)) AS moves`,
    [host.id],
  );
  if (projects > 0) throw HubErrors.HOST_NOT_EMPTY({ host: host.name, projects });
  if (moves > 0) throw HubErrors.HOST_BUSY({ host: host.name });
}

interface Figures {
  readonly projects: number;
  readonly owed: number;
  readonly missing: number;
  readonly differing: string[];
  readonly online: boolean;
}

function toView(row: ProjectHost, figure: Figures): z.input<typeof HostView> {
  const { id, name, region, schedulable, publicUrl, version, capabilities, capacity } = row;
  return {
    id,
    name,
    region,
    schedulable,
    publicUrl,
    version,
    capabilities,
    capacity,
    status: figure.online ? 'online' : 'offline',
    trouble: row.trouble,
    projects: figure.projects,
    missing: figure.missing,
    copies: row.copies,
    owed: figure.owed,
    imagesDiffering: figure.differing,
    lastSeenAt: row.lastSeen?.toISOString() ?? null,
    createdAt: row.createdAt.toISOString(),
  };
}
