import type { Server } from 'node:http';
import { isDeepStrictEqual } from 'node:util';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { relayUpgrade, UpgradeDispatcher, AccessTokenVerifier, type Logger } from '@rookery/core';
import type { TransferReceiver as MoveReceiver } from '@rookery/move';
import {
  attachProxy,
  createIngressServer,
  HostIngress,
  SshIngress,
  TrustedProxies,
} from '@rookery/proxy';
import type { HostConfig } from '../config/config.js';
import { RouteCache, SqliteRouteTable } from './route-cache.js';

const drainMs = 10_000;

export interface IngressDependencies {
  readonly config: HostConfig;
  readonly books: RouteCache;
  /** Private key of the SSH port. */
  readonly hostKey: string;
  readonly receiver: MoveReceiver;
  readonly logger: Logger;
}

/** The ports of the data plane, fed by the books. */
export class IngressServers implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private readonly http: HostIngress;
  private readonly ssh: SshIngress;
  private readonly server: Server;
  private readonly verifier: AccessTokenVerifier;
  private keys: ReturnType<RouteCache['host']>['verificationKeys'];

  constructor(private readonly parts: IngressDependencies) {
    const { books } = parts;
    const { hostId, verificationKeys } = books.host();
    this.keys = verificationKeys;
    this.verifier = new AccessTokenVerifier(verificationKeys);
    const routes = new SqliteRouteTable(books);
    const { pathOrigin } = parts.config;
    const trustedProxies = new TrustedProxies(parts.config.trustedProxies);
    const { verifier } = this;
    this.http = new HostIngress({ hostId, verifier, routes, trustedProxies, pathOrigin });
    this.server = createIngressServer();
    this.server.on('request', (req, res) => void this.http.handleOrRefuse(req, res));
    attachProxy(this.server, this.http, { upgrades: 'none' });
    const upgrades = new UpgradeDispatcher();
    // One address for browsers and clients: the broker is the agent's.
    const broker = `${agentUrl(parts.config)}/conat`;
    upgrades.register('/conat', (...upgrade) => void relayUpgrade(...upgrade, broker));
    upgrades.register(
      (_path, request) => this.http.matches(request),
      (...upgrade) => void this.http.handleUpgrade(...upgrade),
    );
    upgrades.attach(this.server);
    this.ssh = new SshIngress({
      hostKey: parts.hostKey,
      authorizer: parts.receiver,
      receiver: parts.receiver,
    });
  }

  async onApplicationBootstrap(): Promise<void> {
    const { config, books, logger } = this.parts;
    books.onChange((projectId) => {
      if (projectId === '') this.renewKeys();
    });
    process.on('message', () => books.refresh());
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(config.port, config.listen, resolve);
    });
    await this.ssh.listen(config.sshPort, config.listen);
    logger.info({ port: config.port, sshPort: config.sshPort }, 'the ingress is open');
  }

  async beforeApplicationShutdown(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    await Promise.all([this.http.drain(drainMs), this.ssh.drain(drainMs)]);
    this.server.closeAllConnections();
    await closed;
    this.parts.books.close();
  }

  private renewKeys(): void {
    const { verificationKeys } = this.parts.books.host();
    if (isDeepStrictEqual(verificationKeys, this.keys)) return;
    this.keys = verificationKeys;
    this.verifier.setKeys(verificationKeys);
    this.http.forgetTokens();
  }
}

/** The agent's port as this machine reaches it. */
function agentUrl({ listen, agentPort }: HostConfig): string {
  const everywhere: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
  const address = everywhere[listen] ?? listen;
  return `http://${address.includes(':') ? `[${address}]` : address}:${agentPort}`;
}
