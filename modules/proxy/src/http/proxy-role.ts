import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { Socket } from 'node:net';
import { parseConfig } from '@rookery/core';
import type { z } from 'zod';
import { ProxyLimits } from '../limits.js';
import {
  isProjectUrl,
  parseProjectPath,
  type ProjectPath,
  type ProjectPathRedirect,
} from '../project-path.js';
import { ProxyErrors } from '../proxy.errors.js';
import { Connections, type ConnectionFilter, type OpenConnection } from './connections.js';
import { refuseUpgrade, respondWithError } from './error-response.js';
import { Forwarder } from './forwarder.js';
import { checkFraming, hasBody } from './headers.js';
import { isBehindLast } from './last-answer.js';
import { originForm } from './request-line.js';

export interface UpgradeExchange {
  readonly req: IncomingMessage;
  readonly socket: Socket;
  readonly head: Buffer;
  readonly path: ProjectPath;
  readonly connection: OpenConnection;
}

export interface RequestExchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly path: ProjectPath;
  readonly connection: OpenConnection;
}

/**
 * What both roles share: the address is read, the exchange counted, the role asked to carry it, and
 * whatever goes wrong answered. Stands beside a web framework, not in it: `handle` and
 * `handleUpgrade` say false when the request is somebody else's.
 */
export abstract class ProxyRole {
  readonly limits: ProxyLimits;
  protected readonly forwarder: Forwarder;
  protected readonly connections: Connections;

  constructor(limits: z.input<typeof ProxyLimits> = {}) {
    this.limits = parseConfig(ProxyLimits, limits);
    this.forwarder = new Forwarder(this.limits);
    this.connections = new Connections(this.limits);
  }

  /** Takes no detour over a promise where an answer is known: that is most of what a hop costs. */
  protected abstract carry(exchange: RequestExchange): Promise<void>;
  protected abstract carryUpgrade(exchange: UpgradeExchange): Promise<void>;

  /** True when `handle` would answer this request. */
  matches(req: IncomingMessage): boolean {
    return isProjectUrl(originForm(req.url));
  }

  /** @throws PROXY_PATH_INVALID, PROXY_PORT_INVALID, PROXY_ADDRESS_UNKNOWN */
  protected locate(req: IncomingMessage): ProjectPath | ProjectPathRedirect {
    return parseProjectPath(originForm(req.url));
  }

  /** Answers a request for a project; false when it is for something else. Never rejects. */
  async handle(req: IncomingMessage, res: ServerResponse): Promise<boolean> {
    if (!this.matches(req)) return false;
    if (isBehindLast(req)) return true;
    let connection: OpenConnection | undefined;
    try {
      checkFraming(req);
      const path = this.locate(req);
      if (path.kind === 'redirect') {
        res.writeHead(308, { location: path.location, 'content-length': 0 }).end();
        return true;
      }
      connection = {
        kind: 'request',
        projectId: path.projectId,
        subject: '',
        sessionId: undefined,
        req,
        headers: req.headers,
        path,
        place: -1,
        claims: [],
        destroy: () => res.destroy(),
      };
      this.connections.enter(connection);
      await this.carry({ req, res, path, connection });
    } catch (error) {
      respondWithError(req, res, error);
    } finally {
      if (connection) this.connections.leave(connection);
    }
    return true;
  }

  /** The same for upgrades; resolves when the WebSocket is over. */
  async handleUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<boolean> {
    if (!this.matches(req)) return false;
    let connection: OpenConnection | undefined;
    // Until somebody carries it, a reset must not bring the process down.
    socket.on('error', () => socket.destroy());
    try {
      checkFraming(req);
      const path = this.locate(req);
      checkUpgrade(req);
      if (path.kind === 'redirect') {
        throw ProxyErrors.PROXY_PATH_INVALID({ reason: 'it lacks the slash after the port' });
      }
      if (!(socket instanceof Socket)) {
        throw ProxyErrors.PROXY_UPGRADE_INVALID({ reason: 'not on a network socket' });
      }
      connection = {
        kind: 'socket',
        projectId: path.projectId,
        subject: '',
        sessionId: undefined,
        req,
        headers: req.headers,
        path,
        place: -1,
        claims: [],
        destroy: () => socket.destroy(),
      };
      this.connections.enter(connection);
      await this.carryUpgrade({ req, socket, head, path, connection });
    } catch (error) {
      refuseUpgrade(req, socket, error);
    } finally {
      if (connection) this.connections.leave(connection);
    }
    return true;
  }

  /** Cuts off what is open for a project, account or session; how many it was. */
  closeConnectionsOf(filter: ConnectionFilter): number {
    return this.connections.close(filter);
  }

  counts(): { readonly requests: number; readonly sockets: number } {
    return this.connections.counts();
  }

  /** Takes nothing new, lets requests end, cuts off the rest after `deadlineMs`. */
  async drain(deadlineMs: number): Promise<void> {
    await this.connections.drain(deadlineMs);
    this.forwarder.close();
  }
}

function checkUpgrade(req: IncomingMessage): void {
  const invalid = (reason: string) => ProxyErrors.PROXY_UPGRADE_INVALID({ reason });
  if (req.method !== 'GET') throw invalid('the method is not GET');
  if (req.headers.upgrade?.toLowerCase() !== 'websocket') throw invalid('another protocol');
  if (hasBody(req)) throw invalid('it has a body');
}
