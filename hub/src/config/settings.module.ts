import { Module, type DynamicModule, type ValueProvider } from '@nestjs/common';
import type { Logger } from '@rookery/core';
import { ProjectOrigins, TrustedProxies } from '@rookery/proxy';
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
    const origins = originsOf(settings.config);
    return {
      module: SettingsModule,
      global: true,
      providers: [
        { provide: HUB_CONFIG, useValue: settings.config },
        { provide: HUB_TUNING, useValue: settings.tuning },
        { provide: HUB_LOGGER, useValue: settings.log },
        ...origins,
        // Who a request comes from: `clientOf(request)`, for everything that asks.
        {
          provide: TrustedProxies,
          useValue: new TrustedProxies(settings.config.trustedProxies),
        },
      ],
      exports: [HUB_CONFIG, HUB_TUNING, HUB_LOGGER, TrustedProxies, ...origins],
    };
  }
}

/** Where browsers see projects, if they do. */
const originsOf = ({ appsUrl, publicUrl }: HubConfig): ValueProvider[] =>
  appsUrl === undefined
    ? []
    : [{ provide: ProjectOrigins, useValue: new ProjectOrigins(appsUrl, publicUrl) }];
