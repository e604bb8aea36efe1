import { Module } from '@nestjs/common';
import { createLogger, parseConfig, UpgradeDispatcher } from '@rookery/core';
import { Broker } from './broker/broker.js';
import {
  CONAT_OPTIONS,
  ConatOptions,
  ConfigurableModuleClass,
  MODULE_OPTIONS_TOKEN,
} from './conat.module-definition.js';
import { FabricLifecycle, fabricOf } from './fabric/fabric.lifecycle.js';
import { ConatGateway } from './gateway/conat.gateway.js';
import { TcpGate } from './gateway/tcp-gate.js';
import { Persistence } from './persistence.js';
import { PersistenceLifecycle } from './persistence.lifecycle.js';

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
        const { authenticator, limits, name, spaceRoot } = options;
        const fabric = fabricOf(options);
        const broker = new Broker({
          authenticator,
          limits,
          name,
          spaceRoot,
          fabric,
          onError: (error) => logger.error({ err: error }, 'authentication failed'),
        });
        await fabric.start();
        return broker;
      },
    },
    {
      provide: Persistence,
      inject: [Broker, CONAT_OPTIONS],
      // Before the app listens: the streams that are there hear the first client.
      useFactory: async (
        broker: Broker,
        { persistence }: ConatOptions,
      ): Promise<Persistence | null> => {
        await persistence?.start(broker);
        return persistence ?? null;
      },
    },
    PersistenceLifecycle,
    FabricLifecycle,
    ConatGateway,
    TcpGate,
  ],
  exports: [Broker, Persistence, UpgradeDispatcher, TcpGate],
})
export class ConatModule extends ConfigurableModuleClass {}
