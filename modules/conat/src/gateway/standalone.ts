import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Reverter } from '@rookery/core';
import type { Broker } from '../broker/broker.js';
import type { JetStream } from '../jetstream/jetstream.js';
import { brokerMetrics, brokerMetricsType } from '../metrics/broker-registry.js';
import { listenOn, TcpListener, type TcpAddress, type TcpOptions } from './tcp-listener.js';
import { UpgradeDispatcher } from './upgrade-dispatcher.js';
import { brokerWebSocketServer, upgradeTo } from './websocket-transport.js';

export interface StandaloneOptions {
  readonly broker: Broker;
  readonly host?: string;
  /** 0: a free one. */
  readonly port?: number;
  /** Where WebSocket clients connect; default `/conat`. */
  readonly path?: string;
  /** Its persistence, closed with it. */
  readonly jetStream?: Pick<JetStream, 'close'>;
  /** Also listen for NATS over TCP. */
  readonly tcp?: TcpOptions;
}

/** A broker with doors of its own. */
export interface StandaloneServer {
  readonly broker: Broker;
  readonly port: number;
  /** `ws://<host>:<port><path>` */
  readonly url: string;
  readonly tcp: TcpAddress | undefined;
  /** Takes nobody new, drains the broker, then closes the doors. */
  close(drainDeadlineMs?: number): Promise<void>;
}

/**
 * Serves a broker without an app: WebSocket at `path`, `/metrics`, `/healthz`, and NATS over TCP
 * when asked for.
 */
export async function serveBroker(options: StandaloneOptions): Promise<StandaloneServer> {
  const { broker, host = '127.0.0.1', port = 0, path = '/conat' } = options;
  await using undo = new Reverter();
  const sockets = brokerWebSocketServer(broker);
  const dispatcher = new UpgradeDispatcher();
  dispatcher.register(path, upgradeTo(sockets));
  const server = createServer((request, response) => void answer(broker, request, response));
  dispatcher.attach(server);
  await listenOn(server, port, host);
  undo.add(() => closeServer(server));
  const listener = options.tcp && new TcpListener(broker, options.tcp);
  const tcp = await listener?.listen();
  undo.success();
  const bound = (server.address() as AddressInfo).port;
  return {
    broker,
    port: bound,
    url: `ws://${host.includes(':') ? `[${host}]` : host}:${bound}${path}`,
    tcp,
    close: async (drainDeadlineMs) => {
      listener?.stopAccepting();
      await broker.drain(drainDeadlineMs);
      for (const socket of sockets.clients) socket.terminate();
      await closeServer(server);
      await options.jetStream?.close();
    },
  };
}

async function answer(
  broker: Broker,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = request.url?.split('?', 1)[0];
  const reads = request.method === 'GET' || request.method === 'HEAD';
  if (reads && path === '/metrics') {
    const text = await brokerMetrics(broker);
    response.writeHead(200, { 'content-type': brokerMetricsType }).end(text);
  } else if (reads && path === '/healthz') {
    response.writeHead(200, { 'content-type': 'text/plain' }).end('ok\n');
  } else {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('not found\n');
  }
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
