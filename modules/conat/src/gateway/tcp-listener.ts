import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { z } from 'zod';
import type { Broker } from '../broker/broker.js';
import { ConatErrors } from '../conat.errors.js';
import type { Transport } from '../broker/ports.js';
import { closeDeadlineMs } from './websocket-transport.js';

/** Where NATS clients connect without a WebSocket. */
export const TcpOptions = z.object({
  /** 0: a free one, see {@link TcpListener.address}. */
  port: z.int().min(0).max(65_535).default(4_222),
  host: z.string().min(1).default('127.0.0.1'),
});
export type TcpOptions = z.output<typeof TcpOptions>;

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** The broker's door for clients that speak NATS over plain TCP; off unless an app asks for it. */
export class TcpListener {
  private server: Server | undefined;
  private listening: TcpAddress | undefined;
  private readonly sockets = new Set<Socket>();

  constructor(
    private readonly broker: Broker,
    private readonly options: TcpOptions,
  ) {}

  /** Undefined while it does not listen. */
  get address(): TcpAddress | undefined {
    return this.listening;
  }

  /** @throws CONAT_LISTEN_FAILED */
  async listen(): Promise<TcpAddress> {
    const { host, port } = this.options;
    const server = createServer({ noDelay: true }, (socket) => this.accept(socket));
    await listenOn(server, port, host);
    this.server = server;
    this.listening = { host, port: (server.address() as AddressInfo).port };
    return this.listening;
  }

  /** Takes nobody new; connections go on until the broker ends them. */
  stopAccepting(): void {
    this.server?.close();
    this.server = undefined;
    this.listening = undefined;
  }

  /** Ends all connections at once, whatever still waits for them. */
  cut(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  private accept(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('close', () => this.sockets.delete(socket));
    const connection = this.broker.accept(tcpTransport(socket, this.listening));
    socket.on('data', (chunk) => connection.receive(chunk));
    socket.on('close', () => connection.lost());
    socket.on('error', () => connection.lost());
  }
}

function tcpTransport(socket: Socket, local: TcpAddress | undefined): Transport {
  return {
    kind: 'tcp',
    peer: socket.remoteAddress ?? 'unknown',
    ...(local && { local }),
    get bufferedBytes() {
      return socket.writableLength;
    },
    send: (frame, taken) => void socket.write(frame, taken),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: (_code, _reason, how) => {
      if (how === 'at once') {
        socket.destroy();
        return;
      }
      socket.end();
      const timer = setTimeout(() => socket.destroy(), closeDeadlineMs);
      timer.unref();
      socket.once('close', () => clearTimeout(timer));
    },
  };
}

/** @throws CONAT_LISTEN_FAILED */
export async function listenOn(server: Server, port: number, host: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      const address = `${host}:${port}`;
      reject(ConatErrors.CONAT_LISTEN_FAILED({ address, reason: cause.message }, { cause }));
    });
    server.listen(port, host, resolve);
  });
}
