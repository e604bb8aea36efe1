import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocketServer, type ServerOptions, type WebSocket } from 'ws';
import type { UpgradeHandler } from '@rookery/core';
import type { Broker } from '../broker/broker.js';
import type { Connection, Transport } from '../broker/ports.js';

/** How long a closed connection may take to send what waits for it. */
export const closeDeadlineMs = 5_000;
const binary = { binary: true };
/** A client's frame may join many protocol lines; the broker itself bounds each of them. */
const frameSlackBytes = 64 * 1024;

/** Options of every WebSocket server here: no compression, bounded frames. */
export function webSocketServerOptions(broker: Broker): ServerOptions {
  return {
    noServer: true,
    perMessageDeflate: false,
    skipUTF8Validation: true,
    clientTracking: true,
    maxPayload: broker.limits.payloadBytesMax * 8 + frameSlackBytes,
  };
}

/** Joins a WebSocket to the broker. */
export function acceptWebSocket(broker: Broker, socket: WebSocket, request: IncomingMessage): void {
  const { localAddress, localPort } = request.socket;
  const transport: Transport = {
    kind: 'websocket',
    ...(localPort !== undefined && { local: { host: localAddress ?? '0.0.0.0', port: localPort } }),
    peer: request.socket.remoteAddress ?? 'unknown',
    peerPort: request.socket.remotePort ?? 0,
    get bufferedBytes() {
      return socket.bufferedAmount;
    },
    send: (frame, taken) => socket.send(frame, binary, taken),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: (code, reason, how) => {
      if (how === 'at once') {
        socket.terminate();
        return;
      }
      socket.close(code, reason.slice(0, 120));
      const timer = setTimeout(() => socket.terminate(), closeDeadlineMs);
      timer.unref();
      socket.once('close', () => clearTimeout(timer));
    },
  };
  const connection = broker.accept(transport);
  boundEarlyBytes(broker, connection, request.socket);
  socket.on('message', (data) => connection.receive(data as Buffer));
  socket.on('close', () => connection.lost());
  socket.on('error', () => connection.lost());
}

/**
 * `ws` keeps a frame until it is whole, and a client's may be megabytes: too much to keep for
 * somebody who is not authenticated.
 */
function boundEarlyBytes(broker: Broker, connection: Connection, raw: Socket): void {
  const bytesMax = broker.limits.preAuthBytesMax + frameSlackBytes;
  let bytes = 0;
  const count = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (!connection.isReady && bytes <= bytesMax) return;
    raw.off('data', count);
    if (!connection.isReady) connection.refuseEarly();
  };
  raw.on('data', count);
}

/** A bare WebSocket server for the broker, for those who do without Nest. */
export function brokerWebSocketServer(broker: Broker): WebSocketServer {
  const server = new WebSocketServer(webSocketServerOptions(broker));
  server.on('connection', (socket: WebSocket, request: IncomingMessage) => {
    acceptWebSocket(broker, socket, request);
  });
  return server;
}

/** Hands an upgrade to a WebSocket server without a listener of its own. */
export function upgradeTo(server: WebSocketServer): UpgradeHandler {
  return (request, socket, head) => {
    server.handleUpgrade(request, socket, head, (client: WebSocket) => {
      server.emit('connection', client, request);
    });
  };
}
