/** The part of the W3C WebSocket that nats-core uses. */
export interface SocketLike {
  binaryType: string;
  /** As in the standard: 1 is open, and then `onopen` is not called any more. */
  readonly readyState?: number;
  readonly bufferedAmount: number;
  onopen: ((event?: unknown) => void) | null;
  onmessage: ((event: { data: unknown }) => void) | null;
  onclose: ((event: CloseEventLike) => void) | null;
  onerror: ((event: { message: string }) => void) | null;
  send(data: ArrayBuffer | Uint8Array): void;
  close(): void;
}

interface CloseEventLike {
  readonly code: number;
  readonly reason: string;
  readonly wasClean: boolean;
}

const open = 1;

/**
 * A socket that is there at once and dials when it has what it needs (a moment of jitter, fresh
 * credentials). nats-core cannot be closed while it waits for a socket.
 */
export class DialSocket implements SocketLike {
  onopen: SocketLike['onopen'] = null;
  onmessage: SocketLike['onmessage'] = null;
  onclose: SocketLike['onclose'] = null;
  onerror: SocketLike['onerror'] = null;
  binaryType = 'arraybuffer';
  private inner: SocketLike | null = null;
  private readonly controller = new AbortController();

  constructor(dial: (signal: AbortSignal) => Promise<SocketLike>) {
    dial(this.controller.signal).then(
      (inner) => this.join(inner),
      (error: unknown) => {
        if (!this.controller.signal.aborted) this.onerror?.({ message: String(error) });
      },
    );
  }

  get bufferedAmount(): number {
    return this.inner?.bufferedAmount ?? 0;
  }

  send(data: ArrayBuffer | Uint8Array): void {
    this.inner?.send(data);
  }

  close(): void {
    if (this.controller.signal.aborted) return;
    this.controller.abort();
    if (this.inner) this.inner.close();
    else setImmediate(() => this.onclose?.({ code: 1000, reason: '', wasClean: true }));
  }

  private join(inner: SocketLike): void {
    if (this.controller.signal.aborted) {
      inner.close();
      return;
    }
    this.inner = inner;
    inner.binaryType = this.binaryType;
    inner.onopen = () => this.onopen?.();
    inner.onmessage = (event) => this.onmessage?.(event);
    inner.onclose = (event) => this.onclose?.(event);
    inner.onerror = (event) => this.onerror?.({ message: event.message });
    if (inner.readyState === open) this.onopen?.();
  }
}
