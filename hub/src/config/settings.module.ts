import { Module, type DynamicModule } from '@nestjs/common';
import type { Logger } from '@rookery/core';
import { TrustedProxies } from '@rookery/proxy';
import { HUB_CONFIG, type HubConfig } from './config.js';
import { HUB_LOGGER, HUB_TUNING, type HubTuning } from './tuning.js';

export interface HubSettings {
  readonly config: HubConfig;
  readonly tuning: HubTuning;
  readonly log: Logger;
}

/** The parsed settings, for every module of the app. */
@Module({})
export class SettingsModule {
  static of(settings: HubSettings): DynamicModule {
    return {
      module: SettingsModule,
      global: true,
      providers: [
        { provide: HUB_CONFIG, useValue: settings.config },
        { provide: HUB_TUNING, useValue: settings.tuning },
        { provide: HUB_LOGGER, useValue: settings.log },
        // Who a request comes from: `clientOf(request)`, for everything that asks.
        {
          provide: TrustedProxies,
          useValue: new TrustedProxies(settings.config.trustedProxies),
        },
      ],
      exports: [HUB_CONFIG, HUB_TUNING, HUB_LOGGER, TrustedProxies],
    };
  }
}
