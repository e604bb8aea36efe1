import { generateKeyPairSync } from 'node:crypto';
import { createServer, request, type IncomingMessage, type Server } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { AccessTokenMinter, AccessTokenVerifier, newId } from '@rookery/core';
import type { ProjectRole, VerificationKey } from '@rookery/core/contract';
import {
  attachProxy,
  CachingTokenSource,
  createIngressServer,
  HostIngress,
  HubProxy,
  MemoryRouteTable,
  RequestAuthenticator,
  RouteResolver,
  type HubProxyDependencies,
  type Principal,
  type ProjectPath,
  type ProjectRoute,
  type ProxyLimits,
} from '@rookery/proxy';
import { WebSocketServer } from 'ws';

export const accounts = { owner: newId(), stranger: newId() };

/** `Authorization: Bearer owner`, or the same word as cookie or query. */
class WordAuthenticator extends RequestAuthenticator {
  /** Words that nobody knows any more. */
  readonly revoked = new Set<string>();

  authenticate(req: IncomingMessage, { mode, queryToken: query }: ProjectPath): Principal {
    const bearer = /^Bearer (\w+)$/.exec(req.headers.authorization ?? '')?.[1];
    const name = mode === 'origin' ? /rookery_app=(\w+)/ : /rookery_session=(\w+)/;
    const cookie = name.exec(req.headers.cookie ?? '')?.[1];
    const word = bearer ?? cookie ?? query;
    if (word !== 'owner' && word !== 'stranger') return {};
    if (this.revoked.has(word)) return {};
    const byCookie = mode === 'origin' ? 'origin' : 'cookie';
    const via = bearer ? 'bearer' : cookie ? byCookie : 'query';
    return { accountId: accounts[word], sessionId: `session-${word}`, via };
  }
}

class TableResolver extends RouteResolver {
  readonly table = new Map<string, Omit<ProjectRoute, 'roleOf'>>();
  freshCount = 0;
  /** Times that it was asked at all. */
  askedCount = 0;
  readonly members = new Set<string>([accounts.owner]);
  readonly editors = new Set<string>();
  away = false;

  async resolve(projectId: string, options?: { fresh?: boolean }) {
    if (options?.fresh) this.freshCount += 1;
    this.askedCount += 1;
    if (this.away) throw new Error('the database is away');
    const route = this.table.get(projectId);
    if (!route) return undefined;
    const roleOf = ({ accountId = '' }: Principal): ProjectRole | undefined => {
      if (this.members.has(accountId)) return 'owner';
      return this.editors.has(accountId) ? 'editor' : undefined;
    };
    return { ...route, roleOf };
  }
}

export async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

export async function closeServer(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

export interface Host {
  readonly hostId: string;
  readonly url: string;
  readonly port: number;
  readonly routes: MemoryRouteTable;
  readonly ingress: HostIngress;
  readonly server: Server;
}

/** Hub, hosts and a project's service, each a real server on loopback. */
export class Rig {
  readonly projectId = newId();
  readonly resolver = new TableResolver();
  readonly authenticator = new WordAuthenticator();
  readonly minter: AccessTokenMinter;
  readonly key: VerificationKey;
  readonly hosts: Host[] = [];
  readonly closers: (() => unknown)[] = [];
  hub!: HubProxy;
  hubServer!: Server;
  hubPort = 0;
  servicePort = 0;
  serviceServer!: Server;

  constructor(
    readonly limits: Partial<ProxyLimits> = {},
    readonly hubParts: Partial<HubProxyDependencies> = {},
  ) {
    const { privateKey, publicKey } = generateKeyPairSync('ed25519');
    this.minter = new AccessTokenMinter(privateKey, 'k1');
    const { x = '' } = publicKey.export({ format: 'jwk' });
    this.key = { kid: 'k1', kty: 'OKP', crv: 'Ed25519', x };
  }

  async start(service: Server = echoService()): Promise<this> {
    this.serviceServer = service;
    this.servicePort = await listen(service);
    this.closers.push(() => closeServer(service));
    await this.addHost();
    const tokens = new CachingTokenSource(this.minter);
    const { authenticator, resolver: routes, hubParts } = this;
    const pathOrigin = 'shared' as const;
    const parts = { authenticator, routes, tokens, pathOrigin, ...hubParts };
    this.hub = new HubProxy(parts, this.limits);
    this.hubServer = createIngressServer(this.limits);
    this.hubServer.on('request', (_req, res) => res.writeHead(418).end('the app behind'));
    attachProxy(this.hubServer, this.hub);
    this.hubPort = await listen(this.hubServer);
    this.closers.push(
      () => closeServer(this.hubServer),
      () => this.hub.drain(0),
    );
    this.place(0);
    return this;
  }

  async addHost(pathOrigin: 'own' | 'shared' = 'own'): Promise<Host> {
    const hostId = newId();
    const routes = new MemoryRouteTable();
    const verifier = new AccessTokenVerifier([this.key]);
    const ingress = new HostIngress({ hostId, verifier, routes, pathOrigin }, this.limits);
    const server = createIngressServer(this.limits);
    server.on('request', (req, res) => void ingress.handleOrRefuse(req, res));
    server.on('upgrade', (req, socket, head) => {
      void ingress.handleUpgrade(req, socket, head).then((ours) => ours || socket.destroy());
    });
    const port = await listen(server);
    const host = { hostId, url: `http://127.0.0.1:${port}`, port, routes, ingress, server };
    this.hosts.push(host);
    this.closers.push(
      () => closeServer(server),
      () => ingress.drain(0),
    );
    return host;
  }

  host(index = 0): Host {
    const host = this.hosts[index];
    if (!host) throw new Error(`no host ${index}`);
    return host;
  }

  /** Says at hub and host that the project runs there. */
  place(index: number): void {
    const host = this.host(index);
    host.routes.set(this.projectId, { state: 'running', address: '127.0.0.1' });
    this.pointHub(index);
  }

  pointHub(index: number, publicPorts: number[] = []): void {
    const { hostId, url: hostUrl } = this.host(index);
    const { projectId } = this;
    const route = { projectId, state: 'running' as const, hostId, hostUrl, generation: 1 };
    this.resolver.table.set(projectId, { ...route, publicPorts });
  }

  /** A user's own token for the project, as it opens the host directly. */
  ownToken(index = 0): Promise<string> {
    const { hostId } = this.host(index);
    const sub = `account:${accounts.owner}`;
    return this.minter.mint({ aud: `host:${hostId}`, sub, project: this.projectId, role: 'owner' });
  }

  path(rest = '', mode: 'port' | 'server' = 'port', port = this.servicePort): string {
    return `/${this.projectId}/${mode}/${port}/${rest}`;
  }

  /** In reverse: a server does not close while a WebSocket is open. */
  async stop(): Promise<void> {
    for (const close of this.closers.reverse()) await close();
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  readonly text: string;
  json<T = Record<string, unknown>>(): T;
}

/** One request with full control over path and headers, by the owner unless told otherwise. */
export async function send(
  port: number,
  path: string,
  options: {
    method?: string;
    headers?: Record<string, string | string[]>;
    body?: string | Buffer;
    as?: 'owner' | 'stranger' | 'nobody';
  } = {},
): Promise<Answer> {
  const { method = 'GET', body, as = 'owner' } = options;
  const headers = {
    ...(as !== 'nobody' && { authorization: `Bearer ${as}` }),
    // Node's client sends the body of a DELETE without any length otherwise.
    ...(body !== undefined && { 'content-length': String(Buffer.byteLength(body)) }),
    ...options.headers,
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const req = request({ host: '127.0.0.1', port, path, method, headers }, resolve);
    req.on('error', reject);
    req.end(body);
  });
  const bytes = await buffer(response);
  const text = bytes.toString();
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: bytes,
    text,
    json: <T>() => JSON.parse(text) as T,
  };
}

/** Raw bytes out, raw text back, until the other side closes, or this is enough. */
export async function rawExchange(
  port: number,
  bytes: string,
  enough: (text: string) => boolean = () => false,
): Promise<string> {
  const socket: Socket = connect(port, '127.0.0.1');
  let text = '';
  socket.setTimeout(20_000, () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    if (enough(text)) socket.destroy();
  });
  socket.on('error', () => undefined);
  socket.write(bytes, 'latin1');
  await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

/** A project's service: says what it got; echoes WebSockets; streams events. */
export function echoService(): Server {
  const server = createServer((req, res) => {
    const url = req.url ?? '';
    if (url.includes('cookies')) {
      res.setHeader('set-cookie', [
        'a=1; Path=/; Domain=evil.example; HttpOnly',
        'b=2',
        'rookery_session=stolen; Path=/',
        '=rookery_session=nameless',
      ]);
      res.setHeader('clear-site-data', '"*"');
      res.setHeader('service-worker-allowed', '/');
      res.setHeader('rookery-error', 'PROXY_NOT_HERE');
      res.end('cookies');
    } else if (url.includes('events')) {
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      res.write('data: first\n\n');
      req.socket.once('close', () => server.emit('events-closed'));
    } else if (url.includes('redirect')) {
      const to = new URL(url, 'http://x').searchParams.get('to');
      res.writeHead(302, { location: to ?? '/elsewhere' }).end();
    } else if (url.includes('sink')) {
      let length = 0;
      req.on('data', (chunk: Buffer) => (length += chunk.length));
      req.on('end', () => res.end(String(length)));
    } else {
      void buffer(req).then((body) => {
        const seen = { method: req.method, url, headers: req.headers, body: body.toString() };
        res.setHeader('content-type', 'application/json');
        res.end(JSON.stringify(seen));
      });
    }
  });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket, req) => {
    socket.send(JSON.stringify({ url: req.url, headers: req.headers }));
    socket.on('message', (data, binary) => socket.send(data, { binary }));
  });
  return server;
}
