import { Module } from '@nestjs/common';
import { createLogger, parseConfig } from '@rookery/core';
import { Broker } from './broker/broker.js';
import {
  CONAT_OPTIONS,
  ConatOptions,
  ConfigurableModuleClass,
  MODULE_OPTIONS_TOKEN,
} from './conat.module-definition.js';
import { FabricLifecycle, fabricOf } from './fabric/fabric.lifecycle.js';
import { ConatGateway } from './gateway/conat.gateway.js';
import { TcpDoor } from './gateway/tcp-door.js';
import { JetStream } from './jetstream/jetstream.js';
import { JetStreamLifecycle, startJetStream } from './jetstream/jetstream.lifecycle.js';
import { UpgradeDispatcher } from './gateway/upgrade-dispatcher.js';

/**
 * A NATS broker at `/conat` of the app's HTTP server. The app must use {@link ConatWsAdapter}:
 * `app.useWebSocketAdapter(new ConatWsAdapter(app, app.get(UpgradeDispatcher)))`.
 */
@Module({
  providers: [
    {
      provide: CONAT_OPTIONS,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (input: unknown): ConatOptions => parseConfig(ConatOptions, input),
    },
    {
      provide: UpgradeDispatcher,
      inject: [CONAT_OPTIONS],
      useFactory: (options: ConatOptions) => options.dispatcher ?? new UpgradeDispatcher(),
    },
    {
      provide: Broker,
      inject: [CONAT_OPTIONS],
      useFactory: async (options: ConatOptions): Promise<Broker> => {
        const logger = createLogger('conat', 'warn');
        const { authenticator, limits, name } = options;
        const fabric = fabricOf(options);
        const broker = new Broker({
          ...{ authenticator, limits, name, fabric },
          onError: (error) => logger.error({ err: error }, 'authentication failed'),
        });
        await fabric.start();
        return broker;
      },
    },
    {
      provide: JetStream,
      inject: [Broker, CONAT_OPTIONS],
      useFactory: startJetStream,
    },
    JetStreamLifecycle,
    FabricLifecycle,
    ConatGateway,
    TcpDoor,
  ],
  exports: [Broker, JetStream, UpgradeDispatcher, TcpDoor],
})
export class ConatModule extends ConfigurableModuleClass {}
