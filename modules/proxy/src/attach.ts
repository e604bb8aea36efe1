import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { isBehindLast } from './http/last-answer.js';
import { wantsWebSocket } from './http/request-line.js';
import { ProxyLimits } from './limits.js';

/** Which upgrades become tunnels; the others are ordinary requests. Node has it since 24.9. */
type UpgradingServer = Omit<Server, 'shouldUpgradeCallback'> & {
  shouldUpgradeCallback?: ((req: IncomingMessage) => boolean) | undefined;
};

/** What `attach` needs of a role. */
export interface AttachableProxy {
  matches(req: IncomingMessage): boolean;
  handle(req: IncomingMessage, res: ServerResponse): Promise<boolean>;
  handleUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<boolean>;
}

export interface AttachOptions {
  /**
   * `server`: listen for upgrades here, beside other listeners.
   * `none`: somebody else dispatches them to `handleUpgrade`. Default `server`.
   */
  readonly upgrades?: 'server' | 'none';
}

/**
 * Puts a proxy in front of whatever the server runs (Nest, Express …): a project's requests go to
 * the proxy and never enter the framework's pipeline, which would parse and buffer their bodies.
 * @returns how to take it off again
 */
export function attachProxy(
  server: Server,
  proxy: AttachableProxy,
  options: AttachOptions = {},
): () => void {
  type Listener = (req: IncomingMessage, res: ServerResponse) => void;
  const before = server.listeners('request') as Listener[];
  server.removeAllListeners('request');
  const onRequest: Listener = (req, res) => {
    if (isBehindLast(req)) return;
    if (proxy.matches(req)) void proxy.handle(req, res);
    else for (const listener of before) listener.call(server, req, res);
  };
  const onUpgrade = (req: IncomingMessage, socket: Duplex, head: Buffer): void => {
    if (proxy.matches(req)) void proxy.handleUpgrade(req, socket, head);
  };
  const { shouldUpgradeCallback } = server as UpgradingServer;
  if (shouldUpgradeCallback) {
    (server as UpgradingServer).shouldUpgradeCallback = (req) =>
      shouldUpgradeCallback.call(server, req) && (!proxy.matches(req) || wantsWebSocket(req));
  }
  server.on('request', onRequest);
  if (options.upgrades !== 'none') server.on('upgrade', onUpgrade);
  return () => {
    server.off('request', onRequest);
    server.off('upgrade', onUpgrade);
    Object.assign(server, { shouldUpgradeCallback });
    for (const listener of before) server.on('request', listener);
  };
}

/**
 * Sets a server's time limits for carrying foreign traffic: tight for headers, none for a whole
 * request (an upload may take hours; the proxy limits its silence instead).
 */
export function hardenServer(server: Server, limits: Partial<ProxyLimits> = {}): Server {
  const { headersMs, headersMax, keepAliveMs } = ProxyLimits.parse(limits);
  server.headersTimeout = headersMs;
  server.requestTimeout = 0;
  server.keepAliveTimeout = keepAliveMs;
  server.maxHeadersCount = headersMax;
  return server;
}

/** An HTTP server for an ingress: strict parsing, limits set, nothing attached yet. */
export function createIngressServer(limits: Partial<ProxyLimits> = {}): Server {
  const server = createServer({
    insecureHTTPParser: false,
    requireHostHeader: true,
    // How often slow headers are looked for: the limit is exact to this.
    connectionsCheckingInterval: 1_000,
    noDelay: true,
  });
  // An offer of another protocol (`h2c`, as Java's and curl's clients make it) is ignored.
  (server as UpgradingServer).shouldUpgradeCallback = (req) =>
    server.listenerCount('upgrade') > 0 && wantsWebSocket(req);
  return hardenServer(server, limits);
}
