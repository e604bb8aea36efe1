import { availableParallelism, freemem, totalmem } from 'node:os';
import {
  reportPage,
  type HostCapabilities,
  type HostCapacity,
  type ProjectReport,
  type ReportSpan,
} from '@rookery/fleet/contract';
import { protectFromOom, type Clock } from '@rookery/core';
import type { ContainerDriver } from '@rookery/runner';
import type { StorageDriver } from '@rookery/storage/contract';
import type { HostCopies } from '../projects/host-copies.js';
import type { ProjectRepository } from '../projects/project.repository.js';
import type { ProjectRow } from '../database/entities/project.entity.js';
import { version } from '../version.js';

/** Sizes of projects are asked for this often at most. */
const usageEveryMs = 30_000;

/** A report says no more of an error: the rest is in the host's log. */
const errorMessageMax = 4000;
const errorDetailsMax = 8000;

type ReportedError = NonNullable<ProjectReport['error']>;

interface Usage {
  readonly bytes: number;
  readonly askedAt: number;
}

export interface ReportedPage {
  readonly projects: ProjectReport[];
  readonly span: ReportSpan;
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
    private readonly books: ProjectRepository,
    private readonly backups: HostBackups | undefined,
    private readonly copies: Pick<HostCopies, 'count'>,
    private readonly clock: Clock,
  ) {}

  async capabilities(): Promise<HostCapabilities> {
    const { snapshots, quota, sendReceive, sendProtocol, reserveBytes } = this.storage.capabilities;
    const repository = this.backups?.repository();
    const refused = protectFromOom();
    const { isolation, egress, memorySlice } = this.containers.capabilities;
    return {
      storageDriver: snapshots ? 'btrfs' : 'directory',
      quota,
      snapshots,
      sendReceive,
      sendProtocol,
      backupDrivers: this.backups ? [...this.backups.drivers] : [],
      ...(repository && { backupRepository: repository }),
      isolation,
      diskReserveBytes: reserveBytes,
      memorySlice,
      memoryProtection:
        refused === undefined ? { kind: 'oom-score' } : { kind: 'none', reason: refused },
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

  async figures() {
    return {
      version,
      capabilities: await this.capabilities(),
      capacity: await this.capacity(),
      images: await this.storage.listImages(),
      copies: await this.copies.count(),
    };
  }

  /** All projects, in pages that fit into one message each; one empty page when there are none. */
  async *reports(): AsyncGenerator<ReportedPage, void> {
    const ids = (await this.books.list()).map(({ projectId }) => projectId).sort();
    let page: ProjectReport[] = [];
    let bytes = 0;
    let after: string | undefined;
    const span = (upTo?: string) => ({ ...(after && { after }), ...(upTo && { upTo }) });
    for (const id of ids) {
      // As it is now, not as it was before the pages that went ahead.
      const row = await this.books.get(id);
      if (!row || row.generation < 0) continue;
      const report = await this.report(row);
      const reportBytes = Buffer.byteLength(JSON.stringify(report));
      if (page.length === reportPage.projectsMax || bytes + reportBytes > reportPage.bytesMax) {
        const upTo = page.at(-1)?.projectId;
        yield { projects: page, span: span(upTo) };
        [page, bytes, after] = [[], 0, upTo];
      }
      page.push(report);
      bytes += reportBytes;
    }
    yield { projects: page, span: span() };
    this.forget(ids);
  }

  /** Sizes of projects that are gone. */
  private forget(present: readonly string[]): void {
    if (this.usages.size <= present.length) return;
    const here = new Set(present);
    for (const id of this.usages.keys()) if (!here.has(id)) this.usages.delete(id);
  }

  private async report(row: ProjectRow): Promise<ProjectReport> {
    const usedBytes = await this.usage(row.projectId);
    return {
      projectId: row.projectId,
      generation: row.generation,
      state: row.state,
      ...(row.imageDigest !== null && { imageDigest: row.imageDigest }),
      ...(row.error !== null && { error: brief(row.error as ReportedError) }),
      ...(usedBytes !== undefined && { diskUsedBytes: usedBytes }),
    };
  }

  private async usage(projectId: string): Promise<number | undefined> {
    const known = this.usages.get(projectId);
    const now = this.clock.now();
    if (known && known.askedAt + usageEveryMs > now) return known.bytes;
    try {
      const { usedBytes } = await this.storage.usage(projectId, { committed: true });
      this.usages.set(projectId, { bytes: usedBytes, askedAt: now });
      return usedBytes;
    } catch {
      // No volume (yet, or any more): nothing to tell.
      this.usages.delete(projectId);
      return undefined;
    }
  }
}

/** An error that would fill a message says less. */
function brief(error: ReportedError): ReportedError {
  const { details, ...plain } = error;
  const isLong = JSON.stringify(details ?? {}).length > errorDetailsMax;
  const message = plain.message.slice(0, errorMessageMax);
  return { ...plain, message, ...(details && !isLong && { details }) };
}
