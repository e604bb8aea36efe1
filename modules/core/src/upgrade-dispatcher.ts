import { STATUS_CODES, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';

/** True for the requests that a handler takes; `path` is the URL's path as it was sent. */
export type UpgradeMatch = (path: string, request: IncomingMessage) => boolean;
export type UpgradeHandler = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;

/**
 * The one listener for upgrades of an HTTP server. Whoever serves WebSockets registers here; a
 * path that nobody knows gets 404 (Nest's own adapter destroys such sockets, and with them the
 * ones of everybody else).
 */
export class UpgradeDispatcher {
  private readonly routes = new Map<UpgradeMatch, UpgradeHandler>();
  private readonly servers = new Set<Server>();

  private readonly onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    // Until a handler takes over, a client that resets must not end the process.
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    const path = (request.url ?? '/').split('?', 1)[0]!;
    try {
      for (const [match, handler] of this.routes) {
        if (!match(path, request)) continue;
        handler(request, socket, head);
        return;
      }
      refuseUpgrade(socket, 404);
    } catch {
      refuseUpgrade(socket, 500);
    }
  };

  /** First come, first asked. @returns a function that takes the handler away */
  register(match: UpgradeMatch | string, handler: UpgradeHandler): () => void {
    const key: UpgradeMatch =
      typeof match === 'string' ? (path) => path === match : (...args) => match(...args);
    this.routes.set(key, handler);
    return () => void this.routes.delete(key);
  }

  /** Listens on a server; once, however often it is called. */
  attach(server: Server): void {
    if (this.servers.has(server)) return;
    this.servers.add(server);
    server.on('upgrade', this.onUpgrade);
  }

  detach(): void {
    for (const server of this.servers) server.off('upgrade', this.onUpgrade);
    this.servers.clear();
  }
}

/** Answers an upgrade request with an error status and closes. */
export function refuseUpgrade(socket: Duplex, status: number): void {
  const text = STATUS_CODES[status] ?? 'Error';
  socket.end(
    `HTTP/1.1 ${status} ${text}\r\nConnection: close\r\nContent-Type: text/plain\r\n` +
      `Content-Length: ${text.length}\r\n\r\n${text}`,
    () => socket.destroy(),
  );
}
