import { readFile } from 'node:fs/promises';
import type { Exec, Logger } from '@rookery/core';
import type { ProjectId } from '@rookery/core/contract';
import type { Isolation } from '../container.driver.js';
import { IdRanges, type IdRangesOptions } from './id-ranges.js';
import { probeIsolation } from './mapped-mounts.js';
import { sharedRange, type IdRange } from './runner-id.js';

export interface ContainerIdsOptions extends IdRangesOptions {
  /** On the file system that holds the projects. */
  readonly volumeDir: string;
  readonly log: Logger;
}

/** As which users of this host each project's container runs. */
export class ContainerIds {
  private readonly ranges: IdRanges;
  private found: Isolation = { kind: 'shared', reason: 'not tried yet' };

  constructor(
    private readonly exec: Exec,
    private readonly options: ContainerIdsOptions,
  ) {
    this.ranges = new IdRanges(options);
  }

  get isolation(): Isolation {
    return this.found;
  }

  async open(): Promise<void> {
    await this.ranges.open();
    this.found = await probeIsolation(this.exec, this.options.volumeDir);
    if (this.found.kind === 'idmapped') return;
    const { reason } = this.found;
    this.options.log.warn({ reason }, 'all projects of this host share one range of user ids');
  }

  /** For a container that is about to start. @throws ID_RANGES_FULL */
  async claim(projectId: ProjectId): Promise<IdRange> {
    return this.found.kind === 'idmapped' ? this.ranges.claim(projectId) : sharedRange;
  }

  release(projectId: ProjectId): Promise<void> {
    return this.ranges.release(projectId);
  }

  known(): readonly ProjectId[] {
    return this.ranges.known();
  }
}

/** The user that a process's user namespace has as root; undefined when the process has ended. */
export async function rootIdOfProcess(pid: number): Promise<number | undefined> {
  const map = await readFile(`/proc/${pid}/uid_map`, 'utf8').catch(() => '');
  const [inside, outside] = map.trim().split(/\s+/);
  return inside === '0' ? Number(outside) : undefined;
}
