import { connect, type Socket } from 'node:net';
import { protocolTexts } from '../broker/protocol-texts.js';
import type { SocketLike } from './dial-socket.js';

/** Where NATS listens when the URL names no port. */
const defaultPort = '4222';
const refused = Buffer.from(`-ERR '${protocolTexts.authorizationViolation}'`);

interface TcpSocketOptions {
  readonly timeoutMs: number;
  /** The server took nobody with these credentials. */
  readonly onRefused: () => void;
  readonly onError: (error: Error) => void;
}

/** As nats-core's WebSocket transport takes it: it would fill in the port of the Web. */
export function asWebSocketUrl(natsUrl: string): string {
  const url = new URL(natsUrl.replace(/^nats:/, 'ws:'));
  // The port of the Web is left out by URL when it is named.
  const named = /^nats:\/\/[^/]*:80(\/|$)/.test(natsUrl);
  if (url.port === '' && !named) url.port = defaultPort;
  return url.href;
}

/**
 * NATS over TCP as the W3C WebSocket that nats-core dials: the bytes of the protocol are the same,
 * and chunks may split or join its lines as frames may.
 */
export class TcpSocket implements SocketLike {
  binaryType = 'arraybuffer';
  onopen: SocketLike['onopen'] = null;
  onmessage: SocketLike['onmessage'] = null;
  onclose: SocketLike['onclose'] = null;
  onerror: SocketLike['onerror'] = null;
  private readonly socket: Socket;

  constructor(url: string, options: TcpSocketOptions) {
    const { hostname, port } = new URL(url);
    const host = hostname.replace(/^\[|\]$/g, '');
    const socket = connect({ host, port: Number(port || 80), noDelay: true });
    this.socket = socket;
    socket.setTimeout(options.timeoutMs, () => socket.destroy(new Error('no answer')));
    socket.on('connect', () => {
      socket.setTimeout(0);
      this.onopen?.();
    });
    socket.on('data', (data) => {
      if (data.indexOf(refused) === 0) options.onRefused();
      this.onmessage?.({ data });
    });
    socket.on('error', (error) => {
      options.onError(error);
      this.onerror?.({ message: error.message });
    });
    socket.on('close', (failed) =>
      this.onclose?.({ code: failed ? 1006 : 1000, reason: '', wasClean: !failed }),
    );
  }

  get bufferedAmount(): number {
    return this.socket.writableLength;
  }

  send(data: ArrayBuffer | Uint8Array): void {
    this.socket.write(data instanceof Uint8Array ? data : new Uint8Array(data));
  }

  close(): void {
    this.socket.end();
  }
}
