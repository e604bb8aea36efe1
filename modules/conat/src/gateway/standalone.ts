import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { Reverter, UpgradeDispatcher } from '@rookery/core';
import type { Broker } from '../broker/broker.js';
import { brokerMetrics, brokerMetricsType } from '../metrics/broker-registry.js';
import { MonitoringServer } from '../monitoring/monitoring-server.js';
import type { Persistence } from '../persistence.js';
import {
  listenOn,
  TcpListener,
  type TcpAddress,
  type TcpOptions,
  type TlsOptions,
} from './tcp-listener.js';
import { brokerWebSocketServer, upgradeTo } from './websocket-transport.js';

export interface StandaloneOptions {
  readonly broker: Broker;
  readonly host?: string;
  /** 0: a free one; null: nobody comes over WebSocket. */
  readonly port?: number | null;
  /** Where WebSocket clients connect; default `/conat`. */
  readonly path?: string;
  /** Encrypts the WebSocket door. */
  readonly tls?: TlsOptions;
  /** Started by its maker, closed with the broker. */
  readonly persistence?: Persistence;
  /** Where that keeps streams; shown by the monitoring pages. */
  readonly storeDir?: string;
  /** Also listen for NATS over TCP. */
  readonly tcp?: TcpOptions & { readonly tls?: TlsOptions };
  /** Also serve nats-server's monitoring pages; see MonitoringServer. */
  readonly monitoring?: { readonly host: string; readonly port: number };
}

/** A broker with doors of its own. */
export interface StandaloneServer {
  readonly broker: Broker;
  /** 0 without a WebSocket door. */
  readonly port: number;
  /** `ws://<host>:<port><path>`; '' without a WebSocket door. */
  readonly url: string;
  readonly tcp: TcpAddress | undefined;
  /** `http://<host>:<port>`, where `/varz` and the others are. */
  readonly monitoring: string | undefined;
  /** Takes nobody new, drains the broker, then closes the doors. */
  close(drainDeadlineMs?: number): Promise<void>;
}

const loopback = '127.0.0.1';

interface Door {
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Serves a broker without an app: WebSocket at `path`, `/metrics`, `/healthz`, and NATS over TCP
 * and monitoring pages when asked for.
 */
export async function serveBroker(options: StandaloneOptions): Promise<StandaloneServer> {
  const { broker } = options;
  const startedAtMs = Date.now();
  await using undo = new Reverter();
  const door = options.port === null ? null : await openWebSocketListener(options);
  undo.add(() => door?.close());
  const listener = options.tcp && new TcpListener(broker, options.tcp, options.tcp.tls);
  const tcp = await listener?.listen();
  undo.add(() => listener?.stopAccepting());
  const { monitoring: at, persistence = null, storeDir } = options;
  const pages =
    at &&
    new MonitoringServer(() => ({
      broker,
      persistence,
      startedAtMs,
      tcp,
      http: at,
      webSocket: door && {
        host: options.host ?? loopback,
        port: door.port,
        tls: options.tls !== undefined,
      },
      tlsRequired: options.tcp?.tls !== undefined,
      ...(storeDir !== undefined && { storeDir }),
    })).server;
  if (pages) await listenOn(pages, at.port, at.host);
  undo.success();
  return {
    broker,
    port: door?.port ?? 0,
    url: door?.url ?? '',
    tcp,
    monitoring: pages && `http://${inUrl(at.host)}:${(pages.address() as AddressInfo).port}`,
    close: async (drainDeadlineMs) => {
      listener?.stopAccepting();
      await broker.drain(drainDeadlineMs);
      await door?.close();
      listener?.cut();
      if (pages) await closeServer(pages);
      await options.persistence?.close();
    },
  };
}

async function openWebSocketListener(options: StandaloneOptions): Promise<Door> {
  const { broker, host = loopback, path = '/conat', tls } = options;
  const sockets = brokerWebSocketServer(broker);
  const dispatcher = new UpgradeDispatcher();
  dispatcher.register(path, upgradeTo(sockets));
  const respond = (request: IncomingMessage, response: ServerResponse): void =>
    void answer(broker, request, response);
  const server = tls
    ? createTlsServer({ cert: tls.cert, key: tls.key }, respond)
    : createServer(respond);
  dispatcher.attach(server);
  await listenOn(server, options.port ?? 0, host);
  const { port } = server.address() as AddressInfo;
  return {
    port,
    url: `${tls ? 'wss' : 'ws'}://${inUrl(host)}:${port}${path}`,
    close: async () => {
      for (const socket of sockets.clients) socket.terminate();
      await closeServer(server);
    },
  };
}

const inUrl = (host: string): string => (host.includes(':') ? `[${host}]` : host);

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
