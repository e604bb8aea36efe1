import { Injectable, OnApplicationBootstrap, OnModuleDestroy } from '@nestjs/common';
import { createServiceClient, relayDuplex, serve, type ServiceServer } from '@rookery/rpc';
import {
  accountOfIdentity,
  hostRegistration,
  hostReports,
  projectRoutes,
  hostProjects,
  projectStreams,
} from '@rookery/fleet/contract';
import type { DuplexContext, Handlers } from '@rookery/rpc/contract';
import type { ProjectRole } from '@rookery/core/contract';
import { DataSource } from 'typeorm';
import { OpenAccess } from '../access/open-access.js';
import { AuditService } from '../audit/audit.service.js';
import { HostRegistry } from '../hosts/host-registry.service.js';
import { HubErrors } from '../hub.errors.js';
import { ProjectQueries } from '../projects/project.queries.js';
import { HubConat } from './hub-conat.js';
import { ProjectRoutes } from './project-routes.js';

/** What the hub serves over the control network. Hub processes share the requests. */
@Injectable()
export class HubServices implements OnApplicationBootstrap, OnModuleDestroy {
  private servers: ServiceServer[] = [];

  /** Exec and logs as users reach them: relayed to the host that has the project. */
  private readonly streams: Handlers<typeof projectStreams> = {
    exec: async (input, context) => {
      const { host, projectId, accountId } = await this.enter(context, 'editor');
      await this.audit.record(this.dataSource.manager, {
        actor: `account:${accountId}`,
        action: 'project.exec',
        subject: `project:${projectId}`,
        details: { command: input.command[0] ?? '' },
      });
      return this.held(context, 'editor', async (served) =>
        relayDuplex(served, await host.exec({ ...input, projectId })),
      );
    },
    logs: async (input, context) => {
      const { host, projectId } = await this.enter(context, 'viewer');
      return this.held(context, 'viewer', async (served) =>
        relayDuplex(served, await host.logs({ ...input, projectId })),
      );
    },
  };

  constructor(
    private readonly conat: HubConat,
    private readonly registry: HostRegistry,
    private readonly dataSource: DataSource,
    private readonly queries: ProjectQueries,
    private readonly audit: AuditService,
    private readonly routes: ProjectRoutes,
    private readonly open: OpenAccess,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    const client = await this.conat.client();
    const { registration, reports } = this.registry;
    this.servers = [
      await serve(client, hostRegistration, registration),
      await serve(client, hostReports, reports, { wildcardParams: ['hostId'] }),
      await serve(client, projectStreams, this.streams, { wildcardParams: ['projectId'] }),
      await serve(client, projectRoutes, this.routes.handlers, { wildcardParams: ['projectId'] }),
    ];
  }

  async onModuleDestroy(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.close()));
  }

  /**
   * Relays for as long as the caller has the role: what is taken away while a command runs ends it.
   * @throws what refuses the caller, at first or later
   */
  private async held<C, O>(
    context: DuplexContext<C>,
    role: ProjectRole,
    relay: (served: DuplexContext<C>) => Promise<O>,
  ): Promise<O> {
    const { projectId, accountId } = callerOf(context);
    const refused = new AbortController();
    const close = await this.open.admit({
      accountId,
      check: () => this.queries.require({ accountId }, projectId, role),
      end: (reason) => refused.abort(reason),
    });
    const signal = AbortSignal.any([context.signal, refused.signal]);
    try {
      return await relay({ ...context, signal });
    } catch (error) {
      if (refused.signal.aborted) throw refused.signal.reason;
      throw error;
    } finally {
      close();
    }
  }

  /** Who calls, checked against the collaborators of now, and the host to relay to. */
  private async enter<C>(context: DuplexContext<C>, role: ProjectRole) {
    const { projectId, accountId } = callerOf(context);
    const { project } = await this.queries.require({ accountId }, projectId, role);
    const { hostId } = project;
    if (hostId === null) throw HubErrors.PROJECT_ARCHIVED();
    const host = createServiceClient(await this.conat.client(), hostProjects, { hostId });
    return { host, projectId, accountId };
  }
}

/** @throws CALLER_REFUSED for who is no account */
function callerOf({ params, caller }: Pick<DuplexContext<unknown>, 'params' | 'caller'>) {
  const projectId = params['projectId'] ?? '';
  const accountId = accountOfIdentity(caller);
  if (accountId !== undefined) return { projectId, accountId };
  throw HubErrors.CALLER_REFUSED({ caller, subject: `project ${projectId}` });
}
