import { Injectable } from '@nestjs/common';
import type { ProjectId } from '@rookery/core/contract';
import { newId } from '@rookery/core';
import { StorageDriver, type Snapshot, type VolumePaths } from './storage.driver.js';
import { StorageErrors } from './storage.errors.js';

/** A project's files as an integrator sees them. */
export interface StoredProject {
  readonly id: ProjectId;
  readonly paths: VolumePaths;
}

/** The short way in for integrators; what it lacks, the injected {@link StorageDriver} has. */
@Injectable()
export class StorageService {
  constructor(readonly driver: StorageDriver) {}

  /** @param options.quotaBytes over live files, snapshots and persistence together */
  async create(options: { quotaBytes: number; id?: ProjectId }): Promise<StoredProject> {
    const id = options.id ?? newId();
    const { paths } = await this.driver.createVolume(id, { quotaBytes: options.quotaBytes });
    return { id, paths };
  }

  /** @throws VOLUME_NOT_FOUND */
  async get(id: ProjectId): Promise<StoredProject> {
    const volume = await this.driver.volume(id);
    if (!volume) throw StorageErrors.VOLUME_NOT_FOUND({ projectId: id });
    return { id, paths: volume.paths };
  }

  async list(): Promise<StoredProject[]> {
    const volumes = await this.driver.listVolumes();
    return volumes.map(({ projectId, paths }) => ({ id: projectId, paths }));
  }

  /** Another project with the same files, charged for all of them. */
  async clone(
    from: ProjectId,
    options: { quotaBytes: number; snapshot?: string; id?: ProjectId; signal?: AbortSignal },
  ): Promise<StoredProject> {
    const { id = newId(), snapshot, quotaBytes, signal } = options;
    const origin = { projectId: from, ...(snapshot !== undefined && { snapshot }) };
    const { paths } = await this.driver.cloneVolume(origin, id, {
      quotaBytes,
      ...(signal && { signal }),
    });
    return { id, paths };
  }

  delete(id: ProjectId): Promise<void> {
    return this.driver.deleteVolume(id);
  }

  usage(
    id: ProjectId,
    options?: { committed?: boolean },
  ): Promise<{ usedBytes: number; limitBytes?: number }> {
    return this.driver.usage(id, options);
  }

  /** @throws QUOTA_BELOW_USE */
  setQuota(id: ProjectId, quotaBytes: number): Promise<void> {
    return this.driver.setQuota(id, quotaBytes);
  }

  snapshot(id: ProjectId, name: string): Promise<Snapshot> {
    return this.driver.createSnapshot(id, name);
  }

  snapshots(id: ProjectId): Promise<Snapshot[]> {
    return this.driver.listSnapshots(id);
  }

  /** The whole project, which must not run; or one path of its home. */
  async restore(id: ProjectId, name: string, path?: string): Promise<{ previous?: string }> {
    if (path === undefined) return this.driver.restoreSnapshot(id, name);
    await this.driver.restoreSnapshotPath(id, name, path);
    return {};
  }
}
