import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger, SystemExec, type Exec } from '@rookery/core';
import type { StorageDriver } from '@rookery/storage/contract';
import { VolumeImageStore } from '../image/volume-image.store.js';
import { PodmanDriver } from '../podman/podman.driver.js';
import type { ImageOptions, PodmanDriverOptions } from '../runner.options.js';

/** Where the entry script keeps what `images/` builds. */
const cache = '/var/cache/rookery';
export const baseImage = 'localhost/rookery/debian:13';

export interface TestHost extends AsyncDisposable {
  readonly driver: PodmanDriver;
  readonly images: VolumeImageStore;
  readonly folder: string;
  /** A second driver on the same host, as after a restart of its process. */
  reopened(): Promise<PodmanDriver>;
  /** Removes containers, rules, mounts and folders. Repeating does no harm. */
  destroy(): Promise<void>;
}

export interface TestHostOptions {
  readonly storage: StorageDriver;
  /** A range that no other test on the machine uses: `10.214.<n>.0/24`. */
  readonly cidr: string;
  readonly exec?: Exec;
  readonly driver?: Partial<PodmanDriverOptions>;
  readonly images?: Partial<ImageOptions>;
}

let hosts = 0;

/**
 * A podman host of one's own over an opened storage driver. Needs root, podman, and what
 * `images/rootfs/build.sh` and `images/tools/build.sh` make.
 */
export async function testHost(options: TestHostOptions): Promise<TestHost> {
  const exec = options.exec ?? new SystemExec();
  const archive = join(cache, 'images/debian-13.tar');
  await access(archive);
  const folder = await mkdtemp(join(tmpdir(), 'rookery-host-'));
  hosts += 1;
  const driverOptions: PodmanDriverOptions = {
    hostKey: `test-${process.pid}-${hosts}`,
    stateDir: join(folder, 'state'),
    runDir: join(folder, 'run'),
    toolsDir: join(cache, 'tools'),
    network: { cidr: options.cidr },
    ...options.driver,
  };
  const log = createLogger('test-host', 'silent');
  const driver = new PodmanDriver(exec, driverOptions, log);
  const destroy = async (): Promise<void> => {
    await driver.destroy();
    await rm(folder, { recursive: true, force: true });
  };
  await driver.open();
  const images = new VolumeImageStore(
    exec,
    options.storage,
    driver,
    {
      stateDir: join(folder, 'images'),
      localImages: { [baseImage]: archive },
      ...options.images,
    },
    log,
  );
  await images.open();
  const reopened = async (): Promise<PodmanDriver> => {
    const again = new PodmanDriver(exec, driverOptions, log);
    await again.open();
    return again;
  };
  return { driver, images, folder, reopened, destroy, [Symbol.asyncDispose]: destroy };
}
