import type { Broker } from '../broker/broker.js';
import type { Connection } from '../broker/ports.js';
import type { SocketLike } from './dial-socket.js';

/**
 * The part of the W3C WebSocket that nats-core uses, wired straight to a broker of this process:
 * the same client and the same protocol, without a socket.
 */
export class MemorySocket implements SocketLike {
  binaryType = 'arraybuffer';
  readonly bufferedAmount = 0;
  onopen: SocketLike['onopen'] = null;
  onmessage: SocketLike['onmessage'] = null;
  onclose: SocketLike['onclose'] = null;
  onerror: SocketLike['onerror'] = null;
  private connection: Connection | null = null;
  private closed = false;

  constructor(broker: Broker) {
    // After the caller has set its listeners.
    setImmediate(() => this.open(broker));
  }

  send(data: ArrayBuffer | Uint8Array): void {
    if (this.closed) return;
    this.connection?.receive(
      data instanceof Uint8Array
        ? Buffer.from(data.buffer, data.byteOffset, data.byteLength)
        : Buffer.from(data),
    );
  }

  close(): void {
    this.finish(1000, '', true);
  }

  private open(broker: Broker): void {
    if (this.closed) return;
    this.onopen?.();
    this.connection = broker.accept({
      kind: 'memory',
      peer: 'in-process',
      bufferedBytes: 0,
      send: (frame) => {
        if (!this.closed) this.onmessage?.({ data: frame });
      },
      // There is nothing to hold back: what is sent meanwhile waits in the broker's parser.
      pause: () => undefined,
      resume: () => undefined,
      close: (code, reason) => this.finish(code, reason, false),
    });
  }

  private finish(code: number, reason: string, wasClean: boolean): void {
    if (this.closed) return;
    this.closed = true;
    const { connection } = this;
    setImmediate(() => {
      connection?.lost();
      this.onclose?.({ code, reason, wasClean });
    });
  }
}
