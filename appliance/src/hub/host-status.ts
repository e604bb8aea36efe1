import { availableParallelism, freemem, totalmem } from 'node:os';
import type { HostCapabilities, HostCapacity, ProjectReport } from '@rookery/conat/contract';
import type { Clock } from '@rookery/core';
import type { ContainerDriver } from '@rookery/runner';
import type { StorageDriver } from '@rookery/storage/contract';
import type { ProjectBooks } from '../books/project-books.js';
import type { ProjectRow } from '../database/entities/project.entity.js';
import { version } from '../version.js';

/** Sizes of projects are asked for this often at most. */
const usageEveryMs = 30_000;

interface Usage {
  readonly bytes: number;
  readonly askedAt: number;
}

/** The host's backups, as far as they are told. */
export interface HostBackups {
  readonly drivers: readonly string[];
  readonly repository: () => HostCapabilities['backupRepository'];
}

/** What the host tells about itself and its projects. */
export class HostStatus {
  private readonly usages = new Map<string, Usage>();

  constructor(
    private readonly storage: StorageDriver,
    private readonly containers: ContainerDriver,
    private readonly books: ProjectBooks,
    private readonly backups: HostBackups | undefined,
    private readonly clock: Clock,
  ) {}

  async capabilities(): Promise<HostCapabilities> {
    const { snapshots, quota, sendReceive, sendProtocol } = this.storage.capabilities;
    const repository = this.backups?.repository();
    const { isolation, egress } = this.containers.capabilities;
    return {
      storageDriver: snapshots ? 'btrfs' : 'directory',
      quota,
      snapshots,
      sendReceive,
      sendProtocol,
      backupDrivers: this.backups ? [...this.backups.drivers] : [],
      ...(repository && { backupRepository: repository }),
      isolation,
      ...(egress !== undefined && { egress }),
    };
  }

  async capacity(): Promise<HostCapacity> {
    const { totalBytes, freeBytes } = await this.storage.space();
    const rows = await this.books.list();
    return {
      diskBytes: totalBytes,
      diskFreeBytes: freeBytes,
      memoryBytes: totalmem(),
      memoryFreeBytes: freemem(),
      cpus: availableParallelism(),
      projectsRunning: rows.filter(({ state }) => state === 'running').length,
    };
  }

  async heartbeat() {
    const rows = await this.books.list();
    const projects: ProjectReport[] = [];
    for (const row of rows) if (row.generation >= 0) projects.push(await this.report(row));
    return {
      version,
      capabilities: await this.capabilities(),
      capacity: await this.capacity(),
      projects,
      images: await this.storage.listImages(),
    };
  }

  private async report(row: ProjectRow): Promise<ProjectReport> {
    const usedBytes = await this.usage(row.projectId);
    return {
      projectId: row.projectId,
      generation: row.generation,
      state: row.state,
      ...(row.imageDigest !== null && { imageDigest: row.imageDigest }),
      ...(row.error !== null && { error: row.error as NonNullable<ProjectReport['error']> }),
      ...(usedBytes !== undefined && { diskUsedBytes: usedBytes }),
    };
  }

  private async usage(projectId: string): Promise<number | undefined> {
    const known = this.usages.get(projectId);
    const now = this.clock.now();
    if (known && known.askedAt + usageEveryMs > now) return known.bytes;
    try {
      const { usedBytes } = await this.storage.usage(projectId);
      this.usages.set(projectId, { bytes: usedBytes, askedAt: now });
      return usedBytes;
    } catch {
      // No volume (yet, or any more): nothing to tell.
      this.usages.delete(projectId);
      return undefined;
    }
  }
}
