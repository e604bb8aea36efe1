import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AccessTokenVerifier } from '@rookery/core';
import { createIngressServer, HostIngress, MemoryRouteTable } from '@rookery/proxy';
import { DataSource } from 'typeorm';
import { WebSocketServer } from 'ws';
import { SigningKeys } from '../../src/keys/signing-keys.service.js';
import type { FakeHost } from './fake-host.js';
import type { Project, TestHub } from './test-hub.js';

interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly cookie: string;
  readonly headers: IncomingMessage['headers'];
}

/** A project with one service, which runs in this process. */
export interface Site {
  readonly project: Project;
  /** The project's port, which is one of this machine's here. */
  readonly port: number;
  /** Everything that has reached the service; upgrades, too. */
  readonly seen: SeenRequest[];
}

export type Answer = (req: IncomingMessage, res: ServerResponse) => void;

/** The real ingress of a host whose projects are services in this process. */
export class ProjectSites {
  private readonly servers: Server[] = [];

  private constructor(
    private readonly hub: TestHub,
    private readonly host: FakeHost,
    private readonly ingress: HostIngress,
    private readonly routes: MemoryRouteTable,
  ) {}

  static async open(hub: TestHub, host: FakeHost): Promise<ProjectSites> {
    const routes = new MemoryRouteTable();
    const verifier = new AccessTokenVerifier(await hub.app.get(SigningKeys).published());
    const ingress = new HostIngress({ hostId: host.hostId, verifier, routes });
    const sites = new ProjectSites(hub, host, ingress, routes);
    const server = createIngressServer();
    server.on('request', (req, res) => void ingress.handleOrRefuse(req, res));
    server.on('upgrade', (req, socket, head) => {
      void ingress.handleUpgrade(req, socket, head).then((ours) => ours || socket.destroy());
    });
    const url = `http://127.0.0.1:${await sites.listen(server)}`;
    await hub.app
      .get(DataSource)
      .query('UPDATE project_hosts SET internal_url = $1 WHERE id = $2', [url, host.hostId]);
    return sites;
  }

  async add(answer: Answer, options: { public?: boolean; token?: string } = {}): Promise<Site> {
    const seen: SeenRequest[] = [];
    const note = ({ method = '', url = '', headers }: IncomingMessage): void =>
      void seen.push({ method, url, headers, cookie: headers.cookie ?? '' });
    const service = createServer((req, res) => {
      note(req);
      answer(req, res);
    });
    const sockets = new WebSocketServer({ server: service });
    sockets.on('connection', (socket, req) => {
      note(req);
      socket.on('message', (data, binary) => socket.send(data, { binary }));
    });
    const port = await this.listen(service);
    const { token = this.hub.admin.token } = options;
    const started = await this.hub.ok<Parameters<TestHub['succeeded']>[0] & { project: Project }>(
      'POST',
      '/projects',
      { token, body: { name: `port ${port}`, start: true, host: this.host.name } },
    );
    const { id } = started.project;
    await this.hub.ended(started.operation.id, 20_000, token);
    this.routes.set(id, { state: 'running', address: '127.0.0.1' });
    if (options.public === true) {
      await this.hub.ok('PATCH', `/projects/${id}`, { token, body: { publicPorts: [port] } });
    }
    const project = await this.hub.ok<Project>('GET', `/projects/${id}`, { token });
    return { project, port, seen };
  }

  async close(): Promise<void> {
    await this.ingress.drain(0);
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  private async listen(server: Server): Promise<number> {
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return (server.address() as AddressInfo).port;
  }
}

/** Where a browser sees the site. */
export const originOf = ({ project, port }: Site): string =>
  new URL(project.appUrl!.replace('{port}', String(port))).origin;
