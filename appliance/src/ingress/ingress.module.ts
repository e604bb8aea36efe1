import { Module } from '@nestjs/common';
import { createLogger, SystemClock } from '@rookery/core';
import { TransferReceiver } from '@rookery/move';
import { StorageDriver } from '@rookery/storage/contract';
import { CONFIG, configFromEnvironment, type HostConfig } from '../config/config.js';
import { readIngressKey } from '../identity/identity.js';
import { openStorage } from '../storage.js';
import { IngressBooks, ReadOnlyMoveJournal } from './ingress-books.js';
import { IngressServers } from './ingress.servers.js';

const moveRecheckMs = 1000;

@Module({
  providers: [
    { provide: CONFIG, useFactory: () => configFromEnvironment() },
    {
      provide: IngressBooks,
      inject: [CONFIG],
      useFactory: ({ paths }: HostConfig) =>
        IngressBooks.open(paths.database, new AbortController().signal),
    },
    {
      provide: StorageDriver,
      inject: [CONFIG, IngressBooks],
      useFactory: (config: HostConfig, books: IngressBooks) =>
        openStorage(config, { create: false, identity: books.volume() }),
    },
    {
      provide: IngressServers,
      inject: [CONFIG, IngressBooks, StorageDriver],
      useFactory: async (config: HostConfig, books: IngressBooks, storage: StorageDriver) =>
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
