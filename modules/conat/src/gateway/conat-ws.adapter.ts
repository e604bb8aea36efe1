import type { Server } from 'node:http';
import type { INestApplicationContext } from '@nestjs/common';
import { WsAdapter } from '@nestjs/platform-ws';
import { WebSocketServer, type ServerOptions } from 'ws';
import type { UpgradeDispatcher } from '@rookery/core';
import { upgradeTo } from './websocket-transport.js';

interface GatewayOptions extends ServerOptions {
  readonly path?: string;
  /** False: the gateway registers its path with the dispatcher itself. */
  readonly dispatch?: boolean;
}

/**
 * Nest's adapter for `ws`, sharing the HTTP server's upgrades through one dispatcher. Nest's own
 * destroys every upgrade whose path it does not know, and parses each frame of each socket as JSON
 * even when a gateway has no message handlers.
 */
export class ConatWsAdapter extends WsAdapter {
  constructor(
    app: INestApplicationContext,
    private readonly dispatcher: UpgradeDispatcher,
  ) {
    super(app);
  }

  override create(port: number, options: GatewayOptions = {}): WebSocketServer {
    const { path, dispatch, ...serverOptions } = options;
    if (port !== 0)
      return super.create(port, options as Record<string, unknown>) as WebSocketServer;
    this.dispatcher.attach(this.httpServer as Server);
    const server = new WebSocketServer({ ...serverOptions, noServer: true });
    this.bindErrorHandler(server);
    if (dispatch !== false) {
      const normalized = `/${(path ?? '').replace(/^\/+|\/+$/g, '')}`;
      this.dispatcher.register(normalized, upgradeTo(server));
    }
    return server;
  }

  override bindMessageHandlers(...args: Parameters<WsAdapter['bindMessageHandlers']>): void {
    if (args[1].length > 0) super.bindMessageHandlers(...args);
  }
}
