import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { isIPv6, type Socket } from 'node:net';
import { peerAddress, type TrustedProxies } from '@rookery/proxy';
import { HubErrors } from '../hub.errors.js';
import { announcedBytes } from './body.js';
import { sendProblem } from './problem.js';

/** How long a client that was told that it is too slow may take to read that. */
const lingerMs = 2000;

export interface ClientLimitsOptions {
  readonly connectionsPerAddressMax: number;
  readonly requestsPerAddressMax: number;
  /** A body must have come within this, from its first byte to its last. */
  readonly bodyMs: number;
}

/**
 * What one client may have open at this server, whoever it says that it is. Connections count by
 * the peer's address, except those of trusted proxies; requests to the hub itself (projects' are
 * the proxy's to count) by the address of the client behind them.
 */
export class ClientLimits {
  private readonly connections = new Counts();
  private readonly requests = new Counts();

  constructor(
    private readonly trusted: TrustedProxies,
    private readonly options: ClientLimitsOptions,
  ) {}

  /** Closes connections beyond the limit: an answer each would be as dear as serving them. */
  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      const address = peerAddress({ socket });
      if (this.trusted.trusts(address)) return;
      const leave = this.connections.enter(address, this.options.connectionsPerAddressMax);
      if (leave) socket.once('close', leave);
      else socket.destroy();
    });
  }

  /** Puts the limits in front of a listener. */
  before(listener: RequestListener): RequestListener {
    return (req, res) => {
      const { requestsPerAddressMax: limit } = this.options;
      const leave = this.requests.enter(this.trusted.clientOf(req).address, limit);
      if (!leave) {
        sendProblem(req, res, HubErrors.TOO_MANY_REQUESTS({ limit }));
        return;
      }
      res.once('close', leave);
      if (announcedBytes(req) > 0) this.limitBody(req, res);
      listener(req, res);
    };
  }

  /** Also after an answer: what was not read of a body still comes over the connection. */
  private limitBody(req: IncomingMessage, res: ServerResponse): void {
    const { bodyMs } = this.options;
    const timer = setTimeout(() => {
      const { socket } = req;
      if (req.complete || socket.destroyed) return;
      if (res.headersSent) {
        socket.destroy();
        return;
      }
      res.setHeader('connection', 'close');
      sendProblem(req, res, HubErrors.REQUEST_TOO_SLOW({ seconds: bodyMs / 1000 }));
      const end = setTimeout(() => socket.destroy(), lingerMs);
      socket.once('close', () => clearTimeout(end));
    }, bodyMs);
    req.once('close', () => clearTimeout(timer));
  }
}

/** How many of something each network has now. */
class Counts {
  private readonly counts = new Map<string, number>();

  /** Counts one in. @returns how to count it out; undefined when there are `max` already */
  enter(address: string, max: number): (() => void) | undefined {
    const network = networkOf(address);
    const count = this.counts.get(network) ?? 0;
    if (count >= max) return undefined;
    this.counts.set(network, count + 1);
    return () => {
      const left = (this.counts.get(network) ?? 1) - 1;
      if (left > 0) this.counts.set(network, left);
      else this.counts.delete(network);
    };
  }
}

/** Whoever has an IPv6 address has 2^64 of them. */
function networkOf(address: string): string {
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('::');
  const groups = head === '' ? [] : head.split(':');
  if (tail !== undefined) {
    const after = tail === '' ? 0 : tail.split(':').length;
    while (groups.length + after < 8) groups.push('0');
  }
  return groups.slice(0, 4).join(':');
}
