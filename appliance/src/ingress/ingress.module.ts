import { Module } from '@nestjs/common';
import { createLogger, SystemClock } from '@rookery/core';
import { TransferReceiver } from '@rookery/move';
import { StorageDriver } from '@rookery/storage/contract';
import { CONFIG, configFromEnvironment, type HostConfig } from '../config/config.js';
import { readIngressKey } from '../identity/identity.js';
import { openStorage } from '../storage.js';
import { RouteCache, ReadOnlyMoveJournal } from './route-cache.js';
import { IngressServers } from './ingress.servers.js';

const moveRecheckMs = 1000;

@Module({
  providers: [
    { provide: CONFIG, useFactory: () => configFromEnvironment() },
    {
      provide: RouteCache,
      inject: [CONFIG],
      useFactory: ({ paths }: HostConfig) =>
        RouteCache.open(paths.database, new AbortController().signal),
    },
    {
      provide: StorageDriver,
      inject: [CONFIG, RouteCache],
      useFactory: (config: HostConfig, books: RouteCache) =>
        openStorage(config, { create: false, identity: books.volume() }),
    },
    {
      provide: IngressServers,
      inject: [CONFIG, RouteCache, StorageDriver],
      useFactory: async (config: HostConfig, books: RouteCache, storage: StorageDriver) =>
        new IngressServers({
          config,
          books,
          hostKey: await readIngressKey(config.paths.keys),
          receiver: new TransferReceiver(
            { storage, journal: new ReadOnlyMoveJournal(books), clock: new SystemClock() },
            { recheckMs: moveRecheckMs },
          ),
          logger: createLogger('ingress', config.logLevel),
        }),
    },
  ],
})
export class IngressModule {}
