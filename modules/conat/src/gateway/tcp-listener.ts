import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { createSecureContext, TLSSocket, type SecureContext } from 'node:tls';
import { z } from 'zod';
import type { Broker } from '../broker/broker.js';
import { ConatErrors } from '../conat.errors.js';
import type { Connection, Transport } from '../broker/ports.js';
import { closeDeadlineMs } from './websocket-transport.js';

/** Where NATS clients connect without a WebSocket. */
export const TcpOptions = z.object({
  /** 0: a free one, see {@link TcpListener.address}. */
  port: z.int().min(0).max(65_535).default(4_222),
  host: z.string().min(1).default('127.0.0.1'),
});
export type TcpOptions = z.output<typeof TcpOptions>;

/** PEM texts. */
export interface TlsOptions {
  readonly cert: string;
  readonly key: string;
  /** TLS begins at once, not behind INFO. */
  readonly handshakeFirst?: boolean;
}

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

/** The broker's door for clients that speak NATS over TCP; off unless an app asks for it. */
export class TcpListener {
  private server: Server | undefined;
  private listening: TcpAddress | undefined;
  private readonly sockets = new Set<Socket>();
  private readonly secure: SecureContext | undefined;

  /** @throws when the certificate or the key cannot be read */
  constructor(
    private readonly broker: Broker,
    private readonly options: TcpOptions,
    private readonly tls?: TlsOptions,
  ) {
    if (tls) this.secure = createSecureContext({ cert: tls.cert, key: tls.key });
  }

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
    if (!this.secure) {
      const transport = tcpTransport(() => socket, socket, this.listening, false);
      follow(socket, this.broker.accept(transport));
    } else if (this.tls?.handshakeFirst) {
      const secured = this.encrypt(socket);
      const transport = tcpTransport(() => secured, socket, this.listening, true);
      follow(secured, this.broker.accept(transport));
    } else this.acceptThenEncrypt(socket);
  }

  /** As nats-server: INFO goes out as it is and says that TLS follows. */
  private acceptThenEncrypt(socket: Socket): void {
    let stream: Socket = socket;
    const transport = tcpTransport(() => stream, socket, this.listening, true);
    const greeting: Transport = {
      ...transport,
      get bufferedBytes() {
        return stream.writableLength;
      },
      send: (frame, taken) => {
        stream.write(frame, taken);
        if (stream !== socket) return;
        stream = this.encrypt(socket);
        follow(stream, connection);
      },
    };
    const connection = this.broker.accept(greeting);
    socket.on('error', () => connection.lost());
    socket.on('close', () => connection.lost());
  }

  private encrypt(socket: Socket): TLSSocket {
    return new TLSSocket(socket, { isServer: true, secureContext: this.secure! });
  }
}

function follow(socket: Socket, connection: Connection): void {
  socket.on('data', (chunk) => connection.receive(chunk));
  socket.on('close', () => connection.lost());
  socket.on('error', () => {
    connection.lost();
    socket.destroy();
  });
}

/** @param stream what is written to, which TLS may replace */
function tcpTransport(
  stream: () => Socket,
  socket: Socket,
  local: TcpAddress | undefined,
  tlsRequired: boolean,
): Transport {
  return {
    kind: 'tcp',
    peer: socket.remoteAddress ?? 'unknown',
    peerPort: socket.remotePort ?? 0,
    ...(local && { local }),
    ...(tlsRequired && { tlsRequired }),
    get bufferedBytes() {
      return stream().writableLength;
    },
    send: (frame, taken) => void stream().write(frame, taken),
    pause: () => void stream().pause(),
    resume: () => void stream().resume(),
    close: (_code, _reason, how) => {
      if (how === 'at once') {
        socket.destroy();
        return;
      }
      stream().end();
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
