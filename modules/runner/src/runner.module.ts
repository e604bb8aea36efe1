import {
  ConfigurableModuleBuilder,
  Inject,
  Module,
  type BeforeApplicationShutdown,
  type OnModuleInit,
} from '@nestjs/common';
import { createLogger, parseConfig, SystemClock, SystemExec, type Logger } from '@rookery/core';
import { StorageDriver } from '@rookery/storage/contract';
import { z } from 'zod';
import { ContainerDriver, ContainerExtras } from './container.driver.js';
import { ContainerReconciler } from './container.reconciler.js';
import { ImageStore } from './image/image.store.js';
import { VolumeImageStore } from './image/volume-image.store.js';
import { PodmanDriver } from './podman/podman.driver.js';
import { ProjectStore } from './project.store.js';
import { ImageOptions, PodmanDriverOptions } from './runner.options.js';
import { RunnerService } from './runner.service.js';

/** Values of the module; the ports are wired by the app as `parts`. */
const runnerModuleOptions = z.strictObject({
  podman: PodmanDriverOptions,
  images: ImageOptions,
  /** How often records and containers are compared; 0: only when the app asks. */
  reconcileMs: z.int().min(0).default(10_000),
  parts: z.strictObject({
    /** Opened by the app. */
    storage: z.instanceof(StorageDriver),
    store: z.instanceof(ProjectStore),
    /** Absent: podman. */
    driver: z.instanceof(ContainerDriver).optional(),
    images: z.instanceof(ImageStore).optional(),
    log: z.custom<Logger>().optional(),
    /** What else the app puts into containers. */
    extras: z.instanceof(ContainerExtras).optional(),
  }),
});
export type RunnerModuleOptions = z.input<typeof runnerModuleOptions>;
type ParsedOptions = z.output<typeof runnerModuleOptions>;

const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<RunnerModuleOptions>().setClassMethodName('forRoot').build();

const PARSED = Symbol('RUNNER_OPTIONS');

const logOf = (options: ParsedOptions): Logger => options.parts.log ?? createLogger('runner');

/** Runs a host's projects: containers, images, and the reconciler that keeps them as they should be. */
@Module({
  providers: [
    {
      provide: PARSED,
      inject: [MODULE_OPTIONS_TOKEN],
      useFactory: (options: RunnerModuleOptions) => parseConfig(runnerModuleOptions, options),
    },
    {
      provide: ContainerDriver,
      inject: [PARSED],
      useFactory: (options: ParsedOptions) =>
        options.parts.driver ?? new PodmanDriver(new SystemExec(), options.podman, logOf(options)),
    },
    {
      provide: ImageStore,
      inject: [PARSED, ContainerDriver],
      useFactory: (options: ParsedOptions, driver: ContainerDriver) => {
        if (options.parts.images) return options.parts.images;
        if (!(driver instanceof PodmanDriver)) {
          throw new TypeError('parts.images is needed with a driver other than podman');
        }
        const { storage } = options.parts;
        return new VolumeImageStore(
          new SystemExec(),
          storage,
          driver,
          options.images,
          logOf(options),
        );
      },
    },
    {
      provide: RunnerService,
      inject: [PARSED, ContainerDriver, ImageStore],
      useFactory: (options: ParsedOptions, driver: ContainerDriver, images: ImageStore) => {
        const { storage, store, extras } = options.parts;
        return new RunnerService({ driver, images, storage, store, extras, log: logOf(options) });
      },
    },
    {
      provide: ContainerReconciler,
      inject: [PARSED, ContainerDriver, RunnerService],
      useFactory: (options: ParsedOptions, driver: ContainerDriver, service: RunnerService) =>
        new ContainerReconciler({
          store: options.parts.store,
          driver,
          runtime: service.runtime,
          clock: new SystemClock(),
          log: logOf(options),
        }),
    },
  ],
  exports: [ContainerDriver, ImageStore, RunnerService, ContainerReconciler],
})
export class RunnerModule
  extends ConfigurableModuleClass
  implements OnModuleInit, BeforeApplicationShutdown
{
  private timer: NodeJS.Timeout | undefined;

  constructor(
    @Inject(PARSED) private readonly options: ParsedOptions,
    @Inject(ContainerDriver) private readonly driver: ContainerDriver,
    @Inject(ImageStore) private readonly images: ImageStore,
    @Inject(RunnerService) private readonly service: RunnerService,
    @Inject(ContainerReconciler) private readonly reconciler: ContainerReconciler,
  ) {
    super();
  }

  /** Then the app takes calls; containers are adopted or started again meanwhile. */
  async onModuleInit(): Promise<void> {
    await this.driver.open();
    await this.images.open();
    await this.reconciler.sweep();
    const { reconcileMs } = this.options;
    if (reconcileMs === 0) return;
    void this.reconcile();
    this.timer = setInterval(() => void this.reconcile(), reconcileMs);
  }

  /** Containers go on running. */
  async beforeApplicationShutdown(): Promise<void> {
    clearInterval(this.timer);
    this.service.runtime.close();
    await this.driver.close();
  }

  private async reconcile(): Promise<void> {
    await this.reconciler.run().catch((error: unknown) => {
      logOf(this.options).error({ err: error }, 'reconciling failed');
    });
  }
}
