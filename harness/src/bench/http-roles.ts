/**
 * One server of the HTTP benchmark in a process of its own:
 * `node http-roles.js ROLE UPSTREAM_PORT KEY_JSON`; prints its port when it listens.
 */
import { createServer, type Server } from 'node:http';
import { Agent } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createPrivateKey, type JsonWebKey } from 'node:crypto';
import { AccessTokenMinter, AccessTokenVerifier } from '@rookery/core';
import type { VerificationKey } from '@rookery/core/contract';
import {
  attachProxy,
  CachingTokenSource,
  createIngressServer,
  HostIngress,
  HubProxy,
  MemoryRouteTable,
  RequestAuthenticator,
  RouteResolver,
  type Principal,
  type ProjectRoute,
} from '@rookery/proxy';
import { createProxyServer } from 'httpxy';

export interface RoleSettings {
  readonly projectId: string;
  readonly hostId: string;
  readonly accountId: string;
  readonly privateKey: JsonWebKey;
  readonly verificationKey: VerificationKey;
}

export const roles = ['origin', 'httpxy', 'hub', 'host'] as const;
export type Role = (typeof roles)[number];

function serverOf(role: Role, upstreamPort: number, settings: RoleSettings): Server {
  switch (role) {
    case 'origin':
      return createServer((_, res) => res.end('ok'));
    case 'httpxy':
      return httpxyServer(upstreamPort);
    case 'hub': {
      const server = createIngressServer();
      attachProxy(server, hubProxy(upstreamPort, settings));
      return server;
    }
    case 'host': {
      const server = createIngressServer();
      attachProxy(server, hostIngress(settings));
      return server;
    }
  }
}

/** The same library with keep-alive and nothing else. */
function httpxyServer(upstreamPort: number): Server {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  const proxy = createProxyServer({
    target: `http://127.0.0.1:${upstreamPort}`,
    agent,
    xfwd: true,
  });
  return createServer((req, res) => void proxy.web(req, res));
}

/** As the hub's own: what it knows it gives at once, without a promise. */
class OneAccount extends RequestAuthenticator {
  constructor(private readonly accountId: string) {
    super();
  }

  authenticate(): Principal {
    return { accountId: this.accountId, via: 'bearer' };
  }
}

class OneRoute extends RouteResolver {
  constructor(private readonly route: ProjectRoute) {
    super();
  }

  resolve(projectId: string): ProjectRoute | undefined {
    return projectId === this.route.projectId ? this.route : undefined;
  }
}

function hubProxy(upstreamPort: number, settings: RoleSettings): HubProxy {
  const key = createPrivateKey({ key: settings.privateKey, format: 'jwk' });
  const minter = new AccessTokenMinter(key, settings.verificationKey.kid);
  return new HubProxy({
    authenticator: new OneAccount(settings.accountId),
    routes: new OneRoute({
      projectId: settings.projectId,
      state: 'running',
      hostId: settings.hostId,
      hostUrl: `http://127.0.0.1:${upstreamPort}`,
      generation: 1,
      publicPorts: [],
      roleOf: () => 'owner',
    }),
    tokens: new CachingTokenSource(minter),
  });
}

function hostIngress(settings: RoleSettings): HostIngress {
  const routes = new MemoryRouteTable();
  routes.set(settings.projectId, { state: 'running', address: '127.0.0.1' });
  return new HostIngress({
    hostId: settings.hostId,
    verifier: new AccessTokenVerifier([settings.verificationKey]),
    routes,
  });
}

const [role, upstreamPort, settings] = process.argv.slice(2);
if (role !== undefined && settings !== undefined) {
  const server = serverOf(role as Role, Number(upstreamPort), JSON.parse(settings) as RoleSettings);
  server.listen(0, '127.0.0.1', () => {
    process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
  });
  process.stdin.resume().once('end', () => process.exit());
}
