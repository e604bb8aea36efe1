import { join } from 'node:path';
import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import type { Logger } from '@rookery/core';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { HUB_CONFIG, type HubConfig } from '../config/config.js';
import { HUB_LOGGER, HUB_TUNING, type HubTuning } from '../config/tuning.js';
import { dataSourceOptions, openDataSource } from './data-source.js';
import { EmbeddedPostgres } from './embedded-postgres.js';

/** Postgres, the one configured or one of our own, migrated. */
@Module({
  imports: [
    TypeOrmModule.forRootAsync({
      inject: [HUB_CONFIG, HUB_TUNING, HUB_LOGGER],
      useFactory: async (config: HubConfig, tuning: HubTuning, log: Logger) => {
        const { url, server } = await databaseOf(config, tuning, log);
        const options: OwnedOptions = { ...dataSourceOptions(url), server };
        return { ...options, retryAttempts: 0 };
      },
      dataSourceFactory: async (options) => {
        if (!options) throw new TypeError('no options');
        return new OwnedDataSource(options).open();
      },
    }),
  ],
  exports: [TypeOrmModule],
})
export class DatabaseModule {}

type OwnedOptions = DataSourceOptions & { readonly server?: EmbeddedPostgres | undefined };

/** Stops the Postgres that was started for it, after its last connection is closed. */
class OwnedDataSource extends DataSource {
  private readonly server: EmbeddedPostgres | undefined;

  constructor({ server, ...options }: OwnedOptions) {
    super(options);
    this.server = server;
  }

  async open(): Promise<this> {
    try {
      await openDataSource(this);
      return this;
    } catch (error) {
      await this.server?.stop();
      throw error;
    }
  }

  override async destroy(): Promise<void> {
    await super.destroy();
    await this.server?.stop();
  }
}

async function databaseOf(
  config: HubConfig,
  tuning: HubTuning,
  log: Logger,
): Promise<{ url: string; server?: EmbeddedPostgres }> {
  if (config.databaseUrl !== undefined) return { url: config.databaseUrl };
  const dir = join(config.dataDir, 'postgres');
  const server = new EmbeddedPostgres({ dir, log, durable: tuning.durableDatabase });
  return { url: await server.start(), server };
}
