import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MiB, newId } from '@rookery/core';
import type { TestKit } from '@rookery/core/testing';
import type { StorageDesired, StorageDriver } from '../../storage.driver.js';

export interface ConformanceOptions {
  /** A fresh driver on an empty volume, not opened; `reconcileGraceMs` 0. */
  readonly make: () => Promise<{ driver: StorageDriver; dispose: () => Promise<void> }>;
  /** False: writes beyond the quota are counted but not stopped. */
  readonly enforcesQuota?: boolean;
  /** The driver's limit of snapshots a project. */
  readonly snapshotsMax: number;
}

export const quotaBytes = 64 * MiB;
export const nothing: StorageDesired = { projects: [], moves: [], frozen: [], retired: [] };

/** What the parts of the suite share: one driver, opened, and helpers that work on its files. */
export class ConformanceSuite {
  private opened: { driver: StorageDriver; dispose: () => Promise<void> } | undefined;

  constructor(
    readonly jest: TestKit,
    readonly options: ConformanceOptions,
  ) {}

  async open(): Promise<void> {
    this.opened = await this.options.make();
    await this.opened.driver.open();
  }

  async close(): Promise<void> {
    await this.opened?.driver.close();
    await this.opened?.dispose();
  }

  get driver(): StorageDriver {
    if (!this.opened) throw new Error('the driver is not open');
    return this.opened.driver;
  }

  readonly coded = (code: string): unknown => this.jest.expect.objectContaining({ code });

  /** A new project. */
  readonly make = async (): Promise<string> => {
    const id = newId();
    await this.driver.createVolume(id, { quotaBytes });
    return id;
  };

  /** Writes a file of a project's home. */
  readonly put = async (id: string, file: string, content: string | Buffer): Promise<void> => {
    const volume = await this.driver.volume(id);
    if (!volume) throw new Error(`no volume ${id}`);
    await mkdir(join(volume.paths.home, file, '..'), { recursive: true });
    await writeFile(join(volume.paths.home, file), content);
  };

  readonly get = async (id: string, file: string): Promise<string | undefined> => {
    const volume = await this.driver.volume(id);
    return volume && readFile(join(volume.paths.home, file), 'utf8').catch(() => undefined);
  };
}
