import { NatsServerOracle, startTestBroker, type TestBroker } from '@rookery/conat/testing';

/** What a program is told: passed as JSON, the same for each language. */
export interface ProgramTarget {
  readonly url: string;
  readonly credentials?: Readonly<{ user?: string; pass?: string; token?: string }>;
  readonly inboxPrefix?: string;
  /** JetStream's API, when it is not at `$JS.API`. */
  readonly apiPrefix?: string;
  /** Put before every subject of a scenario, for identities that see more than one space. */
  readonly subjectPrefix?: string;
}

/** A server that programs run against: a nats-server, or a conat in one of its roles. */
export interface InteropServer {
  readonly target: ProgramTarget;
  /** Comes back at the same address with the same store; programs reconnect to it. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export type StartServer = () => Promise<InteropServer>;

/** nats-server with everybody in one account. */
export async function natsServer(): Promise<InteropServer> {
  const server = await NatsServerOracle.start();
  return {
    target: { url: server.url },
    restart: () => server.restart(),
    close: () => server.close(),
  };
}

/** conat with one root space that lets everybody in, as `rookery conat serve` has. */
export async function conatRoot(): Promise<InteropServer> {
  let network: TestBroker = await startTestBroker();
  const { url, port } = network;
  return {
    target: { url },
    restart: async () => {
      await network.close();
      network = await startTestBroker({ port });
    },
    close: () => network.close(),
  };
}
