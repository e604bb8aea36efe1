import {
  Broker,
  ConatClient,
  NatsFabric,
  serveBroker,
  type Authenticator,
  type BrokerLimitsInput,
  type ConatClientOptions,
  type StandaloneServer,
} from '@rookery/conat';
import { AllowAllAuthenticator } from '@rookery/conat/testing';
import { createLogger } from '@rookery/core';

export interface TestHubOptions {
  readonly name: string;
  readonly authenticator?: Authenticator;
  readonly limits?: BrokerLimitsInput;
  readonly fabric?: object;
}

/** One process of a pool, in this one. */
export class TestHub {
  private readonly clients: ConatClient[] = [];

  private constructor(
    readonly broker: Broker,
    readonly server: StandaloneServer,
  ) {}

  static async start(servers: string[], options: TestHubOptions): Promise<TestHub> {
    const fabric = new NatsFabric(
      { servers, ...options.fabric },
      { name: options.name, logger: createLogger('test-fabric', 'silent') },
    );
    const broker = new Broker({
      authenticator: options.authenticator ?? new AllowAllAuthenticator(),
      limits: options.limits,
      fabric,
    });
    await fabric.start();
    return new TestHub(broker, await serveBroker({ broker }));
  }

  get status() {
    return this.broker.fabric.status!;
  }

  async connect(options: Partial<ConatClientOptions> = {}): Promise<ConatClient> {
    const client = await ConatClient.connect({
      servers: this.server.url,
      identity: 'hub',
      logger: createLogger('test-client', 'silent'),
      ...options,
    });
    this.clients.push(client);
    return client;
  }

  async close(): Promise<void> {
    await Promise.all(this.clients.map((client) => client.close()));
    await this.server.close(0);
    await this.broker.fabric.close();
  }
}
