import type { IncomingMessage } from 'node:http';
import { Inject, type BeforeApplicationShutdown } from '@nestjs/common';
import { WebSocketGateway, type OnGatewayConnection, type OnGatewayInit } from '@nestjs/websockets';
import type { WebSocket, WebSocketServer } from 'ws';
import { Broker } from '../broker/broker.js';
import { CONAT_OPTIONS, type ConatOptions } from '../conat.module-definition.js';
import { UpgradeDispatcher } from '@rookery/core';
import { acceptWebSocket, upgradeTo, webSocketServerOptions } from './websocket-transport.js';

/** WebSocket door of the broker. Has no message handlers: frames go to the broker as they are. */
@WebSocketGateway({ path: '/conat', dispatch: false, perMessageDeflate: false })
export class ConatGateway
  implements
    OnGatewayInit<WebSocketServer>,
    OnGatewayConnection<WebSocket>,
    BeforeApplicationShutdown
{
  constructor(
    private readonly broker: Broker,
    private readonly dispatcher: UpgradeDispatcher,
    @Inject(CONAT_OPTIONS) private readonly options: ConatOptions,
  ) {}

  afterInit(server: WebSocketServer): void {
    Object.assign(server.options, webSocketServerOptions(this.broker));
    this.dispatcher.register(this.options.path, upgradeTo(server));
  }

  handleConnection(socket: WebSocket, request: IncomingMessage): void {
    acceptWebSocket(this.broker, socket, request);
  }

  /** Before Nest terminates sockets: clients get what waits for them. */
  async beforeApplicationShutdown(): Promise<void> {
    await this.broker.drain(this.options.drainDeadlineMs);
  }
}
