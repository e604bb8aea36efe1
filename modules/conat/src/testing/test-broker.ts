import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createLogger } from '@rookery/core';
import { Authenticator, type ConnectRequest } from '../auth/authenticator.js';
import type { ConatIdentity } from '../auth/identity.js';
import {
  accountPermissions,
  hubPermissions,
  projectIdentity,
  type ProjectAccess,
} from '../auth/permissions.js';
import { identityNames } from '../contract.js';
import { Broker } from '../broker/broker.js';
import type { BrokerLimitsInput } from '../broker/limits.js';
import type { Fabric } from '../fabric/fabric.js';
import { ConatClient, type ConatClientOptions } from '../client/conat-client.js';
import type { JetStreamAccount } from '../jetstream/account.js';
import { JetStream, type JetStreamOptions } from '../jetstream/jetstream.js';
import { TcpListener } from '../gateway/tcp-listener.js';
import { UpgradeDispatcher } from '../gateway/upgrade-dispatcher.js';
import { brokerWebSocketServer, upgradeTo } from '../gateway/websocket-transport.js';

/** Lets everybody in with every right, under the name that the client gives itself. */
export class AllowAllAuthenticator extends Authenticator {
  override readonly required = false;

  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity> {
    const name = /^[^\s.*>]{1,128}$/.test(options.name) ? options.name : 'anyone';
    const all = { allow: ['>'] };
    return { name, permissions: { publish: all, subscribe: all, inboxes: 'all' } };
  }
}

/** Lets everybody in as a program of one project: rooted there, whatever they show. */
export class RootedAuthenticator extends Authenticator {
  override readonly required = false;

  constructor(private readonly projectId: string) {
    super();
  }

  async authenticate(): Promise<ConatIdentity> {
    return projectIdentity(this.projectId);
  }
}

/**
 * Takes a word for a token: `project:<id>` is rooted in that project, `account:<id>` is an account
 * with the roles that the test gave it, `hub` may do everything.
 */
export class ProjectTokenAuthenticator extends Authenticator {
  constructor(private readonly roles: Readonly<Record<string, readonly ProjectAccess[]>> = {}) {
    super();
  }

  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    const [kind, id = ''] = (options.auth_token ?? '').split(':');
    if (kind === 'hub') return { name: identityNames.hub, permissions: hubPermissions() };
    if (kind === 'project' && id !== '') return projectIdentity(id);
    const projects = this.roles[id];
    if (kind !== 'account' || !projects) return null;
    return { name: identityNames.account(id), permissions: accountPermissions(id, projects) };
  }
}

export interface TestBrokerOptions {
  /** Everybody is a program of this project (its connections are rooted), with default options. */
  readonly rooted?: string;
  readonly authenticator?: Authenticator;
  readonly limits?: BrokerLimitsInput;
  /** Started before clients are let in, closed with the broker. */
  readonly fabric?: Fabric;
  /** Persistence for these accounts; none has it otherwise. */
  readonly jetStream?: {
    readonly accounts: readonly JetStreamAccount[];
    readonly options?: Omit<JetStreamOptions, 'broker'>;
  };
  /** A port to come back on after {@link TestBroker.close}. */
  readonly port?: number;
  /** Also listens for NATS over TCP; 0: on a free port, see {@link TestBroker.tcpPort}. */
  readonly tcpPort?: number;
}

/** A real broker on a real port of the loopback. */
export interface TestBroker {
  readonly broker: Broker;
  readonly jetStream: JetStream | null;
  readonly dispatcher: UpgradeDispatcher;
  readonly httpServer: Server;
  readonly port: number;
  /** Undefined when it does not listen for TCP. */
  readonly tcpPort: number | undefined;
  /** `ws://127.0.0.1:<port>/conat` */
  readonly url: string;
  /** A client that is closed with the broker. */
  readonly connect: (options?: Partial<ConatClientOptions>) => Promise<ConatClient>;
  /** Closes clients and server at once. */
  readonly close: () => Promise<void>;
}

async function listenForTcp(
  broker: Broker,
  port: number | undefined,
): Promise<TcpListener | undefined> {
  if (port === undefined) return undefined;
  const listener = new TcpListener(broker, { port, host: '127.0.0.1' });
  await listener.listen();
  return listener;
}

const defaultAuthenticator = (rooted: string | undefined): Authenticator =>
  rooted === undefined ? new AllowAllAuthenticator() : new RootedAuthenticator(rooted);

export async function startTestBroker(options: TestBrokerOptions = {}): Promise<TestBroker> {
  const broker = new Broker({
    authenticator: options.authenticator ?? defaultAuthenticator(options.rooted),
    limits: options.limits,
    fabric: options.fabric,
  });
  await broker.fabric.start();
  const { jetStream: persistence } = options;
  const jetStream = persistence
    ? new JetStream({
        broker,
        logger: createLogger('test-jetstream', 'silent'),
        ...persistence.options,
      })
    : null;
  await jetStream?.start(persistence!.accounts);
  const sockets = brokerWebSocketServer(broker);
  const dispatcher = new UpgradeDispatcher();
  dispatcher.register('/conat', upgradeTo(sockets));
  const httpServer = createServer((_, response) => response.writeHead(404).end());
  dispatcher.attach(httpServer);
  await new Promise<void>((resolve, reject) => {
    httpServer.once('error', reject);
    httpServer.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = httpServer.address() as AddressInfo;
  const tcp = await listenForTcp(broker, options.tcpPort);
  const url = `ws://127.0.0.1:${port}/conat`;
  const clients = new Set<ConatClient>();
  return {
    broker,
    jetStream,
    dispatcher,
    httpServer,
    port,
    tcpPort: tcp?.address?.port,
    url,
    connect: async (clientOptions = {}) => {
      const client = await ConatClient.connect({
        servers: url,
        identity: 'hub',
        connectTimeoutMs: 10_000,
        logger: createLogger('test-client', 'silent'),
        ...clientOptions,
      });
      clients.add(client);
      return client;
    },
    close: async () => {
      await Promise.all([...clients].map((client) => client.close()));
      for (const socket of sockets.clients) socket.terminate();
      tcp?.stopAccepting();
      tcp?.cut();
      httpServer.closeAllConnections();
      await new Promise<void>((resolve) => httpServer.close(() => resolve()));
      await jetStream?.close();
      await broker.fabric.close();
    },
  };
}
