import {
  ConfigurableModuleBuilder,
  Injectable,
  Module,
  type OnApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { Exec, parseConfig, SystemExec } from '@rookery/core';
import { selectStorageDriver } from './select-driver.js';
import { StorageDriver } from './storage.driver.js';
import { StorageOptions } from './storage.options.js';
import { StorageService } from './storage.service.js';

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<StorageOptions>()
    .setClassMethodName('forRoot')
    .setExtras({ global: false }, (definition, extras) => ({
      ...definition,
      global: extras.global,
    }))
    .build();

/** Opens the driver before anybody uses it, closes it when everybody is done. */
@Injectable()
class StorageLifecycle implements OnModuleInit, OnApplicationShutdown {
  constructor(private readonly driver: StorageDriver) {}

  async onModuleInit(): Promise<void> {
    await this.driver.open();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.driver.close();
  }
}

/**
 * `StorageModule.forRoot({ volume: '/srv/projects' })` provides {@link StorageDriver} and
 * {@link StorageService}. Wrong options are named at start, all at once (INVALID_CONFIG).
 */
@Module({
  providers: [
    { provide: Exec, useClass: SystemExec },
    {
      provide: StorageDriver,
      inject: [Exec, MODULE_OPTIONS_TOKEN],
      useFactory: (exec: Exec, options: StorageOptions): Promise<StorageDriver> =>
        selectStorageDriver(exec, parseConfig(StorageOptions, options)),
    },
    StorageLifecycle,
    StorageService,
  ],
  exports: [StorageDriver, StorageService],
})
export class StorageModule extends ConfigurableModuleClass {}
