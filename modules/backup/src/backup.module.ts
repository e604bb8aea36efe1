import { ConfigurableModuleBuilder, Inject, Module, type OnModuleDestroy } from '@nestjs/common';
import { parseConfig } from '@rookery/core';
import { StorageDriver } from '@rookery/storage/contract';
import { z } from 'zod';
import { BackupDriver } from './backup.driver.js';
import { BackupJournal, BackupProjects } from './backup.ports.js';
import { BackupService } from './backup.service.js';

/** Values of the module; the ports are wired by the app as `parts`. */
export const backupOptions = z.strictObject({
  workFolder: z.string().min(1),
  /** Jobs of all projects that run at once. */
  concurrencyMax: z.int().min(1).max(100).default(2),
  /** How long a job may run. Default 12 h. */
  jobMsMax: z.number().positive().optional(),
  /** After so long the next job begins beside it. Default 10 min. */
  slotMsMax: z.number().positive().optional(),
  parts: z.strictObject({
    driver: z.instanceof(BackupDriver),
    storage: z.instanceof(StorageDriver),
    journal: z.instanceof(BackupJournal),
    projects: z.instanceof(BackupProjects),
  }),
});
export type BackupModuleOptions = z.input<typeof backupOptions>;

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<BackupModuleOptions>().setClassMethodName('forRoot').build();

@Module({
  providers: [
    {
      provide: BackupService,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (input: BackupModuleOptions) => {
        const { parts, ...options } = parseConfig(backupOptions, input);
        return new BackupService({ ...parts, ...options });
      },
    },
  ],
  exports: [BackupService],
})
export class BackupModule extends ConfigurableModuleClass implements OnModuleDestroy {
  constructor(@Inject(BackupService) private readonly backups: BackupService) {
    super();
  }

  async onModuleDestroy(): Promise<void> {
    await this.backups.close();
  }
}
