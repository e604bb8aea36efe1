import { ConfigurableModuleBuilder, Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { Clock, parseConfig, SystemClock } from '@rookery/core';
import { StorageDriver } from '@rookery/storage/contract';
import { z } from 'zod';
import { HostProjects, ImageSource, IngressGate, TransferSender } from './host.ports.js';
import { MoveDestinationService } from './move-destination.service.js';
import { MoveJournal } from './move.journal.js';
import { MoveOptions } from './move.options.js';
import { MoveSourceService } from './move-source.service.js';
import { TransferReceiver } from './transfer-receiver.js';

/** Values of the module; the ports are wired by the app as `parts`. */
export const moveModuleOptions = MoveOptions.extend({
  parts: z.strictObject({
    storage: z.instanceof(StorageDriver),
    projects: z.instanceof(HostProjects),
    sender: z.instanceof(TransferSender),
    journal: z.instanceof(MoveJournal),
    gate: z.instanceof(IngressGate),
    /** Absent: what cannot be taken from another host is not to be had. */
    images: z.instanceof(ImageSource).optional(),
    clock: z.instanceof(Clock).default(() => new SystemClock()),
  }),
}).strict();
export type MoveModuleOptions = z.input<typeof moveModuleOptions>;

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<MoveModuleOptions>().setClassMethodName('forRoot').build();

/** A host's side of moves: source, destination, and what stands behind its SSH ingress. */
@Module({
  providers: [
    {
      provide: MoveSourceService,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (input: MoveModuleOptions) => {
        const { parts, ...options } = parseConfig(moveModuleOptions, input);
        return new MoveSourceService(parts, options);
      },
    },
    {
      provide: MoveDestinationService,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (input: MoveModuleOptions) => {
        const { parts, ...options } = parseConfig(moveModuleOptions, input);
        return new MoveDestinationService(parts, options);
      },
    },
    {
      provide: TransferReceiver,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (input: MoveModuleOptions) => {
        const { parts, ...options } = parseConfig(moveModuleOptions, input);
        return new TransferReceiver(parts, options);
      },
    },
  ],
  exports: [MoveSourceService, MoveDestinationService, TransferReceiver],
})
export class MoveModule extends ConfigurableModuleClass implements OnModuleDestroy {
  constructor(
    @Inject(MoveSourceService) private readonly source: MoveSourceService,
    @Inject(MoveDestinationService) private readonly destination: MoveDestinationService,
  ) {
    super();
  }

  async onModuleDestroy(): Promise<void> {
    await Promise.all([this.source.close(), this.destination.close()]);
  }
}
