import { Inject, Injectable, OnModuleInit } from '@nestjs/common';
import { FleetErrors } from '@rookery/fleet';
import {
  accountOfIdentity,
  hostOfIdentity,
  projectRoutes,
  routeChangeSubject,
  type ProjectRoute,
  type RouteChange,
} from '@rookery/fleet/contract';
import { CoreErrors } from '@rookery/core';
import { ProjectId } from '@rookery/core/contract';
import type { Handlers } from '@rookery/rpc/contract';
import { DataSource } from 'typeorm';
import { AccessChanges } from '../access/access-changes.js';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { SigningKeys } from '../keys/signing-keys.service.js';
import { HubAuthenticator } from './hub-authenticator.js';
import { HubConat } from './hub-conat.js';
import { relayPath } from './host-relay.js';

interface Place {
  readonly hostId: string | null;
  readonly generation: number;
  readonly publicUrl: string | null;
  readonly internalUrl: string | null;
}

/** Says where projects' networks are, and when that changes. */
@Injectable()
export class ProjectRoutes implements OnModuleInit {
  readonly handlers: Handlers<typeof projectRoutes> = {
    resolve: async ({ proof }, { params, caller }) => {
      const { success, data: projectId } = ProjectId.safeParse(params['projectId']);
      if (!success) throw CoreErrors.NOT_FOUND({ what: 'project', id: params['projectId'] ?? '' });
      const accountId = accountOfIdentity(caller);
      const hostId = hostOfIdentity(caller);
      const place = await this.place(projectId, accountId);
      const isTheirs = hostId === undefined || place?.hostId === hostId;
      if (!place || !isTheirs) throw CoreErrors.NOT_FOUND({ what: 'project', id: projectId });
      return this.route(projectId, place, accountId, proof);
    },
  };

  constructor(
    private readonly dataSource: DataSource,
    private readonly authenticator: HubAuthenticator,
    private readonly keys: SigningKeys,
    private readonly changes: AccessChanges,
    private readonly conat: HubConat,
    @Inject(HUB_CONFIG) private readonly config: HubConfig,
  ) {}

  /** Every process tells: a notice that comes twice does no harm, one that is lost costs time. */
  onModuleInit(): void {
    this.changes.onChange((change) => {
      if (change.kind !== 'rights' || change.accountId !== undefined) return;
      // What is lost shows when the former host cuts the connection.
      this.tell(change.projectId).catch(() => undefined);
    });
  }

  private async tell(projectId: string): Promise<void> {
    const place = await this.place(projectId, undefined);
    if (!place) return;
    const { hostId, generation } = place;
    const change: RouteChange = { projectId, hostId, generation };
    const client = await this.conat.client();
    client.nats.publish(routeChangeSubject(projectId), JSON.stringify(change));
  }

  /** Undefined when there is no such project, or none that the account may enter. */
  private async place(projectId: string, accountId?: string): Promise<Place | undefined> {
    const [row] = await this.dataSource.query<Place[]>(
      `SELECT p.host_id AS "hostId", p.placement_generation AS generation,
         h.public_url AS "publicUrl", h.internal_url AS "internalUrl"
       FROM projects p LEFT JOIN project_hosts h ON h.id = p.host_id
       WHERE p.id = $1 AND p.deleted_at IS NULL AND ($2::uuid IS NULL OR EXISTS (
         SELECT 1 FROM collaborators c JOIN accounts a ON a.id = c.account_id
         WHERE c.project_id = p.id AND c.account_id = $2 AND a.blocked_at IS NULL))`,
      [projectId, accountId ?? null],
    );
    return row;
  }

  /** @throws CONAT_ROUTE_MISSING */
  private async route(
    projectId: string,
    { hostId, generation, publicUrl, internalUrl }: Place,
    accountId: string | undefined,
    proof: string | undefined,
  ): Promise<ProjectRoute> {
    if (hostId === null || publicUrl === null) {
      throw FleetErrors.CONAT_ROUTE_MISSING({ subject: `project.${projectId}` });
    }
    // Accounts come from anywhere, hosts and the hub from inside.
    const base = accountId === undefined ? (internalUrl ?? publicUrl) : publicUrl;
    const route = { projectId, hostId, generation, urls: [webSocket(`${base}/conat`)] };
    if (accountId === undefined) return route;
    const relayUrl = webSocket(`${this.config.publicUrl}${relayPath(hostId)}`);
    if (proof === undefined) return { ...route, relayUrl };
    return { ...route, relayUrl, token: await this.token(projectId, hostId, accountId, proof) };
  }

  /**
   * For this project on this host alone: a host that keeps it can do nothing with it elsewhere.
   * @throws TOKEN_INVALID
   */
  private async token(
    ...[projectId, hostId, accountId, proof]: [string, string, string, string]
  ): Promise<string> {
    const shown = await this.authenticator.bearerOf(proof, 'conat');
    const opens = shown?.projectId === undefined || shown.projectId === projectId;
    if (shown?.accountId !== accountId || !opens) {
      throw CoreErrors.TOKEN_INVALID({ reason: 'the proof is not the caller’s' });
    }
    const { credentialId: credential } = shown;
    return this.keys.mint({
      aud: `conat:${hostId}`,
      sub: `account:${accountId}`,
      project: projectId,
      ...(credential !== undefined && { credential }),
    });
  }
}

const webSocket = (url: string): string => url.replace(/^http/, 'ws');
