import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger, GiB, SystemExec } from '@rookery/core';
import { PodmanDriver, RunnerModule, type RunnerModuleOptions } from '@rookery/runner';
import { baseImage, MemoryProjectStore } from '@rookery/runner/testing';
import { BtrfsStorageDriver, StorageOptions } from '@rookery/storage';
import { loopbackVolume, type TestVolume } from '@rookery/storage/testing';
import { NestFactory } from '@nestjs/core';
import { hello } from '../examples/app.js';

let folder: string;
let volume: TestVolume;
let storage: BtrfsStorageDriver;
let options: RunnerModuleOptions;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rookery-runner-'));
  volume = await loopbackVolume({ sizeBytes: 2 * GiB });
  storage = new BtrfsStorageDriver(
    new SystemExec(),
    StorageOptions.parse({ volume: volume.volume, btrfsProgram: volume.btrfsProgram }),
  );
  await storage.open();
  options = {
    podman: {
      hostKey: `example-${process.pid}`,
      stateDir: join(folder, 'state'),
      runDir: join(folder, 'run'),
      toolsDir: '/var/cache/rookery/tools',
      network: { cidr: '10.214.3.0/24' },
    },
    images: {
      stateDir: join(folder, 'images'),
      localImages: { [baseImage]: '/var/cache/rookery/images/debian-13.tar' },
    },
    parts: {
      storage,
      store: new MemoryProjectStore(),
      log: createLogger('example', 'silent'),
    },
  };
});

afterAll(async () => {
  if (options) {
    const driver = new PodmanDriver(new SystemExec(), options.podman, createLogger('x', 'silent'));
    await driver.open();
    await driver.destroy();
  }
  await storage?.close();
  await volume?.destroy();
  await rm(folder, { recursive: true, force: true });
});

describe('the runner module', () => {
  it('runs a project in the app of a few lines', async () => {
    expect(await hello(options)).toBe('hello\n');
    expect(await storage.listVolumes()).toEqual([]);
  });

  it('names everything that is wrong with its options at start', async () => {
    const wrong = {
      ...options,
      podman: { ...options.podman, hostKey: '', stateDir: 'relative' },
    };
    const start = NestFactory.createApplicationContext(RunnerModule.forRoot(wrong), {
      logger: false,
      abortOnError: false,
    });
    await expect(start).rejects.toMatchObject({
      code: 'INVALID_CONFIG',
      message: expect.stringMatching(/podman\.hostKey.*podman\.stateDir/s),
    });
  });
});
