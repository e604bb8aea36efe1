import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { Reverter, waitFor } from '@rookery/core';
import { NatsServerOracle } from '@rookery/conat/testing';

const user = { name: 'pool', password: 'p@ss:word/1' };

/** Three real nats-servers that are one cluster with JetStream, behind a password. */
export class NatsCluster {
  private constructor(readonly nodes: readonly NatsServerOracle[]) {}

  static async start(size = 3): Promise<NatsCluster> {
    await using undo = new Reverter();
    const ports = await freePorts(size);
    const routes = ports.map((port) => `"nats://127.0.0.1:${port}"`).join(', ');
    const nodes = await Promise.all(
      ports.map(async (port, n) => {
        const node = await NatsServerOracle.start({
          name: `node${n}`,
          config: `
            cluster { name: pool, listen: "127.0.0.1:${port}", routes: [${routes}], no_advertise: true }
            accounts {
              POOL { jetstream: enabled, users: [{ user: "${user.name}", password: "${user.password}" }] }
              $SYS { users: [{ user: "system", password: "system" }] }
            }
          `,
        });
        undo.add(() => node.close());
        return node;
      }),
    );
    const cluster = new NatsCluster(nodes);
    await waitFor('the cluster has a leader', () => cluster.isWhole(size), {
      timeoutMs: 60_000,
      everyMs: 100,
    });
    undo.success();
    return cluster;
  }

  /** With the password in them, as the setting has them. */
  get servers(): string[] {
    const signIn = `${user.name}:${encodeURIComponent(user.password)}`;
    return this.nodes.map(({ tcpUrl }) => tcpUrl.replace('//', `//${signIn}@`));
  }

  /** The node that a client of this name is connected to. */
  async nodeOf(name: string): Promise<NatsServerOracle | undefined> {
    for (const node of this.nodes) {
      const { connections } = await ask<{ connections: { name?: string }[] }>(node, '/connz');
      if (connections.some((each) => each.name === name)) return node;
    }
    return undefined;
  }

  async close(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.close()));
  }

  private async isWhole(size: number): Promise<boolean> {
    for (const node of this.nodes) {
      const { meta_cluster: meta } = await ask<{
        meta_cluster?: { leader?: string; cluster_size?: number };
      }>(node, '/jsz');
      if (!meta?.leader || meta.cluster_size !== size) return false;
    }
    return true;
  }
}

async function ask<T>(node: NatsServerOracle, page: string): Promise<T> {
  const answer = await fetch(`${node.monitoringUrl}${page}`).catch(() => null);
  return (answer?.ok ? await answer.json() : { connections: [] }) as T;
}

/** All held at a time, so that they differ. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
