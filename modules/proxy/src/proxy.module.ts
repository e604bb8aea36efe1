import {
  ConfigurableModuleBuilder,
  Inject,
  Module,
  type BeforeApplicationShutdown,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import type { Server } from 'node:http';
import type { z } from 'zod';
import { attachProxy, hardenServer } from './attach.js';
import { HostIngress, type HostIngressDependencies } from './host/host-ingress.js';
import { ProxyRole } from './http/proxy-role.js';
import { HubProxy, type HubProxyDependencies } from './hub/hub-proxy.js';
import { ProxyLimits } from './limits.js';

interface CommonOptions {
  readonly limits?: z.input<typeof ProxyLimits>;
  /**
   * `server`: the application's own HTTP server carries upgrades too.
   * `none`: somebody else (an upgrade dispatcher) hands them to `ProxyRole.handleUpgrade`.
   */
  readonly upgrades?: 'server' | 'none';
  /** How long requests under way may take when the application closes. Default 10 s. */
  readonly drainMs?: number;
}

/** Which half of the way in this application is, and the ports that it needs. */
export type ProxyModuleOptions = CommonOptions &
  (
    | ({ readonly role: 'hub' } & HubProxyDependencies)
    | ({ readonly role: 'host' } & HostIngressDependencies)
  );

const drainMsDefault = 10_000;

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<ProxyModuleOptions>().setClassMethodName('forRoot').build();

/**
 * Puts the proxy in front of a Nest application's HTTP server, outside Nest's own pipeline. Inject
 * `ProxyRole` to close connections or to dispatch upgrades.
 */
@Module({
  providers: [
    {
      provide: ProxyRole,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (options: ProxyModuleOptions): ProxyRole =>
        options.role === 'hub'
          ? new HubProxy(options, options.limits)
          : new HostIngress(options, options.limits),
    },
  ],
  exports: [ProxyRole],
})
export class ProxyModule
  extends ConfigurableModuleClass
  implements OnApplicationBootstrap, BeforeApplicationShutdown
{
  private detach: (() => void) | undefined;

  constructor(
    @Inject(MODULE_OPTIONS_TOKEN) private readonly options: ProxyModuleOptions,
    private readonly role: ProxyRole,
    private readonly http: HttpAdapterHost,
  ) {
    super();
  }

  onApplicationBootstrap(): void {
    // An application context without a server attaches the role itself.
    const server = this.http.httpAdapter?.getHttpServer() as Server | undefined;
    if (!server) return;
    hardenServer(server, this.role.limits);
    this.detach = attachProxy(server, this.role, { upgrades: this.options.upgrades });
  }

  async beforeApplicationShutdown(): Promise<void> {
    await this.role.drain(this.options.drainMs ?? drainMsDefault);
    this.detach?.();
  }
}
