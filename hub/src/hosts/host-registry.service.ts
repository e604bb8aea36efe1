import { Inject, Injectable } from '@nestjs/common';
import {
  type hostRegistration,
  type hostReports,
  type ProjectReport,
  identityNames,
} from '@rookery/fleet/contract';
import { joiningIdentityName } from '@rookery/fleet';
import { newId } from '@rookery/core';
import type { CallContext, Handlers } from '@rookery/rpc/contract';
import { DataSource, IsNull, type EntityManager } from 'typeorm';
import type { z } from 'zod';
import { hashOf } from '../accounts/auth.service.js';
import { AuditService } from '../audit/audit.service.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { HostKey, JoinToken, ProjectHost } from '../database/entities/host.entity.js';
import { HubErrors } from '../hub.errors.js';
import { SigningKeys } from '../keys/signing-keys.service.js';
import { EndedMoves } from './ended-moves.js';
import { HostAccess } from './host-access.service.js';
import { PostgresImageTrees } from './image-trees.service.js';
import { noteMissing, type ReportedPage } from './missing-projects.js';
import { refuseOthers } from './refuse-others.js';

type Registration = z.output<(typeof hostRegistration)['methods']['register']['input']>;
type Heartbeat = z.output<(typeof hostReports)['methods']['heartbeat']['input']>;

/** A report that left its host this long before an operation set the state is not believed. */
const staleReportMs = 1000;
const heartbeatsBeforeOffline = 5;
const heartbeatMs = { min: 100, max: 5000 };

/** What hosts say of themselves: that they join, and how they and their projects are. */
@Injectable()
export class HostRegistry {
  readonly registration: Handlers<typeof hostRegistration> = {
    register: async (input, context) => ({
      hostId: await this.register(input, context),
      verificationKeys: await this.keys.published(),
    }),
  };

  readonly reports: Handlers<typeof hostReports>;

  private readonly heartbeats: Pick<
    Handlers<typeof hostReports>,
    'heartbeat' | 'trouble' | 'projects' | 'imageTrees'
  > = {
    heartbeat: async (input, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      const owned = await this.heartbeat(hostId, input);
      return {
        verificationKeys: await this.keys.published(),
        owned,
        heartbeatEveryMs: this.heartbeatEveryMs(),
        accessRevision: await this.access.revision(),
      };
    },
    trouble: async ({ error }, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      const trouble = { ...error, at: new Date().toISOString() };
      await this.dataSource.query('UPDATE project_hosts SET trouble = $2 WHERE id = $1', [
        hostId,
        JSON.stringify(trouble),
      ]);
      return {};
    },
    projects: async (page, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      await this.believe(hostId, page.projects);
      await this.compare(hostId, page);
      return { owned: await this.ownedOf(hostId, page.projects) };
    },
    imageTrees: async ({ trees }, context) => {
      const hostId = context.params['hostId'] ?? '';
      refuseOthers(context, identityNames.host(hostId), hostId);
      return { differing: await this.images.say(hostId, trees) };
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly keys: SigningKeys,
    private readonly audit: AuditService,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
    private readonly access: HostAccess,
    ended: EndedMoves,
    private readonly images: PostgresImageTrees,
  ) {
    this.reports = { ...this.heartbeats, ...access.reports, ...ended.reports };
  }

  /** The registered host of an identity key, or null. */
  async hostOf(identityKey: string): Promise<string | null> {
    const key = await this.dataSource.manager.findOneBy(HostKey, {
      purpose: 'identity',
      publicKey: identityKey,
      retiredAt: IsNull(),
    });
    return key?.hostId ?? null;
  }

  /** Used tokens may connect again until they expire: the reply to the first use may be lost. */
  async isJoinToken(token: string): Promise<boolean> {
    const [row] = await this.dataSource.query<unknown[]>(
      'SELECT 1 FROM join_tokens WHERE token_hash = $1 AND expires_at > now()',
      [hashOf(token)],
    );
    return row !== undefined;
  }

  /**
   * Uses the token up and makes the host; the same token with the same keys gives the host again.
   * @throws JOIN_TOKEN_INVALID, CALLER_REFUSED
   */
  private async register(input: Registration, context: CallContext): Promise<string> {
    refuseOthers(context, joiningIdentityName(input.joinToken), 'a joining host');
    return this.dataSource.transaction(async (manager) => {
      const token = await manager
        .createQueryBuilder(JoinToken, 'token')
        .setLock('pessimistic_write')
        .where('token.tokenHash = :hash AND token.expiresAt > now()', {
          hash: hashOf(input.joinToken),
        })
        .getOne();
      if (!token) throw HubErrors.JOIN_TOKEN_INVALID();
      if (token.hostId !== null) return this.registerAgain(manager, token.hostId, input);
      const hostId = await this.insertHost(manager, input);
      await manager.query(
        'UPDATE join_tokens SET used_at = now(), host_id = $2 WHERE token_hash = $1',
        [token.tokenHash, hostId],
      );
      await this.audit.record(manager, {
        actor: `host:${hostId}`,
        action: 'host.register',
        subject: `host:${hostId}`,
        details: { name: input.name, region: input.region, version: input.version },
      });
      return hostId;
    });
  }

  private async registerAgain(
    manager: EntityManager,
    hostId: string,
    input: Registration,
  ): Promise<string> {
    const known = await manager.findOneBy(HostKey, {
      hostId,
      purpose: 'identity',
      publicKey: input.identityKey,
      retiredAt: IsNull(),
    });
    if (!known) throw HubErrors.JOIN_TOKEN_INVALID();
    return hostId;
  }

  private async insertHost(manager: EntityManager, input: Registration): Promise<string> {
    const id = newId();
    // One join at a time, until its commit: two of one name would both find it free.
    await manager.query('SELECT pg_advisory_xact_lock($1)', [joinLock]);
    await manager.insert(ProjectHost, {
      id,
      name: await freeName(manager, input.name),
      region: input.region,
      status: 'active',
      publicUrl: input.publicUrl,
      internalUrl: input.internalUrl,
      version: input.version,
      sshEndpoint: { host: input.sshHost, port: input.sshPort },
      capabilities: input.capabilities,
      capacity: input.capacity,
      images: [],
      lastSeen: () => 'now()',
      schedulable: true,
      trust: 'trusted',
    });
    const keys = [
      ['identity', input.identityKey],
      ['transfer', input.transferKey],
      ['ingress', input.ingressKey],
    ] as const;
    for (const [purpose, publicKey] of keys) {
      await manager.insert(HostKey, { id: newId(), hostId: id, purpose, publicKey });
    }
    return id;
  }

  /**
   * Updates what a heartbeat owns, and nothing else.
   * @returns which of the reported projects the host owns by our books
   */
  private async heartbeat(hostId: string, input: Heartbeat) {
    await this.dataSource.transaction(async (manager) => {
      const { version, capabilities, capacity, images, copies } = input;
      const [rows] = await manager.query<[unknown[], number]>(
        `UPDATE project_hosts SET last_seen = now(), version = $2, capabilities = $3,
           capacity = $4, images = $5, copies = $6, trouble = NULL
         WHERE id = $1 AND status = 'active' RETURNING id`,
        [
          hostId,
          version,
          ...[capabilities, capacity, images].map((each) => JSON.stringify(each)),
          copies,
        ],
      );
      if (rows.length === 0) throw HubErrors.HOST_UNKNOWN({ host: hostId });
      // What an ended operation used shows in this very heartbeat's figures.
      await manager.query(
        `DELETE FROM placement_reservations r USING operations o
         WHERE r.host_id = $1 AND o.id = r.operation_id AND o.ended_at < now()`,
        [hostId],
      );
    });
    await this.believe(hostId, input.projects);
    await this.compare(hostId, input);
    return this.ownedOf(hostId, input.projects);
  }

  /** What the page should have named, and did not. */
  private async compare(hostId: string, page: ReportedPage): Promise<void> {
    const confirmMs = Math.max(staleReportMs, this.heartbeatEveryMs());
    await noteMissing(this.dataSource, hostId, page, confirmMs);
  }

  /** No more than was asked about: an answer is never longer than its question. */
  private ownedOf(hostId: string, reports: readonly ProjectReport[]) {
    return this.dataSource.query<{ projectId: string; generation: number }[]>(
      `SELECT id AS "projectId", placement_generation AS generation FROM projects
       WHERE host_id = $1 AND id = ANY($2) AND deleted_at IS NULL`,
      [hostId, reports.map(({ projectId }) => projectId)],
    );
  }

  private heartbeatEveryMs(): number {
    const everyMs = Math.floor(this.config.hostOfflineAfterMs / heartbeatsBeforeOffline);
    return Math.min(heartbeatMs.max, Math.max(heartbeatMs.min, everyMs));
  }

  /**
   * Takes over the states of projects. Ignored is who does not own the project or speaks of an older
   * generation; while an operation works on a project, that operation says what its state is. What
   * is known already is neither locked nor written.
   */
  private async believe(hostId: string, reports: readonly ProjectReport[]): Promise<void> {
    if (reports.length === 0) return;
    const newest = new Map(reports.map((report) => [report.projectId, report]));
    const rows = [...newest.values()].map((report) => ({
      id: report.projectId,
      generation: report.generation,
      state: report.state,
      digest: report.imageDigest ?? null,
      error: report.error ?? null,
      used: report.diskUsedBytes ?? null,
    }));
    const heard = [hostId, JSON.stringify(rows), staleReportMs];
    const news = await this.dataSource.query<{ id: string }[]>(
      `SELECT id FROM (${heardProjects}) AS heard`,
      heard,
    );
    if (news.length === 0) return;
    await this.dataSource.transaction(async (manager) => {
      // Reports of one host overlap when it asks again because an answer was late. In one order
      // none waits for rows of a report that waits for its own.
      const ids = news.map(({ id }) => id);
      await manager.query('SELECT 1 FROM projects WHERE id = ANY($1) ORDER BY id FOR UPDATE', [
        ids,
      ]);
      // Looked at anew, now that nobody else changes them.
      await manager.query(
        `UPDATE projects p SET disk_used_bytes = heard.used, image_digest = heard.digest,
           state = heard.state, error = heard.error
         FROM (${heardProjects}) AS heard WHERE p.id = heard.id AND p.id = ANY($4)`,
        [...heard, ids],
      );
    });
  }
}

/** Projects of host $1 whose rows would be others after its reports ($2), and what they would be. */
const heardProjects = `
  SELECT q.id, n.* FROM projects q
  JOIN jsonb_to_recordset($2::jsonb) AS s(id uuid, generation integer, state text, digest text,
    error jsonb, used bigint) ON s.id = q.id AND s.generation = q.placement_generation
  CROSS JOIN LATERAL (SELECT q.state <> 'archived'
    AND coalesce(q.state_set_at < now() - make_interval(secs => $3::float8 / 1000), true)
    AND NOT EXISTS (SELECT 1 FROM operations o
      WHERE o.project_id = q.id AND o.lane = 'lifecycle' AND o.ended_at IS NULL) AS settled) AS t
  CROSS JOIN LATERAL (SELECT
    coalesce(s.used, q.disk_used_bytes) AS used,
    coalesce(s.digest, q.image_digest) AS digest,
    CASE WHEN t.settled THEN s.state ELSE q.state END AS state,
    CASE WHEN NOT t.settled THEN q.error
      WHEN s.error IS NOT NULL THEN s.error
      -- It has recovered. What does not run keeps the reason, which the hub may have set.
      WHEN s.state = 'running' OR (q.state = 'error' AND s.state <> 'error') THEN NULL
      ELSE q.error END AS error) AS n
  WHERE q.host_id = $1 AND q.deleted_at IS NULL
    AND (q.disk_used_bytes, q.image_digest, q.state, q.error)
      IS DISTINCT FROM (n.used, n.digest, n.state, n.error)`;

/** Joins take turns at choosing names. */
const joinLock = 728_409;

/** `name`, or with a number when another host has it. */
async function freeName(manager: EntityManager, name: string): Promise<string> {
  const rows = await manager.query<{ name: string }[]>(
    `SELECT lower(name) AS name FROM project_hosts WHERE status = 'active'`,
  );
  const taken = new Set(rows.map((row) => row.name));
  for (let n = 1; ; n += 1) {
    const candidate = n === 1 ? name : `${name}-${n}`;
    if (!taken.has(candidate.toLowerCase())) return candidate;
  }
}
