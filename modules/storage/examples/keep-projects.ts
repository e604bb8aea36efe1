import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { GiB } from '@rookery/core';
import { StorageModule, StorageService, type StorageOptions } from '@rookery/storage';

/** A whole app that keeps projects: what an integrator writes. */
export async function keepProjects(options: StorageOptions): Promise<string[]> {
  @Module({ imports: [StorageModule.forRoot(options)] })
  class App {}

  const app = await NestFactory.createApplicationContext(App, { logger: ['error'] });
  try {
    const storage = app.get(StorageService);
    const { id } = await storage.create({ quotaBytes: 10 * GiB });
    if (storage.driver.capabilities.snapshots) await storage.snapshot(id, 'first');
    const names = (await storage.snapshots(id)).map(({ name }) => name);
    await storage.delete(id);
    return names;
  } finally {
    await app.close();
  }
}
