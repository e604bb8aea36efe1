import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createLogger, UpgradeDispatcher } from '@rookery/core';
import { Authenticator, type ConnectRequest } from '../auth/authenticator.js';
import type { ConatIdentity } from '../auth/identity.js';
import { spaceRootDefault, spaceSubjects, type SubjectSpace } from '../edge/space.js';
import type { Persistence } from '../persistence.js';
import { Broker } from '../broker/broker.js';
import type { BrokerLimitsInput } from '../broker/limits.js';
import type { Fabric } from '../fabric/fabric.js';
import { ConatClient, type ConatClientOptions } from '../client/conat-client.js';
import { TcpListener } from '../gateway/tcp-listener.js';
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

/** A program of a subject space: rooted there, with all of it. */
export function spaceIdentity(space: SubjectSpace): ConatIdentity {
  const own = { allow: spaceSubjects(space) };
  const responses = { countMax: 1_000_000, ttlMs: 120_000 };
  return {
    name: `space-${space.id}`,
    permissions: { publish: own, subscribe: own, responses },
    rootedIn: space.id,
  };
}

/** Lets those in who show one of these tokens. */
export class TokenAuthenticator extends Authenticator {
  constructor(private readonly identities: Readonly<Record<string, ConatIdentity>>) {
    super();
  }

  async authenticate({ options }: ConnectRequest): Promise<ConatIdentity | null> {
    return this.identities[options.auth_token ?? ''] ?? null;
  }
}

/** Lets everybody in as a program of one subject space: rooted there, whatever they show. */
export class MappedAuthenticator extends Authenticator {
  override readonly required = false;

  constructor(private readonly space: SubjectSpace) {
    super();
  }

  async authenticate(): Promise<ConatIdentity> {
    return spaceIdentity(this.space);
  }
}

export interface TestBrokerOptions {
  /** Everybody is a program of this space (their connections are rooted), with default options. */
  readonly rooted?: string;
  /** Where spaces lie; default `space`. */
  readonly spaceRoot?: string;
  readonly authenticator?: Authenticator;
  readonly limits?: BrokerLimitsInput;
  /** Started before clients are let in, closed with the broker. */
  readonly fabric?: Fabric;
  /** Started before clients are let in, closed with the broker. */
  readonly persistence?: Persistence;
  /** A port to come back on after {@link TestBroker.close}. */
  readonly port?: number;
  /** Also listens for NATS over TCP; 0: on a free port, see {@link TestBroker.tcpPort}. */
  readonly tcpPort?: number;
}

/** A real broker on a real port of the loopback. */
export interface TestBroker {
  readonly broker: Broker;
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

export async function startTestBroker(options: TestBrokerOptions = {}): Promise<TestBroker> {
  const { rooted, spaceRoot = spaceRootDefault, persistence } = options;
  const everybody =
    rooted === undefined
      ? new AllowAllAuthenticator()
      : new MappedAuthenticator({ root: spaceRoot, id: rooted });
  const broker = new Broker({
    authenticator: options.authenticator ?? everybody,
    limits: options.limits,
    fabric: options.fabric,
    spaceRoot,
  });
  await broker.fabric.start();
  await persistence?.start(broker);
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
    dispatcher,
    httpServer,
    port,
    tcpPort: tcp?.address?.port,
    url,
    connect: async (clientOptions = {}) => {
      const client = await ConatClient.connect({
        servers: url,
        identity: 'tester',
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
      await persistence?.close();
      await broker.fabric.close();
    },
  };
}
