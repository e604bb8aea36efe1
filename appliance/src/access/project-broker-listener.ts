import { createServer, type Server } from 'node:http';
import { isIPv4 } from 'node:net';
import { UpgradeDispatcher, type Logger } from '@rookery/core';
import type { OnApplicationShutdown } from '@nestjs/common';

/**
 * The broker's door for containers: the same port at the gateway address of their network, where
 * nothing else is. Needed unless the agent listens everywhere.
 */
export class ProjectBrokerListener implements OnApplicationShutdown {
  private server: Server | undefined;

  constructor(
    private readonly dispatcher: UpgradeDispatcher,
    private readonly logger: Logger,
  ) {}

  /** @param port the agent's, as it came to be */
  async open(address: string, port: number, agentListens: string): Promise<void> {
    if (isEverywhere(agentListens) || agentListens === address || !isIPv4(address)) return;
    const server = createServer((_, response) => response.writeHead(404).end());
    this.dispatcher.attach(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, address, resolve);
    });
    server.on('error', (error) => this.logger.error({ err: error }, 'the door for projects'));
    this.server = server;
  }

  /** After the broker has said goodbye to everybody. */
  async onApplicationShutdown(): Promise<void> {
    const { server } = this;
    this.server = undefined;
    if (!server) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  }
}

const isEverywhere = (address: string): boolean => address === '0.0.0.0' || address === '::';
